# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One refresh of a snapshot: read a source, build, hold it against the guard, compare it with the old one, write it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.allocations import Allocations, Ranges
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    ObjectError,
    OptionError,
    SnapshotError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot import (
    Differences,
    Snapshot,
    build,
    differences,
    dump,
    guard,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.values import LABEL

from . import completion, connection, lists, manifests, stored
from .selection import Selection, chosen

MAX_NAMES = 100
MAX_WARNINGS = 200
MAX_REFUSED = 1000
_NOTHING = Snapshot((), {"services": 0, "ready_endpoints": 0}, "")


class Options(NamedTuple):
    """The options of the module cluster_snapshot; ``check``: write nothing but a scratch file."""

    source: str
    dest: str
    auth: connection.Options
    manifests: Sequence[str]
    path: str | None
    select: str | None
    namespaces: Sequence[str]
    pods: bool
    page_size: int
    max_removed_percent: int
    check: bool
    cluster_ip_ranges: Sequence[str] = ()
    node_port_range: str = ""


class _Read(NamedTuple):
    """What a source gave; ``read``: when, in seconds since 1970; ``allocations``: what manifests were given."""

    objects: Iterable[Mapping[str, Any]]
    details: dict[str, Any]
    resource_versions: dict[str, str]
    read: float
    allocations: Allocations | None = None
    warnings: Sequence[str] = ()
    refused: Sequence[ObjectError] = ()


def refresh(options: Options) -> dict[str, Any]:
    """Does it and returns the result of the module, with ``warnings`` and ``diff``; raises ``ServicenetError``.

    Whatever fails, the old snapshot stays as it is.
    """
    _check(options)
    refused: list[ObjectError] = []
    warnings: list[str] = []
    new, source = _build(options, refused)
    refused.extend(new.refused)
    # What the completion of manifests refuses is mostly refused here as well; once is enough.
    named = {(wrong.kind, wrong.key) for wrong in new.refused}
    refused.extend(wrong for wrong in source.refused if (wrong.kind, wrong.key) not in named)
    warnings.extend(source.warnings)
    old = _old(options.dest, warnings)
    if old is not None:
        guard(old, new, options.max_removed_percent)
    elif options.source == "manifests" and not new.lines:
        raise SnapshotError("The manifests have no object that a snapshot is made of: no Service, Node or Namespace.")
    if options.source == "cluster":
        warnings.extend(_missing(options.namespaces, new))
    warnings.extend(f"Left out: {wrong}." for wrong in refused[:MAX_WARNINGS])
    if len(refused) > MAX_WARNINGS:
        warnings.append(f"Left out as well: {len(refused) - MAX_WARNINGS} more objects.")
    changed = old is None or old.digest != new.digest
    path = _write(options, new, source, changed)
    found = differences(old or _NOTHING, new)
    return {
        "changed": changed,
        "path": path,
        "scratch": path != options.dest,
        "digest": new.digest,
        "counts": new.counts,
        "services": {what: _capped(getattr(found, what)) for what in ("added", "removed", "changed")},
        "refused": [{"kind": w.kind, "name": w.key, "reason": w.reason} for w in refused[:MAX_REFUSED]],
        "refused_total": len(refused),
        "source": source.details,
        "resource_versions": source.resource_versions,
        "age": max(0, int(time.time() - source.read)),
        "warnings": warnings,
        "diff": {"prepared": _diff(found)},
    }


def _check(options: Options) -> None:
    """Raises ``OptionError`` for a value that no source can make sense of."""
    for name, value, low, high in (
        ("page_size", options.page_size, 1, 100_000),
        ("max_removed_percent", options.max_removed_percent, 0, 100),
        ("timeout", int(options.auth.timeout), 1, 3600),
    ):
        if not low <= value <= high:
            raise OptionError(f"{name} must be from {low} to {high}, not {value}.")
    for namespace in options.namespaces:
        if not LABEL.match(namespace):
            raise OptionError(f"namespaces has {namespace!r}, which is not the name of a namespace.")
    if options.source == "manifests" and not options.manifests:
        raise OptionError("manifests must name a file or a directory if source is manifests.")


def _build(options: Options, refused: list[ObjectError]) -> tuple[Snapshot, _Read]:
    # Before anything is read: a wrong expression must not cost a look at the cluster.
    selection = Selection(options.select) if options.select else None
    readers = {"cluster": _from_cluster, "manifests": _from_manifests, "file": _from_file}
    source = readers[options.source](options, refused)
    return build(chosen(source.objects, options.namespaces, selection, options.pods, refused)), source


def _from_cluster(options: Options, refused: list[ObjectError]) -> _Read:
    client = connection.connect(options.auth)
    read = time.time()
    found = lists.read_cluster(client, options.namespaces, options.pods, options.page_size)
    return _Read(
        (raw for listed in found for raw in lists.objects_of(listed, client.server, refused)),
        {"type": "cluster", "server": client.server},
        {listed.name: listed.resource_version for listed in found},
        read,
    )


def _from_manifests(options: Options, refused: list[ObjectError]) -> _Read:
    files = manifests.find_files(options.manifests)
    details = {"type": "manifests", "manifests": list(options.manifests), "files": len(files)}
    ranges = Ranges(options.cluster_ip_ranges, options.node_port_range)
    done = completion.complete_manifests(manifests.read_manifests(files, refused), options.dest, ranges)
    return _Read(done.objects, details, {}, time.time(), done.allocations, done.warnings, done.refused)


def _from_file(options: Options, _refused: list[ObjectError]) -> _Read:
    path = options.path or options.dest
    snapshot = stored.load_file(path)
    return _Read(stored.objects_of(snapshot, path), {"type": "file", "path": path}, {}, stored.read_time(path))


def _old(dest: str, warnings: list[str]) -> Snapshot | None:
    """The snapshot that is there; one that is damaged counts as none, so that it is replaced."""
    if not os.path.exists(dest):
        return None
    try:
        return stored.load_file(dest)
    except SnapshotError as wrong:
        warnings.append(f"The old snapshot can't be compared with the new one and is replaced. {wrong}")
        return None


def _write(options: Options, new: Snapshot, source: _Read, changed: bool) -> str:
    """Writes what has to be written and returns the path of a file that holds the new snapshot."""
    if options.check:
        return stored.write_scratch(dump(new)) if changed else options.dest
    if source.allocations is not None:
        # First: what is chosen must not be chosen otherwise after a power cut.
        completion.save_allocations(options.dest, source.allocations)
    if changed:
        stored.write_file(options.dest, dump(new))
    if source.details.get("path") != options.dest:
        # When the cluster was last seen is of use even if it has not changed since; the snapshot stays the same.
        note = {
            "source": source.details,
            "read": source.read,
            "digest": new.digest,
            "resource_versions": source.resource_versions,
        }
        stored.write_note(options.dest, note)
    return options.dest


def _missing(namespaces: Iterable[str], new: Snapshot) -> list[str]:
    present = set(new.of_kind("Namespace"))
    return [f"There is no namespace {name}, which namespaces names." for name in namespaces if name not in present]


def _capped(names: Sequence[str]) -> dict[str, Any]:
    return {"total": len(names), "names": list(names[:MAX_NAMES])}


def _diff(found: Differences) -> str:
    """One line a Service: + added, - removed, ~ changed."""
    signs = (("-", found.removed), ("+", found.added), ("~", found.changed))
    rows = [f"{sign} {name}" for sign, names in signs for name in names]
    if found.others:
        rows.append("~ Nodes, Namespaces, ServiceCIDRs or Pods")
    return "".join(f"{row}\n" for row in rows)

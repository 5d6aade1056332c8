# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One refresh of a snapshot: read a source, build, hold it against the guard, compare it with the old one, write it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import versions
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.allocations import Allocations, Ranges
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    ObjectError,
    OptionError,
    SnapshotError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot import (
    Differences,
    Snapshot,
    differences,
    dump,
    guard,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.values import LABEL

from . import cluster_source, completion, connection, manifests, relevance, stored
from .selection import Selection, chosen

MAX_NAMES = 100
MAX_WARNINGS = 200
MAX_REFUSED = 1000
KEEP = "keep"
_NOTHING = Snapshot((), {"services": 0, "ready_endpoints": 0}, "")


class Options(NamedTuple):
    """The options of the module cluster_snapshot; ``check``: write nothing but a scratch file. ``on_unreachable``: KEEP
    or fail."""

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
    on_unreachable: str = "fail"
    max_age_seconds: int = 0
    inventory: Sequence[Mapping[str, Any]] | None = None


class _Read(NamedTuple):
    """What a source gave; ``objects`` None: the old snapshot stands. ``read``: when, in seconds since 1970;
    ``allocations``: what manifests were given; ``cluster``: how a cluster was read."""

    objects: Iterable[Mapping[str, Any]] | None
    details: dict[str, Any]
    resource_versions: dict[str, str]
    read: float
    allocations: Allocations | None = None
    warnings: Sequence[str] = ()
    refused: Sequence[ObjectError] = ()
    cluster: cluster_source.Found | None = None


def refresh(options: Options) -> dict[str, Any]:
    """Does it and returns the result of the module, with ``warnings`` and ``diff``; raises ``ServicenetError``.

    Whatever fails, the old snapshot stays as it is.
    """
    _check(options)
    refused: list[ObjectError] = []
    warnings: list[str] = []
    old = _old(options.dest, warnings)
    new, source = _build(options, old, refused)
    refused.extend(new.refused)
    # What the completion of manifests refuses is mostly refused here as well; once is enough.
    named = {(wrong.kind, wrong.key) for wrong in new.refused}
    refused.extend(wrong for wrong in source.refused if (wrong.kind, wrong.key) not in named)
    warnings.extend(source.warnings)
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
    path = _write(options, new, source, changed, refused)
    age = max(0, int(time.time() - source.read))
    by = source.cluster.by if source.cluster is not None else ""
    reason = source.cluster.reason if source.cluster is not None else ""
    too_old = 0 < options.max_age_seconds < age
    if by == cluster_source.KEPT:
        warnings.insert(0, f"{reason} The snapshot of {_ago(age)} ago is used on.")
    if too_old:
        warnings.append(
            f"The snapshot is {_ago(age)} old, and max_age_seconds allows {_ago(options.max_age_seconds)}: endpoints"
            " that came or went since then are not known."
        )
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
        "age": age,
        "too_old": too_old,
        "read_by": by,
        "outage": reason,
        "warnings": warnings,
        "diff": {"prepared": _diff(found)},
    }


def _check(options: Options) -> None:
    """Raises ``OptionError`` for a value that no source can make sense of."""
    for name, value, low, high in (
        ("page_size", options.page_size, 1, 100_000),
        ("max_removed_percent", options.max_removed_percent, 0, 100),
        ("max_age_seconds", options.max_age_seconds, 0, 10**9),
    ):
        if not low <= value <= high:
            raise OptionError(f"{name} must be from {low} to {high}, not {value}.")
    connection.check_timeout(options.auth)
    for namespace in options.namespaces:
        if not LABEL.match(namespace):
            raise OptionError(f"namespaces has {namespace!r}, which is not the name of a namespace.")
    if options.source == "manifests" and not options.manifests:
        raise OptionError("manifests must name a file or a directory if source is manifests.")


def _build(options: Options, old: Snapshot | None, refused: list[ObjectError]) -> tuple[Snapshot, _Read]:
    # Before anything is read: a wrong expression must not cost a look at the cluster.
    selection = Selection(options.select) if options.select else None

    def choose(objects: Iterable[Mapping[str, Any]], into: list[ObjectError]) -> Iterator[Mapping[str, Any]]:
        return chosen(objects, options.namespaces, selection, options.pods, into)

    if options.source == "cluster":
        source = _from_cluster(options, old, choose, refused)
    else:
        source = (_from_manifests if options.source == "manifests" else _from_file)(options, refused)
    if source.objects is None and old is not None:
        return old, source
    return build_snapshot(choose(source.objects or (), refused)), source


def _from_cluster(
    options: Options, old: Snapshot | None, choose: relevance.Choose, refused: list[ObjectError]
) -> _Read:
    keep = options.on_unreachable == KEEP
    found = cluster_source.find(
        cluster_source.Wanted(
            options.auth,
            options.dest,
            options.namespaces,
            options.pods,
            options.page_size,
            choose,
            _asked(options),
            old,
            keep,
        ),
        refused,
    )
    details = cluster_source.details_of(found)
    return _Read(found.objects, details, found.versions, found.read, refused=found.refused, cluster=found)


def _asked(options: Options) -> dict[str, Any]:
    """What decides which objects get into a snapshot, besides the server."""
    return {
        "namespaces": list(options.namespaces),
        "pods": options.pods,
        "select": options.select or "",
        "version": versions.SNAPSHOT,
    }


def _from_manifests(options: Options, refused: list[ObjectError]) -> _Read:
    files = manifests.find_files(options.manifests)
    details = {"type": "manifests", "manifests": list(options.manifests), "files": len(files)}
    ranges = Ranges(options.cluster_ip_ranges, options.node_port_range)
    read = manifests.read_manifests(files, refused)
    done = completion.complete_manifests(read, options.dest, ranges, options.inventory or ())
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


def _write(options: Options, new: Snapshot, source: _Read, changed: bool, refused: Sequence[ObjectError]) -> str:
    """Writes what has to be written and returns the path of a file that holds the new snapshot."""
    if options.check:
        return stored.write_scratch(dump(new)) if changed else options.dest
    if source.allocations is not None:
        # First: what is chosen must not be chosen otherwise after a power cut.
        completion.save_allocations(options.dest, source.allocations)
    if changed:
        stored.write_file(options.dest, dump(new))
    # When the cluster was last seen is of use even if it has not changed since; the snapshot stays the same.
    if source.cluster is not None and source.cluster.by != cluster_source.KEPT:
        # Too many to be told from the note next time: then the lists are read again.
        asked = _asked(options) if len(refused) <= MAX_REFUSED else {}
        note = cluster_source.note_of(source.cluster, new.digest, asked, refused[:MAX_REFUSED])
        stored.write_note(options.dest, note)
    elif source.cluster is None and source.details.get("path") != options.dest:
        note = {"source": source.details, "read": source.read, "digest": new.digest, "resource_versions": {}}
        stored.write_note(options.dest, note)
    return options.dest


def _missing(namespaces: Iterable[str], new: Snapshot) -> list[str]:
    present = set(new.of_kind("Namespace"))
    return [f"There is no namespace {name}, which namespaces names." for name in namespaces if name not in present]


def _ago(seconds: int) -> str:
    """A length of time for people."""
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}"
    return f"{seconds} seconds"


def _capped(names: Sequence[str]) -> dict[str, Any]:
    return {"total": len(names), "names": list(names[:MAX_NAMES])}


def _diff(found: Differences) -> str:
    """One line a Service: + added, - removed, ~ changed."""
    signs = (("-", found.removed), ("+", found.added), ("~", found.changed))
    rows = [f"{sign} {name}" for sign, names in signs for name in names]
    if found.others:
        rows.append("~ Nodes, Namespaces, ServiceCIDRs or Pods")
    return "".join(f"{row}\n" for row in rows)

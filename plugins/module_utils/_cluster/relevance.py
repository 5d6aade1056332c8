# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether events of a watch change a snapshot, which has less in it than the objects: most of them do not.

A Node reports every few minutes that it is alive, a Service gets another annotation, an Endpoints object follows the
EndpointSlices. Where there is any doubt an event counts, for then the lists are read.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.model import SERVICE_NAME_LABEL
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot import Snapshot, service_head
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

from . import stored
from .watches import Event


class Choose(Protocol):
    """Which of some objects get into a snapshot: see selection.chosen."""

    def __call__(
        self, objects: Iterable[Mapping[str, Any]], refused: list[ObjectError], /
    ) -> Iterator[Mapping[str, Any]]:
        """What can't be judged is appended to ``refused``."""


_OF_SERVICES = ("Service", "EndpointSlice", "Endpoints")


def changes_anything(events: Iterable[Event], old: Snapshot, choose: Choose) -> bool:
    """Would reading the lists give another snapshot than this one, or name a broken object?"""
    last: dict[tuple[str, str, str], Event] = {}
    for event in events:
        metadata = event.raw.get("metadata")
        if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
            return True
        last[event.raw["kind"], str(metadata.get("namespace", "")), metadata["name"]] = event
    known = frozenset(old.lines)
    return any(_changes(name, event, old, known, choose) for (_kind, _ns, name), event in last.items())


def _changes(name: str, event: Event, old: Snapshot, known: frozenset[bytes], choose: Choose) -> bool:
    raw = event.raw
    if raw["kind"] in _OF_SERVICES:
        return _changes_services(name, event, old, choose)
    made = _made([raw], choose)
    if event.deleted:
        # The line may differ from what is there, but not in how it begins.
        heads = [line[: line.index(b'"name":') + len(f'"name":"{name}"')] for line in made.lines]
        return bool(made.refused) or any(line.startswith(head) for line in old.lines for head in heads)
    return bool(made.refused) or not known.issuperset(made.lines)


def _changes_services(name: str, event: Event, old: Snapshot, choose: Choose) -> bool:
    raw = event.raw
    namespace = str(raw["metadata"].get("namespace") or "default")
    owner = name
    if raw["kind"] == "EndpointSlice":
        labels = raw["metadata"].get("labels")
        owner = str(labels.get(SERVICE_NAME_LABEL, "")) if isinstance(labels, Mapping) else ""
        if _was_anothers(name, namespace, owner, old):
            return True
        if not owner:
            return False
    line = _service_line(old, f"{namespace}/{owner}")
    objects = [dict(one) for one in stored.objects_of_lines([line] if line else [], "the old snapshot")]
    if raw["kind"] == "Endpoints":
        # Those that were made of it, where there are no others.
        mirrored = re.compile(rf"{re.escape(name)}-\d+-ipv[46]")
        objects = [one for one in objects if not mirrored.fullmatch(str(one["metadata"]["name"]))]
    else:
        objects = [one for one in objects if (one["kind"], one["metadata"]["name"]) != (raw["kind"], name)]
    made = _made(objects if event.deleted else [*objects, raw], choose)
    return bool(made.refused) or made.lines != ((line,) if line else ())


def _made(objects: Iterable[Mapping[str, Any]], choose: Choose) -> Snapshot:
    refused: list[ObjectError] = []
    made = build_snapshot(choose(objects, refused))
    return made._replace(refused=(*made.refused, *refused))


def _was_anothers(name: str, namespace: str, owner: str, old: Snapshot) -> bool:
    """Is a slice of that name in the line of another Service? Then its label was changed."""
    piece, head = f'"name":"{name}"'.encode(), service_head(f"{namespace}/")[:-1]
    found = [line for line in old.lines if piece in line and line.startswith(head)]
    return any(not line.startswith(service_head(f"{namespace}/{owner}")) for line in found)


def _service_line(old: Snapshot, name: str) -> bytes | None:
    head = service_head(name)
    index = bisect_left(old.lines, head)
    return old.lines[index] if index < len(old.lines) and old.lines[index].startswith(head) else None

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints into EndpointSlices of limited size, with as few changed slices as possible.

Slices are filled and updated, never rebalanced: what already stands in a slice stays in it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from itertools import islice
from typing import Mapping, NamedTuple, Sequence

from .endpoint_objects import Object
from .endpoint_pods import Group, Identity, PortsKey, identity, ports_key


class DraftSlice:
    """A slice on its way to its final form.

    :param current: the object as it is, None for a new slice.
    :param family: its addressType.
    :param ports: what the slice shall have.
    :param endpoints: what the slice shall have; an endpoint that did not change is still the object of `current`.
    :param changed: whether it is written anyway; hints leave other slices alone where they can.
    :param emptied: whether it has lost all the endpoints that it had.
    """

    def __init__(
        self,
        current: Object | None,
        family: str,
        ports: list[Object],
        endpoints: list[Object],
        changed: bool,
        emptied: bool = False,
    ) -> None:
        self.current = current
        self.family = family
        self.ports = ports
        self.endpoints = endpoints
        self.changed = changed
        self.emptied = emptied


class Slicing(NamedTuple):
    """The slices of a Service and family that shall be, and those that go."""

    kept: list[DraftSlice]
    deleted: list[Object]


def same_but_hints(wanted: Object, found: Object) -> bool:
    """Whether two endpoints are equal apart from their hints and the version of their target."""
    ours = {name: value for name, value in wanted.items() if name not in ("hints", "targetRef")}
    theirs = {name: value for name, value in found.items() if name not in ("hints", "targetRef")}
    if ours != theirs:
        return False
    target = {name: value for name, value in (found.get("targetRef") or {}).items() if name != "resourceVersion"}
    return (wanted.get("targetRef") or {}) == target


def _keep(item: Object, wanted: dict[Identity, Object], relabelled: bool) -> DraftSlice:
    """The part of an existing slice that is still wanted; takes what it places out of `wanted`."""
    kept, changed = [], relabelled
    before = item.get("endpoints") or []
    for found in before:
        endpoint = wanted.pop(identity(found), None)
        if endpoint is None:
            continue
        if same_but_hints(endpoint, found):
            kept.append(found)
        else:
            kept.append(endpoint)
            changed = True
    changed = changed or len(kept) != len(before)
    return DraftSlice(item, item["addressType"], item.get("ports") or [], kept, changed, bool(before) and not kept)


def _move(wanted: dict[Identity, Object], draft: DraftSlice, limit: int) -> None:
    """Fill a slice up to its limit."""
    for each in list(islice(wanted, max(0, limit - len(draft.endpoints)))):
        draft.endpoints.append(wanted.pop(each))
        draft.changed = True


def _with_room(drafts: Sequence[DraftSlice], number: int, limit: int) -> DraftSlice | None:
    """The slice that is fullest once `number` endpoints are added, None if they fit into none."""
    fitting = [draft for draft in drafts if len(draft.endpoints) + number <= limit]
    return max(fitting, key=lambda draft: len(draft.endpoints)) if fitting else None


def _pack(
    existing: Sequence[Object], family: str, group: Group, relabelled: Mapping[str, bool], limit: int
) -> list[DraftSlice]:
    """The slices of one group of ports; those left without endpoints are in the list as well."""
    wanted = dict(group.endpoints)
    drafts = [_keep(item, wanted, relabelled[item["metadata"]["name"]]) for item in existing]
    filled = [draft for draft in drafts if draft.changed and not draft.emptied]
    for draft in sorted(filled, key=lambda each: -len(each.endpoints)):
        _move(wanted, draft, limit)
    while wanted:
        unchanged = [draft for draft in drafts if not draft.changed]
        room = _with_room(unchanged, len(wanted), limit) if len(wanted) < limit else None
        if room is None:
            room = DraftSlice(None, family, group.ports, [], True)
            drafts.append(room)
        _move(wanted, room, limit)
    return drafts


def pack(
    existing: Sequence[Object],
    family: str,
    groups: Mapping[PortsKey, Group],
    relabelled: Mapping[str, bool],
    limit: int,
    placeholder: bool,
) -> Slicing:
    """Distribute the endpoints of one Service and family over its slices.

    :param existing: the slices of this Service and family, all its own.
    :param relabelled: by name, whether an existing slice is written anyway.
    :param limit: endpoints a slice.
    :param placeholder: whether a Service without any slice gets an empty one.
    """
    ordered = sorted(existing, key=lambda item: str(item["metadata"]["name"]))
    by_key: dict[PortsKey, list[Object]] = {}
    for item in ordered:
        by_key.setdefault(ports_key(item.get("ports") or ()), []).append(item)
    drafts, deleted = [], []
    for key in sorted(groups):
        for draft in _pack(by_key.pop(key, []), family, groups[key], relabelled, limit):
            # One that had no endpoints before stays, as the original's does.
            if draft.endpoints or not draft.emptied:
                drafts.append(draft)
            elif draft.current is not None:
                deleted.append(draft.current)
    deleted += [item for items in by_key.values() for item in items]
    if not drafts and placeholder:
        drafts, deleted = _placeholder(deleted, family, relabelled)
    return recycled(drafts, deleted)


def _placeholder(
    deleted: list[Object], family: str, relabelled: Mapping[str, bool]
) -> tuple[list[DraftSlice], list[Object]]:
    """The empty slice that says: this Service has no endpoints, and somebody looked."""
    for item in deleted:
        if not item.get("endpoints") and not item.get("ports"):
            draft = DraftSlice(item, family, [], [], relabelled[item["metadata"]["name"]])
            return [draft], [other for other in deleted if other is not item]
    return [DraftSlice(None, family, [], [], True)], deleted


def recycled(drafts: list[DraftSlice], deleted: list[Object]) -> Slicing:
    """Turn each pair of a new and a superfluous slice into one update: consumers never see the gap."""
    spare = list(deleted)
    for draft in drafts:
        if draft.current is None:
            # The API does not let a slice change its address type.
            fitting = [item for item in spare if item["addressType"] == draft.family][:1]
            for item in fitting:
                draft.current = item
                spare.remove(item)
    return Slicing(drafts, spare)

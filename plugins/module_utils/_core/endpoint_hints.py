# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints in EndpointSlices: which zones and nodes should use an endpoint.

Two features write them: spec.trafficDistribution (each endpoint for its own zone or node) and the annotation
service.kubernetes.io/topology-mode (endpoints shared out to zones in proportion to their CPU), which has precedence.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from math import ceil
from typing import Iterable, Mapping, NamedTuple, Sequence

from .endpoint_objects import Node, Object, Service
from .endpoint_slicing import DraftSlice

TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"

# Hints are only given while no zone is expected to carry more than this share above its due.
_OVERLOAD = 0.2

_SAME_ZONE = ("PreferClose", "PreferSameZone")
_SAME_NODE = "PreferSameNode"


class Allocation(NamedTuple):
    """How many endpoints a zone may have, and how many it should have."""

    minimum: int
    maximum: int
    desired: float


def zone_shares(nodes: Iterable[Node]) -> dict[str, float]:
    """The share of each zone in the CPU of the cluster; empty if it is not known for every node that counts."""
    cpu: dict[str, int] = {}
    for node in nodes:
        if node.control_plane or not node.ready:
            continue
        if not node.zone or not node.cpu:
            return {}
        cpu[node.zone] = cpu.get(node.zone, 0) + node.cpu
    total = sum(cpu.values())
    return {zone: cpu[zone] / total for zone in sorted(cpu)}


def _is_auto(service: Service) -> bool:
    """Whether the annotation asks for hints by CPU; the older name has precedence."""
    value = service.annotations.get(TOPOLOGY_HINTS, service.annotations.get(TOPOLOGY_MODE))
    return value in ("Auto", "auto")


def _is_ready(endpoint: Object) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False


def _set(draft: DraftSlice, index: int, hints: Object | None) -> None:
    """Give one endpoint its hints; an object that came from outside is copied, not changed."""
    endpoint = draft.endpoints[index]
    if endpoint.get("hints") == hints:
        return
    made = {name: value for name, value in endpoint.items() if name != "hints"}
    if hints:
        made["hints"] = hints
    draft.endpoints[index] = made
    draft.changed = True


def _clear(drafts: Sequence[DraftSlice]) -> None:
    for draft in drafts:
        for index in range(len(draft.endpoints)):
            _set(draft, index, None)


def _zones(zone: str) -> Object:
    return {"forZones": [{"name": zone}]}


def _distribute(drafts: Sequence[DraftSlice], nodes_too: bool) -> None:
    """Hints for trafficDistribution: the endpoint's own zone, and its own node if asked, where they are known."""
    for draft in drafts:
        for index, endpoint in enumerate(draft.endpoints):
            hints: Object = {}
            if _is_ready(endpoint):
                if endpoint.get("zone"):
                    hints.update(_zones(endpoint["zone"]))
                if nodes_too and endpoint.get("nodeName"):
                    hints["forNodes"] = [{"name": endpoint["nodeName"]}]
            _set(draft, index, hints or None)


def _allocations(shares: Mapping[str, float], number: int) -> dict[str, Allocation]:
    """How `number` ready endpoints are shared out; empty if that can't be done without an overload."""
    if len(shares) < 2:
        return {}
    desired = {zone: share * number for zone, share in shares.items()}
    minimum = {zone: ceil(each * (1 / (1 + _OVERLOAD))) for zone, each in desired.items()}
    spare = number - sum(minimum.values())
    if spare < 0:
        return {}
    return {
        zone: Allocation(minimum[zone], minimum[zone] + spare, max(desired[zone], float(minimum[zone])))
        for zone in desired
    }


def _counted(draft: DraftSlice, allocations: Mapping[str, Allocation]) -> dict[str, int] | None:
    """The hints of a slice by zone; None if they are not what Auto would have written."""
    counts: dict[str, int] = {}
    for endpoint in draft.endpoints:
        hints = endpoint.get("hints") or {}
        zones = [each.get("name") for each in hints.get("forZones") or ()]
        if hints.get("forNodes") or len(zones) != (1 if _is_ready(endpoint) else 0):
            return None
        for zone in zones:
            if zone not in allocations:
                return None
            counts[zone] = counts.get(zone, 0) + 1
    return counts


def _most(amounts: Mapping[str, float]) -> str:
    """The zone with the largest amount, the first by name among equals."""
    return max(sorted(amounts), key=lambda zone: amounts[zone])


def _transfers(allocations: Mapping[str, Allocation], counts: Mapping[str, int]) -> dict[str, list[str]]:
    """For each zone with too many hints the zones that take one each, in that order."""
    giving, receiving = {}, {}
    for zone, allocation in allocations.items():
        difference = counts.get(zone, 0) - allocation.desired
        if difference > 0:
            giving[zone] = difference
        elif difference < 0:
            receiving[zone] = -difference
    made: dict[str, list[str]] = {}
    while giving and receiving:
        giver, receiver = _most(giving), _most(receiving)
        # Below one endpoint on both sides, moving one more would only exchange the roles.
        if giving[giver] < 1 and receiving[receiver] < 1:
            break
        if giving[giver] <= 0 or receiving[receiver] <= 0:
            break
        giving[giver] -= 1
        receiving[receiver] -= 1
        made.setdefault(giver, []).append(receiver)
    return made


def _share_out(drafts: Sequence[DraftSlice], shares: Mapping[str, float]) -> None:
    """Hints for the topology mode Auto.

    Slices that are not written anyway keep their hints as long as these fit; only the endpoints of the others are
    shared out. So one changed Pod does not change the hints of a whole Service.
    """
    ready = [each for draft in drafts for each in draft.endpoints if _is_ready(each)]
    allocations = _allocations(shares, len(ready))
    if not allocations:
        _clear(drafts)
        return
    counts: dict[str, int] = {}
    open_drafts = []
    for draft in drafts:
        own = None if draft.changed else _counted(draft, allocations)
        if own is None or any(counts.get(zone, 0) + own[zone] > allocations[zone].maximum for zone in own):
            open_drafts.append(draft)
            continue
        for zone, number in own.items():
            counts[zone] = counts.get(zone, 0) + number
    if not all(each.get("zone") in allocations for draft in open_drafts for each in draft.endpoints if _is_ready(each)):
        _clear(drafts)
        return
    for draft in open_drafts:
        for endpoint in draft.endpoints:
            if _is_ready(endpoint):
                counts[endpoint["zone"]] = counts.get(endpoint["zone"], 0) + 1
    transfers = _transfers(allocations, counts)
    for draft in open_drafts:
        for index, endpoint in enumerate(draft.endpoints):
            if not _is_ready(endpoint):
                _set(draft, index, None)
                continue
            takers = transfers.get(endpoint["zone"])
            _set(draft, index, _zones(takers.pop(0) if takers else endpoint["zone"]))


def assign_hints(service: Service, drafts: Sequence[DraftSlice], shares: Mapping[str, float]) -> None:
    """Give the endpoints of one Service and family their hints, or take them away.

    :param drafts: all slices of that Service and family that stay or come.
    :param shares: see zone_shares.
    """
    if _is_auto(service):
        _share_out(drafts, shares)
    elif service.traffic_distribution in _SAME_ZONE:
        _distribute(drafts, nodes_too=False)
    elif service.traffic_distribution == _SAME_NODE:
        _distribute(drafts, nodes_too=True)
    else:
        _clear(drafts)

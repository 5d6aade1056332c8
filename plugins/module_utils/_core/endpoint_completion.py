# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests made into what a cluster would have of them: Services with addresses, Pods with EndpointSlices.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

from .allocations import Allocations, Ranges, allocate, check_wishes
from .endpoint_objects import SERVICE_NAME, Object, key_of, labels_of, read_pod, read_service
from .endpoints import MANAGER, ClusterObjects, EndpointsSettings, applied, plan_endpoints
from .errors import ObjectError

_LISTS = {
    "Service": "services",
    "Pod": "pods",
    "Node": "nodes",
    "Endpoints": "endpoints",
    "EndpointSlice": "endpointslices",
}


class Completed(NamedTuple):
    """The objects of manifests, completed.

    :param objects: all of them, with the EndpointSlices that were computed at the end.
    :param allocations: for the file beside the snapshot.
    :param refused: objects that could not be read; they are left as they are, and the snapshot refuses them by name.
    """

    objects: list[Object]
    allocations: Allocations
    refused: list[ObjectError]


def complete(objects: Iterable[Object], previous: Allocations, ranges: Ranges, manager: str = MANAGER) -> Completed:
    """Complete the objects of manifests.

    Services get the families, addresses and node ports that they lack. A Service that has an EndpointSlice or Endpoints
    in the manifests keeps these; for every other one with a selector the slices are computed from the Pods. Where the
    manifests have no Node at all, every Pod's Node counts as present.

    Raises SnapshotError with every conflict of addresses and node ports, OptionError for wrong ranges.
    """
    everything = list(objects)
    refused: list[ObjectError] = []
    readable = [item for item in everything if _is_readable(item, refused)]
    services = [item for item in readable if item.get("kind") == "Service"]
    allocated, allocations = allocate(services, previous, ranges)
    replaced = {id(before): after for before, after in zip(services, allocated)}
    slices = _computed_slices([replaced.get(id(item), item) for item in readable], manager)
    return Completed([replaced.get(id(item), item) for item in everything] + slices, allocations, refused)


def _is_readable(item: Object, refused: list[ObjectError]) -> bool:
    """Whether the controller can work with an object; what it can't read is appended to `refused`."""
    kind = item.get("kind")
    if kind not in _LISTS:
        return False
    try:
        meta = item.get("metadata")
        if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
            raise ObjectError(kind, key_of(item), "it has no name.")
        if kind == "Service":
            read_service(item)
            check_wishes(item)
        elif kind == "Pod":
            read_pod(item)
    except ObjectError as error:
        refused.append(error)
        return False
    return True


def _computed_slices(readable: Sequence[Object], manager: str) -> list[Object]:
    """The slices that the manifests lack."""
    lists: dict[str, list[Object]] = {name: [] for name in _LISTS.values()}
    for item in readable:
        lists[_LISTS[item["kind"]]].append(item)
    served = {(_namespace(item), labels_of(item).get(SERVICE_NAME, "")) for item in lists["endpointslices"]}
    written = {(_namespace(item), item["metadata"]["name"]) for item in lists["endpoints"]}
    lists["services"] = [
        item
        for item in lists["services"]
        if (_namespace(item), item["metadata"]["name"]) not in served
        and (not item["spec"].get("selector") or (_namespace(item), item["metadata"]["name"]) not in written)
    ]
    if not lists["nodes"]:
        names = sorted({item["spec"].get("nodeName") or "" for item in lists["pods"]} - {""})
        lists["nodes"] = [{"metadata": {"name": name}} for name in names]
    before = ClusterObjects(**lists)
    plan = plan_endpoints(before, EndpointsSettings(manager=manager, write="endpointslices"))
    after = applied(before, (change for change in plan.changes if change.action == "create"))
    given = {id(item) for item in before.endpointslices}
    return [item for item in after.endpointslices if id(item) not in given]


def _namespace(item: Object) -> str:
    return item["metadata"].get("namespace") or "default"

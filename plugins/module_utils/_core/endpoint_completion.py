# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests made into what a cluster would have of them: Services with addresses, Pods with EndpointSlices.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, NamedTuple, Sequence

from .allocations import Allocations, Ranges, allocate, check_wishes, lacks_address
from .endpoint_checks import check_endpoints, check_pod, check_service, check_slice
from .endpoint_inventory import Published
from .endpoint_objects import SERVICE_NAME, Object, key_of, labels_of, read_node, read_pod, read_service
from .endpoints import MANAGER, ClusterObjects, EndpointsSettings, applied, plan_endpoints
from .errors import ObjectError
from .objects import object_key, reader
from .values import LABEL, SUBDOMAIN

_LONGEST_NAME = 253
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
    :param warnings: a sentence for each Service that no client can reach, for want of a range, and for what is wrong
        with Endpoints, Nodes and published hosts.
    :param refused: objects that could not be read; they are left as they are, and the snapshot refuses them by name.
    """

    objects: list[Object]
    allocations: Allocations
    warnings: list[str]
    refused: list[ObjectError]


def complete(
    objects: Iterable[Object],
    previous: Allocations,
    ranges: Ranges,
    manager: str = MANAGER,
    published: Sequence[Published] = (),
) -> Completed:
    """Complete the objects of manifests.

    Services get the families, addresses and node ports that they lack. A Service that has an EndpointSlice or Endpoints
    in the manifests keeps these; for every other one with a selector the slices are computed from the Pods. Where the
    manifests have no Node at all, every Pod's Node counts as present.

    Hosts that are ``published`` get slices besides, of a Service without a selector that has neither of its own.

    Of several objects with the same kind and name the first one counts, as in the snapshot.

    Raises SnapshotError with every conflict of addresses and node ports, OptionError for wrong ranges.
    """
    everything = list(objects)
    refused: list[ObjectError] = []
    first: dict[tuple[str, str, str], Object] = {}
    for item in everything:
        if _is_readable(item, refused):
            first.setdefault((item["kind"], _namespace(item), item["metadata"]["name"]), item)
        elif item.get("kind") == "Node" and _is_named(item.get("metadata")):
            # It is there, whatever is wrong with it, and so are its Pods.
            name = item["metadata"]["name"]
            first.setdefault(("Node", _namespace(item), name), {"kind": "Node", "metadata": {"name": name}})
    readable = list(first.values())
    services = [item for item in readable if item.get("kind") == "Service"]
    allocated, allocations = services, Allocations()
    if ranges.cluster_ips or ranges.node_ports:
        allocated, allocations = allocate(services, previous, ranges)
    replaced = {id(before): after for before, after in zip(services, allocated)}
    slices, said = _computed_slices([replaced.get(id(item), item) for item in readable], manager, published)
    warnings = said + [
        f"Service {key_of(item)} has no clusterIP, and there is no range to take one from."
        for item in allocated
        if lacks_address(item)
    ]
    return Completed([replaced.get(id(item), item) for item in everything] + slices, allocations, warnings, refused)


def _is_readable(item: Object, refused: list[ObjectError]) -> bool:
    """Whether the controller can work with an object; what it can't read is appended to `refused`."""
    kind = item.get("kind")
    if kind not in _LISTS:
        return False
    try:
        if not _is_named(item.get("metadata")):
            raise ObjectError(kind, object_key(item), "its name, namespace or labels are wrong.")
        for check in _CHECKS.get(kind, ()):
            check(item)
    except ObjectError as error:
        refused.append(error)
        return False
    return True


def wrong_objects(objects: ClusterObjects) -> list[ObjectError]:
    """Those objects of an API server that no API server would have, as what is wrong with each."""
    refused: list[ObjectError] = []
    for kind, name in _LISTS.items():
        for item in getattr(objects, name):
            if _is_readable(item, refused) and kind == "EndpointSlice":
                try:
                    reader(kind, check_slice)(item)
                except ObjectError as error:
                    refused.append(error)
    return refused


# By kind: each raises ObjectError for an object that the controller can't work with.
_CHECKS: dict[str, tuple[Callable[[Any], object], ...]] = {
    "Service": (reader("Service", check_service), read_service, check_wishes),
    "Pod": (reader("Pod", check_pod), read_pod),
    "Endpoints": (reader("Endpoints", check_endpoints),),
    "Node": (read_node,),
}


def _is_named(meta: Any) -> bool:
    """Whether metadata has a proper name and namespace, and labels that are texts."""
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not SUBDOMAIN.match(meta["name"]):
        return False
    namespace, labels = meta.get("namespace") or "default", meta.get("labels") or {}
    return (
        len(meta["name"]) <= _LONGEST_NAME
        and isinstance(namespace, str)
        and bool(LABEL.match(namespace))
        and isinstance(labels, dict)
        and all(isinstance(text, str) for pair in labels.items() for text in pair)
    )


def _computed_slices(
    readable: Sequence[Object], manager: str, published: Sequence[Published]
) -> tuple[list[Object], list[str]]:
    """The slices that the manifests lack, and a sentence for each thing that could not be made one of."""
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
    # Of the slices that are there only the names matter: no Service that is left has any.
    lists["endpointslices"] = [{"metadata": {**item["metadata"], "labels": {}}} for item in lists["endpointslices"]]
    before = ClusterObjects(**lists)
    plan = plan_endpoints(before, EndpointsSettings(manager=manager, write="endpointslices"), published)
    after = applied(before, (change for change in plan.changes if change.action == "create"))
    given = {id(item) for item in before.endpointslices}
    return [item for item in after.endpointslices if id(item) not in given], plan.warnings


def _namespace(item: Object) -> str:
    return item["metadata"].get("namespace") or "default"

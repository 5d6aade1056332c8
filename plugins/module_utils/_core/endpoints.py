# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass of the endpoints controllers: what must be written so that EndpointSlices and Endpoints are right.

Objects are Kubernetes JSON, as the API server returns them, in and out. The same objects in any order give the same
plan, and a plan that was carried out is followed by an empty one.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Mapping, NamedTuple, Sequence, Tuple

from .endpoint_hints import assign_hints, zone_shares
from .endpoint_inventory import Published, inventory_groups
from .endpoint_mirroring import mirror, wants_mirror
from .endpoint_objects import (
    ENDPOINTS_MANAGED_BY,
    LEADER,
    SERVICE_NAME,
    SLICE_MANAGED_BY,
    Node,
    Object,
    Pod,
    PodIndex,
    Service,
    annotations_of,
    labels_of,
    read_node,
    read_pod,
    read_service,
)
from .endpoint_pods import Group, PortsKey, slice_groups
from .endpoint_records import (
    ENDPOINTS,
    SLICE,
    Change,
    Names,
    endpoints_change,
    mirror_change,
    owned_by,
    slice_change,
    slice_labels,
)
from .endpoint_slicing import pack
from .endpoint_subsets import pod_subsets, truncate
from .errors import ObjectError
from .values import Broken

MANAGER = "servicenet.kubenode.io"

_Key = Tuple[str, str]


@dataclass(frozen=True)
class EndpointsSettings:
    """What the controller writes.

    :param manager: the value of the managed-by labels; mirrored slices have "mirroring." before it, those of an
        inventory "inventory.".
    :param write: endpointslices, endpoints or both.
    :param limit: endpoints a slice.
    :param trigger_time: RFC 3339, written into what changes; empty for none.
    :param namespaces: only these; None for all.
    """

    manager: str = MANAGER
    write: str = "both"
    limit: int = 100
    trigger_time: str = ""
    namespaces: frozenset[str] | None = None

    @property
    def mirror_manager(self) -> str:
        """The managed-by label of mirrored slices."""
        return "mirroring." + self.manager

    @property
    def inventory_manager(self) -> str:
        """The managed-by label of slices whose endpoints are hosts of an inventory."""
        return "inventory." + self.manager


@dataclass
class ClusterObjects:
    """The objects that the controllers look at, each a list of Kubernetes JSON."""

    services: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    nodes: list[Object] = field(default_factory=list)
    endpoints: list[Object] = field(default_factory=list)
    endpointslices: list[Object] = field(default_factory=list)


class Plan(NamedTuple):
    """What must be written.

    :param changes: of one Service in the order in which they must be carried out (nothing is deleted before its
        replacement stands); Services are independent of each other.
    :param warnings: a sentence for each object that was refused or left alone.
    """

    changes: list[Change]
    warnings: list[str]


class _Pass:
    """The objects of one pass, read and indexed."""

    def __init__(self, objects: ClusterObjects, settings: EndpointsSettings) -> None:
        self.settings = settings
        self.warnings: list[str] = []
        self.refused: set[_Key] = set()
        self.services = self._services(objects.services)
        self.pods = PodIndex(self._pods(objects.pods))
        self.nodes = self._nodes(objects.nodes)
        self.shares = zone_shares(self.nodes.values())
        self.endpoints = {self._key(item): item for item in objects.endpoints if self._concerned(item)}
        self.slices: dict[str, dict[_Key, list[Object]]] = {}
        self.names = Names()
        for item in objects.endpointslices:
            if not self._concerned(item):
                continue
            namespace, name = self._key(item)
            self.names.take(namespace, name)
            labels = labels_of(item)
            if item["metadata"].get("deletionTimestamp"):
                continue
            by_service = self.slices.setdefault(labels.get(SLICE_MANAGED_BY, ""), {})
            by_service.setdefault((namespace, labels.get(SERVICE_NAME, "")), []).append(item)

    @staticmethod
    def _key(item: Object) -> _Key:
        meta = item["metadata"]
        key = meta.get("namespace") or "default", meta["name"]
        if not all(isinstance(part, str) for part in key):
            raise Broken("its name and namespace must be strings")
        return key

    def _concerned(self, item: Object) -> bool:
        return self.settings.namespaces is None or self._key(item)[0] in self.settings.namespaces

    def _services(self, items: Iterable[Object]) -> dict[_Key, Service]:
        made = {}
        for item in items:
            try:
                service = read_service(item)
            except ObjectError as error:
                self.warnings.append(f"{error} Its endpoint records stay as they are.")
                namespace, _slash, name = error.key.rpartition("/")
                self.refused.add((namespace or "default", name))
                continue
            if self.settings.namespaces is None or service.namespace in self.settings.namespaces:
                made[service.key] = service
        return made

    def _pods(self, items: Iterable[Object]) -> Iterable[Pod]:
        for item in items:
            try:
                yield read_pod(item)
            except ObjectError as error:
                self.warnings.append(str(error))

    def _nodes(self, items: Iterable[Object]) -> dict[str, Node]:
        made = {}
        for item in items:
            try:
                node = read_node(item)
            except ObjectError as error:
                self.warnings.append(str(error))
                continue
            made[node.name] = node
        return made

    def is_own(self, item: Object) -> bool:
        """Whether Endpoints are ours; a record of a leader election never is."""
        return labels_of(item).get(ENDPOINTS_MANAGED_BY) == self.settings.manager and LEADER not in annotations_of(item)

    def slices_of(self, manager: str) -> Mapping[_Key, list[Object]]:
        """The slices of one manager by Service."""
        return self.slices.get(manager, {})


def plan_endpoints(
    objects: ClusterObjects, settings: EndpointsSettings, published: Sequence[Published] | None = None
) -> Plan:
    """What one pass must write.

    Objects of other managers are never touched. A Service, Pod or Node that can't be read is a warning; the records of
    such a Service stay.

    :param published: hosts of the inventory behind Services without selector; None leaves what is published as it is.
    """
    state = _Pass(objects, settings)
    with_slices = settings.write in ("endpointslices", "both")
    with_endpoints = settings.write in ("endpoints", "both")
    changes: dict[_Key, list[Change]] = {}
    for key in sorted(state.services):
        service = state.services[key]
        made: list[Change] = []
        if service.has_endpoints:
            pods = state.pods.select(service)
            if with_slices:
                groups = {family: slice_groups(service, pods, state.nodes, family) for family in service.families}
                made += _plan_slices(state, service, settings.manager, groups)
            if with_endpoints:
                made += _plan_object(state, service, pods)
        changes[key] = made
    for more in (
        _superfluous(state, with_slices, with_endpoints),
        _plan_mirrors(state, with_slices),
        _plan_published(state, published),
    ):
        for change in more:
            changes.setdefault((change.namespace, change.service), []).append(change)
    return Plan([change for key in sorted(changes) for change in changes[key]], state.warnings)


def plan_removal(objects: ClusterObjects, settings: EndpointsSettings) -> Plan:
    """The deletion of everything that is ours."""
    state = _Pass(objects, settings)
    changes = []
    for manager in (settings.manager, settings.mirror_manager, settings.inventory_manager):
        for key, items in state.slices_of(manager).items():
            changes += [Change.delete(SLICE, item, key[1]) for item in items]
    changes += [Change.delete(ENDPOINTS, item, key[1]) for key, item in state.endpoints.items() if state.is_own(item)]
    return Plan(sorted(changes, key=lambda each: (each.namespace, each.service, each.kind, each.name)), [])


def _plan_slices(
    state: _Pass, service: Service, manager: str, groups: Mapping[str, Mapping[PortsKey, Group]]
) -> list[Change]:
    """The slices of one Service and manager.

    :param groups: by family, the endpoints that shall be.
    """
    existing = state.slices_of(manager).get(service.key, [])
    labels = slice_labels(service, manager)
    deleted: list[Object] = []
    by_family: dict[str, list[Object]] = {family: [] for family in groups}
    for item in existing:
        if item["addressType"] in by_family and owned_by(item, service):
            by_family[item["addressType"]].append(item)
        else:
            deleted.append(item)
    changes = []
    for family, items in by_family.items():
        relabelled = {item["metadata"]["name"]: labels_of(item) != labels for item in items}
        slicing = pack(items, family, groups[family], relabelled, state.settings.limit, placeholder=True)
        assign_hints(service, slicing.kept, state.shares)
        for draft in slicing.kept:
            change = slice_change(service, draft, labels, state.names, state.settings.trigger_time)
            if change is not None:
                changes.append(change)
        deleted += slicing.deleted
    changes.sort(key=lambda change: change.action)  # "create" before "update"
    return changes + [Change.delete(SLICE, item, service.name) for item in deleted]


def _plan_object(state: _Pass, service: Service, pods: list[Pod]) -> list[Change]:
    """The Endpoints of one Service with a selector."""
    manager = state.settings.manager
    current = state.endpoints.get(service.key)
    owner = labels_of(current).get(ENDPOINTS_MANAGED_BY, manager) if current else manager
    if owner != manager:
        state.warnings.append(
            f"Endpoints {service.namespace}/{service.name}: they are managed by {owner} and stay as they are."
        )
        return []
    subsets, truncated = truncate(pod_subsets(service, pods))
    change = endpoints_change(service, current, subsets, truncated, manager, state.settings.trigger_time)
    return [change] if change is not None else []


def _superfluous(state: _Pass, with_slices: bool, with_endpoints: bool) -> list[Change]:
    """Our own records of Services that are gone, have no selector (any more), or for which we write none."""

    def wanted(key: _Key) -> bool:
        return key in state.refused or (key in state.services and state.services[key].has_endpoints)

    changes = []
    for key, items in sorted(state.slices_of(state.settings.manager).items()):
        if not (with_slices and wanted(key)) and key not in state.refused:
            changes += [Change.delete(SLICE, item, key[1]) for item in items]
    for key, item in sorted(state.endpoints.items()):
        if state.is_own(item) and not (with_endpoints and wanted(key)) and key not in state.refused:
            changes.append(Change.delete(ENDPOINTS, item, key[1]))
    return changes


def _plan_mirrors(state: _Pass, with_slices: bool) -> list[Change]:
    """Hand-written Endpoints of Services without a selector, mirrored; mirrors whose original is gone deleted."""
    settings = state.settings
    mirrored = state.slices_of(settings.mirror_manager)
    changes: list[Change] = []
    for key in sorted(set(mirrored) | set(state.endpoints)):
        service, item = state.services.get(key), state.endpoints.get(key)
        existing = mirrored.get(key, [])
        if key in state.refused:
            continue
        hand_written = item is not None and labels_of(item).get(ENDPOINTS_MANAGED_BY) != settings.manager
        if (
            not with_slices
            or service is None
            or item is None
            or not hand_written
            or not wants_mirror(item)
            or service.selector is not None
            or service.type == "ExternalName"
        ):
            changes += [Change.delete(SLICE, each, key[1]) for each in existing]
            continue
        try:
            slicing, problems = mirror(item, existing)
        except ObjectError as error:
            state.warnings.append(f"{error} Its mirror stays as it is.")
            continue
        state.warnings += [f"Endpoints {key[0]}/{key[1]}: {problem}" for problem in problems]
        made = []
        for draft in slicing.kept:
            change = mirror_change(item, draft, settings.mirror_manager, state.names, settings.trigger_time)
            if change is not None:
                made.append(change)
        made.sort(key=lambda change: change.action)
        changes += made + [Change.delete(SLICE, each, key[1]) for each in slicing.deleted]
    return changes


def _plan_published(state: _Pass, published: Sequence[Published] | None) -> list[Change]:
    """The slices of Services behind which hosts of the inventory stand; those of other Services deleted."""
    manager = state.settings.inventory_manager
    changes: list[Change] = []
    served = set(state.refused)
    for each in published or ():
        key = (each.namespace, each.service)
        service = state.services.get(key)
        if service is None or service.selector is not None or service.type == "ExternalName":
            problem = "it does not exist" if service is None else "its endpoints come from elsewhere"
            state.warnings.append(f"Service {'/'.join(key)} can't have hosts of the inventory behind it: {problem}.")
            continue
        if each.unasked:
            state.warnings.append(
                f"Hosts behind Service {'/'.join(key)} have no TCP port that could be asked, and count as not ready:"
                f" {', '.join(each.unasked)}. Set probe_port, or probe to none."
            )
        served.add(key)
        groups = {family: inventory_groups(service, each.members, family) for family in service.families}
        changes += _plan_slices(state, service, manager, groups)
    for key, items in sorted(state.slices_of(manager).items()):
        # Without a list nothing is known of what is published, only that a Service is gone.
        if key not in served and (published is not None or key not in state.services):
            changes += [Change.delete(SLICE, item, key[1]) for item in items]
    return changes


def other_controllers(objects: ClusterObjects, settings: EndpointsSettings) -> list[str]:
    """What shows that another controller writes, or wrote, the records of this cluster; a sentence each."""
    known = {"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io", "endpoint-controller"}
    counts: dict[tuple[str, str], int] = {}
    for kind, label, items in (
        (SLICE, SLICE_MANAGED_BY, objects.endpointslices),
        (ENDPOINTS, ENDPOINTS_MANAGED_BY, objects.endpoints),
    ):
        for item in items:
            manager = labels_of(item).get(label, "")
            if manager in known and manager != settings.manager:
                counts[(kind, manager)] = counts.get((kind, manager), 0) + 1
    return [
        f"{number} {kind} {'object is' if number == 1 else 'objects are'} managed by {manager}."
        for (kind, manager), number in sorted(counts.items())
    ]


def applied(objects: ClusterObjects, changes: Iterable[Change]) -> ClusterObjects:
    """The objects as they are once the changes are carried out."""
    lists = {SLICE: objects.endpointslices, ENDPOINTS: objects.endpoints}
    after: dict[str, dict[_Key, Object]] = {
        kind: {(item["metadata"].get("namespace") or "default", item["metadata"]["name"]): item for item in items}
        for kind, items in lists.items()
    }
    for change in changes:
        key = (change.namespace, change.name)
        if change.after is None:
            after[change.kind].pop(key, None)
        else:
            after[change.kind][key] = change.after
    return ClusterObjects(
        objects.services,
        objects.pods,
        objects.nodes,
        endpoints=list(after[ENDPOINTS].values()),
        endpointslices=list(after[SLICE].values()),
    )

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision table: which endpoints a packet may go to, by frontend and class of source, as kube-proxy decides it.

Pure and the same for every mode. One Service is decided at a time; only frontends that two Services claim need both.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from . import values
from .model import Service, ServicePort
from .slices import EndpointSlice
from .table import (
    BALANCE,
    CLUSTER_IP,
    DROP,
    EXTERNAL_IP,
    LOAD_BALANCER,
    NODE_PORT,
    REJECT,
    Backend,
    Frontend,
    HealthCheck,
    PortRules,
    ServiceTable,
    Target,
)

_REJECTED = Target(REJECT, ())
_DROPPED = Target(DROP, ())


class NodeView(NamedTuple):
    """What the decisions depend on besides the Services.

    ``name`` and ``zone`` of the node ("" is unknown: no endpoint is local, no zone hint counts); ``node_ips``: its
    primary address of each family; ``families``: (4,), (6,) or (4, 6); ``proxy_name``: handle the Services whose label
    service.kubernetes.io/service-proxy-name has this value, "" is those without the label.
    """

    name: str
    zone: str = ""
    node_ips: tuple[str, ...] = ()
    families: tuple[int, ...] = (4, 6)
    proxy_name: str = ""


class _Candidate(NamedTuple):
    """An endpoint address and port with what decides about it. Of two equal ones, the better sorts first."""

    address: str
    port: int
    not_ready: bool
    remote: bool
    not_serving_terminating: bool
    zone_hints: tuple[str, ...]
    node_hints: tuple[str, ...]


class Decided(NamedTuple):
    """Some Services, each decided by itself: what two of them claim stands in both."""

    rules: list[PortRules]
    health_checks: list[HealthCheck]


def resolve(services: Iterable[Service], view: NodeView) -> ServiceTable:
    """Decides all given Services. Where two claim one frontend, the first by name keeps it; the other is warned of."""
    return joined([decide(services, view)])


def decide(services: Iterable[Service], view: NodeView) -> Decided:
    """Decides each of the given Services."""
    rules: list[PortRules] = []
    checks: list[HealthCheck] = []
    for service in sorted(services, key=lambda s: (s.namespace, s.name)):
        if is_served(service, view):
            for family in view.families:
                rules.extend(_of_family(service, family, view))
            if service.health_check_node_port and service.external_local:
                checks.extend(_health_check(service, view))
    return Decided(rules, checks)


def joined(parts: Sequence[Decided]) -> ServiceTable:
    """The table of all parts, which have to be in the order of their Services."""
    kept, warnings = _without_double_claims(entry for part in parts for entry in part.rules)
    return ServiceTable(tuple(kept), tuple(check for part in parts for check in part.health_checks), tuple(warnings))


def is_served(service: Service, view: NodeView) -> bool:
    """Is this a Service with a virtual IP, and ours to serve?"""
    if service.headless or service.type == "ExternalName" or not service.cluster_ips:
        return False
    return (service.proxy_name or "") == view.proxy_name and (service.proxy_name is None) == (view.proxy_name == "")


# ------------------------------------------------------------------------------------------------------ one Service


def _of_family(service: Service, family: int, view: NodeView) -> list[PortRules]:
    cluster_ip = next((a for a in service.cluster_ips if values.family(a) == family), None)
    if cluster_ip is None:
        return []
    slices = [piece for piece in service.slices if piece.family == family and not piece.hidden]
    return [_port_rules(service, port, family, cluster_ip, slices, view) for port in service.ports]


def _port_rules(
    service: Service, port: ServicePort, family: int, cluster_ip: str, slices: list[EndpointSlice], view: NodeView
) -> PortRules:
    candidates = _candidates(slices, port, view.name)
    cluster = _cluster_endpoints(candidates, view)
    anywhere = _target(cluster, candidates)
    on_node = anywhere
    frontends = _frontends(service, port, family, cluster_ip, view)
    external_local = service.external_local and len(frontends) > 1
    if service.internal_local or external_local:
        on_node = _target(_local_endpoints(candidates), candidates)
    internal = on_node if service.internal_local else anywhere
    external = on_node if external_local else anywhere
    reachable = anywhere.backends
    if internal is not anywhere or external is not anywhere:
        others = anywhere.backends if len(frontends) > 1 else ()
        reachable = tuple(sorted({*internal.backends, *external.backends, *others}))
    return PortRules(
        service.key,
        port.name,
        port.protocol,
        family,
        service.affinity,
        external_local,
        frontends,
        internal,
        anywhere,
        external,
        reachable,
        service.annotations,
    )


def _frontends(
    service: Service, port: ServicePort, family: int, cluster_ip: str, view: NodeView
) -> tuple[Frontend, ...]:
    found = [Frontend(CLUSTER_IP, cluster_ip, port.port)]
    taken = {cluster_ip}
    ranges, own = _source_ranges(service, family, view)
    # A load balancer IP comes first: if it is an externalIP as well, its source ranges must hold.
    for kind, addresses in ((LOAD_BALANCER, service.load_balancer_ips), (EXTERNAL_IP, service.external_ips)):
        for address in addresses:
            if values.family(address) == family and address not in taken:
                taken.add(address)
                limited = ranges if kind == LOAD_BALANCER else None
                found.append(Frontend(kind, address, port.port, limited, own and limited is not None))
    if port.node_port:
        found.append(Frontend(NODE_PORT, "", port.node_port))
    return tuple(found)


def _source_ranges(service: Service, family: int, view: NodeView) -> tuple[tuple[str, ...] | None, bool]:
    """-> (ranges of this family, None if there are none; whether they hold the node's own address)."""
    ranges = tuple(r for r in service.source_ranges if values.family(r) == family)
    if not ranges:
        return None, False
    own = [ipaddress.ip_address(a) for a in view.node_ips if values.family(a) == family]
    return ranges, any(a in ipaddress.ip_network(r) for r in ranges for a in own)


# ------------------------------------------------------------------------------------------------------- endpoints


def _candidates(slices: list[EndpointSlice], port: ServicePort, node_name: str) -> list[_Candidate]:
    """All endpoints of a service port, sorted, each once: ready goes before not ready, local before remote."""
    found: list[_Candidate] = []
    for piece in slices:
        for slice_port in piece.ports:
            if slice_port.name == port.name and slice_port.protocol == port.protocol and slice_port.port:
                number = slice_port.port
                found.extend(
                    _Candidate(
                        e.addresses[0],
                        number,
                        not e.ready,
                        not node_name or e.node != node_name,
                        not (e.serving and e.terminating),
                        e.zone_hints,
                        e.node_hints,
                    )
                    for e in piece.endpoints
                )
    found.sort()
    once: list[_Candidate] = []
    last: tuple[object, ...] = ()
    for candidate in found:
        where = candidate[:2]
        if where != last:
            once.append(candidate)
            last = where
    return once


def _cluster_endpoints(candidates: list[_Candidate], view: NodeView) -> list[_Candidate]:
    ready = [c for c in candidates if not c.not_ready]
    return _near(ready, view) or [c for c in candidates if not c.not_serving_terminating]


def _local_endpoints(candidates: list[_Candidate]) -> list[_Candidate]:
    local = [c for c in candidates if not c.remote]
    return [c for c in local if not c.not_ready] or [c for c in local if not c.not_serving_terminating]


def _near(ready: list[_Candidate], view: NodeView) -> list[_Candidate]:
    """The topology filter: hints count only if every ready endpoint has some, and one is for this node or its zone."""
    if view.name and all(c.node_hints for c in ready):
        chosen = [c for c in ready if view.name in c.node_hints]
        if chosen:
            return chosen
    if view.zone and all(c.zone_hints for c in ready):
        chosen = [c for c in ready if view.zone in c.zone_hints]
        if chosen:
            return chosen
    return ready


def _target(chosen: list[_Candidate], candidates: list[_Candidate]) -> Target:
    if chosen:
        return Target(BALANCE, tuple(Backend(c.address, c.port, not c.remote) for c in chosen))
    if any(not c.not_ready or not c.not_serving_terminating for c in candidates):
        return _DROPPED
    return _REJECTED


def _health_check(service: Service, view: NodeView) -> list[HealthCheck]:
    families = [family for family in map(values.family, service.cluster_ips) if family in view.families]
    counts = {family: _ready_local_endpoints(service, family, view) for family in families}
    return [HealthCheck(service.key, service.health_check_node_port, counts)] if counts else []


def _ready_local_endpoints(service: Service, family: int, view: NodeView) -> int:
    """How many distinct ready endpoints the node has, over all ports, as the health check counts them."""
    return len(
        {
            e.addresses[0]
            for piece in service.slices
            if piece.family == family and not piece.hidden
            for e in piece.endpoints
            if e.ready and view.name and e.node == view.name
        }
    )


# -------------------------------------------------------------------------------------------- between the Services


def _without_double_claims(rules: Iterable[PortRules]) -> tuple[list[PortRules], list[str]]:
    """Leaves each frontend to the first Service that claims it, so that no mode has to choose."""
    owners: dict[tuple[int, str, str, int], str] = {}
    warnings = []
    kept = []
    for entry in rules:
        frontends = []
        for frontend in entry.frontends:
            owner = owners.setdefault((entry.family, entry.protocol, frontend.address, frontend.port), entry.name)
            if owner == entry.name:
                frontends.append(frontend)
            else:
                what = f"{frontend.address} " if frontend.address else "node "
                warnings.append(
                    f"Service {entry.name}: {what}port {frontend.port}/{entry.protocol} belongs to {owner} already; "
                    "it stays there."
                )
        if len(frontends) == len(entry.frontends):
            kept.append(entry)
        elif frontends:
            kept.append(entry._replace(frontends=tuple(frontends)))
    return kept, warnings

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of a cluster, read from Kubernetes JSON, checked, cut to what is used, and written canonically.

``read_*`` takes the JSON of one object, from an API server or from a snapshot line, and raises ``ObjectError`` for one
that is broken or hostile. ``*_json`` gives the canonical object: Kubernetes' own field names, nothing that is a default,
lists without meaning to their order sorted; reading that again gives an equal value.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from . import values
from .errors import ObjectError
from .values import Broken

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"
OWN_ANNOTATIONS = "servicenet.kubenode.io/"
AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"
DEFAULT_AFFINITY_SECONDS = 10800

MAX_PORTS = 1000
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_ENTRIES = 10000


class ServicePort(NamedTuple):
    """A port of a Service; ``node_port`` 0 is none."""

    name: str
    protocol: str
    port: int
    node_port: int


class SlicePort(NamedTuple):
    """A port of an EndpointSlice; ``port`` 0 is "all ports", which no proxy serves."""

    name: str
    protocol: str
    port: int


class Endpoint(NamedTuple):
    """An endpoint; ``addresses`` is never empty, the first one takes the Service's traffic. Hints () are none."""

    addresses: tuple[str, ...]
    ready: bool
    serving: bool
    terminating: bool
    node: str
    zone_hints: tuple[str, ...]
    node_hints: tuple[str, ...]
    hostname: str
    target: str


class EndpointSlice(NamedTuple):
    """An EndpointSlice of ``family`` 4 or 6; one that is ``hidden`` (label service.kubernetes.io/headless) is for DNS only."""

    name: str
    family: int
    hidden: bool
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]


class Service(NamedTuple):
    """A Service with its EndpointSlices.

    ``headless``: clusterIP is None. ``cluster_ips``: () if headless or not allocated. ``affinity``: seconds, 0 is none.
    ``source_ranges``: CIDRs of both families, sorted. ``proxy_name``: the value of the label
    service.kubernetes.io/service-proxy-name, None without it. ``annotations``: those under servicenet.kubenode.io/.
    """

    namespace: str
    name: str
    type: str
    headless: bool
    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    affinity: int
    internal_local: bool
    external_local: bool
    health_check_node_port: int
    external_name: str
    proxy_name: str | None
    annotations: tuple[tuple[str, str], ...]
    slices: tuple[EndpointSlice, ...]

    @property
    def key(self) -> str:
        """namespace/name"""
        return f"{self.namespace}/{self.name}"


class Node(NamedTuple):
    """A Node; ``addresses`` are its InternalIPs, then its ExternalIPs. ``leaving``: deleted, or about to be scaled away."""

    name: str
    zone: str
    pod_cidrs: tuple[str, ...]
    addresses: tuple[str, ...]
    leaving: bool


class Pod(NamedTuple):
    """A Pod that has addresses; only DNS needs it."""

    namespace: str
    name: str
    addresses: tuple[str, ...]


class ServiceCidr(NamedTuple):
    """A ServiceCIDR: where ClusterIPs are allocated from."""

    name: str
    cidrs: tuple[str, ...]


T = TypeVar("T")


def object_key(raw: object) -> str:
    """namespace/name of any object, fit for a message even if the object is hostile."""
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    if not isinstance(metadata, Mapping):
        return "(without metadata)"
    parts = [metadata[part] for part in ("namespace", "name") if metadata.get(part) is not None]
    return "/".join(
        part if isinstance(part, str) and len(part) <= 253 and part.isprintable() else values.shown(part)
        for part in parts
    ) or "(without a name)"  # fmt: skip


def _reader(kind: str, read: Callable[[Mapping[str, Any]], T]) -> Callable[[object], T]:
    """Turns ``Broken`` into an ``ObjectError`` that names the object."""

    def checked(raw: object) -> T:
        try:
            return read(values.mapping(raw, "the object"))
        except Broken as wrong:
            raise ObjectError(kind, object_key(raw), str(wrong)) from None

    return checked


def _metadata(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return values.mapping(raw.get("metadata"), "metadata")


def _namespaced(raw: Mapping[str, Any]) -> tuple[str, str]:
    metadata = _metadata(raw)
    namespace = metadata.get("namespace")
    return (
        values.label("default" if namespace is None else namespace, "namespace"),
        values.subdomain(metadata.get("name"), "name"),
    )


# ------------------------------------------------------------------------------------------------- EndpointSlices


def _conditions(raw: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    found = values.mapping(raw.get("conditions"), "conditions")
    return (
        values.flag(found.get("ready"), "condition ready", True),
        values.flag(found.get("serving"), "condition serving", True),
        values.flag(found.get("terminating"), "condition terminating", False),
    )


def _hints(hints: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = [
        values.label_value(values.mapping(hint, key).get("name"), key)
        for hint in values.sequence(hints.get(key), key, MAX_ADDRESSES)
    ]
    return tuple(sorted(set(names)))


def _endpoint(raw: Mapping[str, Any], family: int) -> Endpoint:
    addresses = tuple(
        values.routable(a, "endpoint address")
        for a in values.sequence(raw.get("addresses"), "addresses", MAX_ADDRESSES)
    )
    if not addresses:
        raise Broken("an endpoint has no address")
    for address in addresses:
        if values.family(address) != family:
            raise Broken(f"endpoint address {address} is not of the slice's addressType")
    conditions = _conditions(raw) if raw.get("conditions") else (True, True, False)
    hints = values.mapping(raw.get("hints"), "hints")
    node, hostname = raw.get("nodeName") or "", raw.get("hostname") or ""
    reference = values.mapping(raw.get("targetRef"), "targetRef")
    target = reference.get("name") if reference.get("kind") == "Pod" else None
    return Endpoint(
        addresses,
        *conditions,
        values.subdomain(node, "nodeName") if node else "",
        _hints(hints, "forZones") if hints else (),
        _hints(hints, "forNodes") if hints else (),
        values.subdomain(hostname, "hostname") if hostname else "",
        values.subdomain(target, "targetRef name") if target else "",
    )


def _slice_ports(raw: Mapping[str, Any]) -> tuple[SlicePort, ...]:
    ports = []
    for entry in values.sequence(raw.get("ports"), "ports", MAX_PORTS):
        port = values.mapping(entry, "a port")
        name = port.get("name") or ""
        given = port.get("port")
        ports.append(
            SlicePort(
                values.label(name, "port name") if name else "",
                values.protocol(port.get("protocol")),
                0 if given is None else values.number(given, "port", 0, 65535),
            )
        )
    return tuple(sorted(ports))


def _read_slice(raw: Mapping[str, Any]) -> EndpointSlice:
    metadata = _metadata(raw)
    family = 6 if values.choice(raw.get("addressType"), "addressType", ("IPv4", "IPv6"), "") == "IPv6" else 4
    if not raw.get("addressType"):
        raise Broken("it has no addressType")
    endpoints = values.sequence(raw.get("endpoints"), "endpoints", MAX_ENDPOINTS)
    return EndpointSlice(
        values.subdomain(metadata.get("name"), "name"),
        family,
        HEADLESS_LABEL in values.mapping(metadata.get("labels"), "labels"),
        _slice_ports(raw),
        tuple(sorted(_endpoint(values.mapping(e, "an endpoint"), family) for e in endpoints)),
    )


def slice_json(piece: EndpointSlice) -> dict[str, Any]:
    """The canonical object of a slice, as it stands in its Service's line."""
    metadata: dict[str, Any] = {"name": piece.name}
    if piece.hidden:
        metadata["labels"] = {HEADLESS_LABEL: ""}
    return {
        "metadata": metadata,
        "addressType": f"IPv{piece.family}",
        "ports": [_filled(name=p.name, protocol=p.protocol, port=p.port) for p in piece.ports],
        "endpoints": [_endpoint_json(e) for e in piece.endpoints],
    }


def _endpoint_json(e: Endpoint) -> dict[str, Any]:
    conditions = {}
    if (e.ready, e.serving, e.terminating) != (True, True, False):
        conditions = {
            "ready": e.ready,
            "serving": e.serving,
            "terminating": e.terminating,
        }
    return _filled(
        addresses=list(e.addresses),
        conditions=conditions,
        nodeName=e.node,
        hints=_filled(
            forZones=[{"name": z} for z in e.zone_hints],
            forNodes=[{"name": n} for n in e.node_hints],
        ),
        hostname=e.hostname,
        targetRef={"kind": "Pod", "name": e.target} if e.target else None,
    )


def _filled(**fields: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in fields.items() if value}


def slices_of_endpoints(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The subsets of an Endpoints object as EndpointSlice objects (raw), one a subset and family.

    For a cluster that has no slices of a Service: the endpoints mirroring controller would have written them.
    """
    name = _metadata(raw).get("name")
    found = []
    for index, entry in enumerate(values.sequence(raw.get("subsets"), "subsets", MAX_ENTRIES)):
        subset = values.mapping(entry, "a subset")
        by_type: dict[str, list[dict[str, Any]]] = {"IPv4": [], "IPv6": []}
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for item in values.sequence(subset.get(field), field, MAX_ENDPOINTS):
                one = values.mapping(item, "an address")
                address = values.address(one.get("ip"), "endpoint address")
                by_type[f"IPv{values.family(address)}"].append(
                    {
                        "addresses": [address],
                        "conditions": {
                            "ready": ready,
                            "serving": ready,
                            "terminating": False,
                        },
                        "nodeName": one.get("nodeName"),
                        "hostname": one.get("hostname"),
                        "targetRef": one.get("targetRef"),
                    }
                )
        for kind, endpoints in by_type.items():
            if endpoints:
                found.append(
                    {
                        "metadata": {"name": f"{name}-{index}-{kind.lower()}"},
                        "addressType": kind,
                        "ports": subset.get("ports"),
                        "endpoints": endpoints,
                    }
                )
    return found


# ------------------------------------------------------------------------------------------------------- Services


def _service_ports(spec: Mapping[str, Any]) -> tuple[ServicePort, ...]:
    ports = []
    for entry in values.sequence(spec.get("ports"), "ports", MAX_PORTS):
        port = values.mapping(entry, "a port")
        name, node_port = port.get("name") or "", port.get("nodePort")
        ports.append(
            ServicePort(
                values.label(name, "port name") if name else "",
                values.protocol(port.get("protocol")),
                values.number(port.get("port"), "port", 1, 65535),
                0 if node_port is None else values.number(node_port, "nodePort", 0, 65535),
            )
        )
    if len({p.name for p in ports}) < len(ports):
        raise Broken("two of its ports have the same name")
    if len({(p.protocol, p.port) for p in ports}) < len(ports):
        raise Broken("two of its ports have the same number and protocol")
    return tuple(sorted(ports))


def _cluster_ips(spec: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """-> (headless, addresses). The order counts: the first family is the Service's own."""
    given = list(values.sequence(spec.get("clusterIPs"), "clusterIPs", 2))
    if not given and spec.get("clusterIP"):
        given = [spec["clusterIP"]]
    if given == ["None"]:
        return True, ()
    addresses = tuple(values.routable(a, "clusterIP") for a in given if a != "")
    if len({values.family(a) for a in addresses}) < len(addresses):
        raise Broken("its clusterIPs are of one family")
    return False, addresses


def _load_balancer_ips(raw: Mapping[str, Any]) -> tuple[str, ...]:
    balancer = values.mapping(values.mapping(raw.get("status"), "status").get("loadBalancer"), "loadBalancer")
    found = set()
    for entry in values.sequence(balancer.get("ingress"), "ingress", MAX_ENTRIES):
        ingress = values.mapping(entry, "an ingress")
        mode = values.choice(ingress.get("ipMode"), "ipMode", ("VIP", "Proxy"), "VIP")
        if ingress.get("ip") and mode == "VIP":
            found.add(values.routable(ingress["ip"], "load balancer IP"))
    return tuple(sorted(found))


def _affinity(spec: Mapping[str, Any]) -> int:
    if values.choice(spec.get("sessionAffinity"), "sessionAffinity", ("None", "ClientIP"), "None") == "None":
        return 0
    config = values.mapping(spec.get("sessionAffinityConfig"), "sessionAffinityConfig")
    seconds = values.mapping(config.get("clientIP"), "clientIP").get("timeoutSeconds")
    return DEFAULT_AFFINITY_SECONDS if seconds is None else values.number(seconds, "timeoutSeconds", 1, 86400)


def _own_annotations(metadata: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    for key, value in values.mapping(metadata.get("annotations"), "annotations").items():
        if isinstance(key, str) and key.startswith(OWN_ANNOTATIONS):
            if not isinstance(value, str) or len(key) > 316 or len(value) > 1024:
                raise Broken(f"annotation {values.shown(key)} is not a text of at most 1024 characters")
            found.append((key, value))
    return tuple(sorted(found))


def _policy_local(spec: Mapping[str, Any], field: str) -> bool:
    return values.choice(spec.get(field), field, ("Cluster", "Local"), "Cluster") == "Local"


def _read_service(raw: Mapping[str, Any]) -> Service:
    namespace, name = _namespaced(raw)
    values.label(name, "name")
    metadata, spec = _metadata(raw), values.mapping(raw.get("spec"), "spec")
    kind = values.choice(
        spec.get("type"),
        "type",
        ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "ClusterIP",
    )
    headless, cluster_ips = _cluster_ips(spec)
    external_ips = {
        values.routable(a, "externalIP") for a in values.sequence(spec.get("externalIPs"), "externalIPs", MAX_ENTRIES)
    }
    ranges = {
        values.network(r, "loadBalancerSourceRanges")
        for r in values.sequence(
            spec.get("loadBalancerSourceRanges"),
            "loadBalancerSourceRanges",
            MAX_ENTRIES,
        )
    }
    external_name = spec.get("externalName") or ""
    if not isinstance(external_name, str) or len(external_name) > 255 or not external_name.isprintable():
        raise Broken(f"externalName {values.shown(external_name)} is not a DNS name")
    proxy_name = values.mapping(metadata.get("labels"), "labels").get(PROXY_NAME_LABEL)
    check = spec.get("healthCheckNodePort")
    return Service(
        namespace,
        name,
        kind,
        headless,
        cluster_ips,
        _service_ports(spec),
        tuple(sorted(external_ips)),
        _load_balancer_ips(raw),
        tuple(sorted(ranges)),
        _affinity(spec),
        _policy_local(spec, "internalTrafficPolicy"),
        _policy_local(spec, "externalTrafficPolicy"),
        0 if check is None else values.number(check, "healthCheckNodePort", 0, 65535),
        external_name,
        None if proxy_name is None else values.label_value(proxy_name, PROXY_NAME_LABEL),
        _own_annotations(metadata),
        tuple(sorted(read_slice(s) for s in values.sequence(raw.get("endpointSlices"), "endpointSlices", MAX_ENTRIES))),
    )


def service_json(service: Service) -> dict[str, Any]:
    """The canonical object of a Service, its slices in the field ``endpointSlices``."""
    return _filled(
        kind="Service",
        metadata=_filled(
            namespace=service.namespace,
            name=service.name,
            labels=None if service.proxy_name is None else {PROXY_NAME_LABEL: service.proxy_name},
            annotations=dict(service.annotations),
        ),
        spec=_filled(
            type=service.type,
            clusterIPs=["None"] if service.headless else list(service.cluster_ips),
            ports=[_filled(name=p.name, protocol=p.protocol, port=p.port, nodePort=p.node_port) for p in service.ports],
            externalIPs=list(service.external_ips),
            loadBalancerSourceRanges=list(service.source_ranges),
            sessionAffinity="ClientIP" if service.affinity else "",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": service.affinity}} if service.affinity else None,
            internalTrafficPolicy="Local" if service.internal_local else "",
            externalTrafficPolicy="Local" if service.external_local else "",
            healthCheckNodePort=service.health_check_node_port,
            externalName=service.external_name,
        ),
        status={"loadBalancer": {"ingress": [{"ip": ip} for ip in service.load_balancer_ips]}}
        if service.load_balancer_ips
        else None,
        endpointSlices=[slice_json(s) for s in service.slices],
    )


# --------------------------------------------------------------------------------------------------- other objects


def _read_node(raw: Mapping[str, Any]) -> Node:
    metadata, spec = _metadata(raw), values.mapping(raw.get("spec"), "spec")
    cidrs = list(values.sequence(spec.get("podCIDRs"), "podCIDRs", 2))
    if not cidrs and spec.get("podCIDR"):
        cidrs = [spec["podCIDR"]]
    by_type: dict[str, list[str]] = {"InternalIP": [], "ExternalIP": []}
    status = values.mapping(raw.get("status"), "status")
    for entry in values.sequence(status.get("addresses"), "addresses", MAX_ADDRESSES):
        item = values.mapping(entry, "an address")
        kind = item.get("type")
        if isinstance(kind, str) and kind in by_type:
            by_type[kind].append(values.address(item.get("address"), "node address"))
    taints = values.sequence(spec.get("taints"), "taints", MAX_ENTRIES)
    return Node(
        values.subdomain(metadata.get("name"), "name"),
        values.label_value(
            values.mapping(metadata.get("labels"), "labels").get(ZONE_LABEL, ""),
            ZONE_LABEL,
        ),
        tuple(values.network(c, "podCIDR") for c in cidrs),
        tuple(by_type["InternalIP"] + by_type["ExternalIP"]),
        bool(metadata.get("deletionTimestamp"))
        or any(values.mapping(t, "a taint").get("key") == AUTOSCALER_TAINT for t in taints),
    )


def node_json(node: Node) -> dict[str, Any]:
    """The canonical object of a Node; its addresses all count as InternalIP, in their order."""
    return _filled(
        kind="Node",
        metadata=_filled(name=node.name, labels={ZONE_LABEL: node.zone} if node.zone else None),
        spec=_filled(
            podCIDRs=list(node.pod_cidrs),
            taints=[{"key": AUTOSCALER_TAINT}] if node.leaving else None,
        ),
        status=_filled(addresses=[{"type": "InternalIP", "address": a} for a in node.addresses]),
    )


def _read_namespace(raw: Mapping[str, Any]) -> str:
    return values.label(_metadata(raw).get("name"), "name")


def _read_pod(raw: Mapping[str, Any]) -> Pod:
    namespace, name = _namespaced(raw)
    status = values.mapping(raw.get("status"), "status")
    addresses = [
        values.address(values.mapping(entry, "a podIP").get("ip"), "podIP")
        for entry in values.sequence(status.get("podIPs"), "podIPs", MAX_ADDRESSES)
    ]
    if not addresses and status.get("podIP"):
        addresses = [values.address(status["podIP"], "podIP")]
    return Pod(namespace, name, tuple(addresses))


def pod_json(pod: Pod) -> dict[str, Any]:
    """The canonical object of a Pod."""
    return _filled(
        kind="Pod",
        metadata={"namespace": pod.namespace, "name": pod.name},
        status=_filled(podIPs=[{"ip": a} for a in pod.addresses]),
    )


def _read_service_cidr(raw: Mapping[str, Any]) -> ServiceCidr:
    spec = values.mapping(raw.get("spec"), "spec")
    return ServiceCidr(
        values.subdomain(_metadata(raw).get("name"), "name"),
        tuple(sorted(values.network(c, "cidrs") for c in values.sequence(spec.get("cidrs"), "cidrs", 2))),
    )


def service_cidr_json(cidr: ServiceCidr) -> dict[str, Any]:
    """The canonical object of a ServiceCIDR."""
    return {
        "kind": "ServiceCIDR",
        "metadata": {"name": cidr.name},
        "spec": {"cidrs": list(cidr.cidrs)},
    }


read_slice = _reader("EndpointSlice", _read_slice)
read_service = _reader("Service", _read_service)
read_node = _reader("Node", _read_node)
read_namespace = _reader("Namespace", _read_namespace)
read_pod = _reader("Pod", _read_pod)
read_service_cidr = _reader("ServiceCIDR", _read_service_cidr)

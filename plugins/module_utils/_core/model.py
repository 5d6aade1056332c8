# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of a cluster, read from Kubernetes JSON, checked, cut to what is used, and written canonically.

``read_*`` takes the JSON of one object, from an API server or from a snapshot line, and raises ``ObjectError`` for one
that is broken or hostile. ``*_json`` gives the canonical object: Kubernetes' own field names, nothing that is a
default, lists whose order means nothing sorted; reading that again gives an equal value.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import values
from .objects import filled, reader
from .objects import metadata as metadata_of
from .slices import MAX_ADDRESSES, MAX_ENTRIES, MAX_PORTS, EndpointSlice, read_slice, slice_json
from .values import Broken

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
ZONE_LABEL = "topology.kubernetes.io/zone"
OWN_ANNOTATIONS = "servicenet.kubenode.io/"
AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"
DEFAULT_AFFINITY_SECONDS = 10800


class ServicePort(NamedTuple):
    """A port of a Service; ``node_port`` 0 is none."""

    name: str
    protocol: str
    port: int
    node_port: int


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
    """A Node; ``addresses`` are its InternalIPs, then its ExternalIPs. ``leaving``: deleted, or about to be scaled
    away."""

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


def _namespaced(raw: Mapping[str, Any]) -> tuple[str, str]:
    metadata = metadata_of(raw)
    namespace = metadata.get("namespace")
    return (
        values.label("default" if namespace is None else namespace, "namespace"),
        values.subdomain(metadata.get("name"), "name"),
    )


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
    if len(ports) > 1:
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
    addresses = tuple([values.routable(a, "clusterIP") for a in given if a != ""])
    if len(addresses) == 2 and values.family(addresses[0]) == values.family(addresses[1]):
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
    metadata, spec = metadata_of(raw), values.mapping(raw.get("spec"), "spec")
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
        tuple(
            sorted([read_slice(s) for s in values.sequence(raw.get("endpointSlices"), "endpointSlices", MAX_ENTRIES)])
        ),
    )


def service_json(service: Service) -> dict[str, Any]:
    """The canonical object of a Service, its slices in the field ``endpointSlices``."""
    return filled(
        kind="Service",
        metadata=filled(
            namespace=service.namespace,
            name=service.name,
            labels=None if service.proxy_name is None else {PROXY_NAME_LABEL: service.proxy_name},
            annotations=dict(service.annotations),
        ),
        spec=filled(
            type=service.type,
            clusterIPs=["None"] if service.headless else list(service.cluster_ips),
            ports=[filled(name=p.name, protocol=p.protocol, port=p.port, nodePort=p.node_port) for p in service.ports],
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
    metadata, spec = metadata_of(raw), values.mapping(raw.get("spec"), "spec")
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
    return filled(
        kind="Node",
        metadata=filled(name=node.name, labels={ZONE_LABEL: node.zone} if node.zone else None),
        spec=filled(
            podCIDRs=list(node.pod_cidrs),
            taints=[{"key": AUTOSCALER_TAINT}] if node.leaving else None,
        ),
        status=filled(addresses=[{"type": "InternalIP", "address": a} for a in node.addresses]),
    )


def _read_namespace(raw: Mapping[str, Any]) -> str:
    return values.label(metadata_of(raw).get("name"), "name")


def _read_pod(raw: Mapping[str, Any]) -> Pod:
    namespace, name = _namespaced(raw)
    status = values.mapping(raw.get("status"), "status")
    addresses = [
        values.address(values.mapping(entry, "a podIP").get("ip"), "podIP")
        for entry in values.sequence(status.get("podIPs"), "podIPs", MAX_ADDRESSES)
    ]
    if not addresses and status.get("podIP"):
        addresses = [values.address(status["podIP"], "podIP")]
    if status.get("phase") in ("Succeeded", "Failed", "Unknown") or metadata_of(raw).get("deletionTimestamp"):
        addresses = []  # somebody else may have them by now, so they stand for no name
    return Pod(namespace, name, tuple(addresses))


def pod_json(pod: Pod) -> dict[str, Any]:
    """The canonical object of a Pod."""
    return filled(
        kind="Pod",
        metadata={"namespace": pod.namespace, "name": pod.name},
        status=filled(podIPs=[{"ip": a} for a in pod.addresses]),
    )


def _read_service_cidr(raw: Mapping[str, Any]) -> ServiceCidr:
    spec = values.mapping(raw.get("spec"), "spec")
    return ServiceCidr(
        values.subdomain(metadata_of(raw).get("name"), "name"),
        tuple(sorted(values.network(c, "cidrs") for c in values.sequence(spec.get("cidrs"), "cidrs", 2))),
    )


def service_cidr_json(cidr: ServiceCidr) -> dict[str, Any]:
    """The canonical object of a ServiceCIDR."""
    return {
        "kind": "ServiceCIDR",
        "metadata": {"name": cidr.name},
        "spec": {"cidrs": list(cidr.cidrs)},
    }


read_service = reader("Service", _read_service)
read_node = reader("Node", _read_node)
read_namespace = reader("Namespace", _read_namespace)
read_pod = reader("Pod", _read_pod)
read_service_cidr = reader("ServiceCIDR", _read_service_cidr)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services, Pods and Nodes as the endpoints controller needs them, read from Kubernetes JSON.

The snapshot's model drops what only a controller needs (labels, annotations, UIDs, owner references), so this
controller reads the raw objects: dicts as the API server returns them. A missing field has the API's default.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Dict, Iterable, Mapping

from .errors import ObjectError
from .objects import object_key

Object = Dict[str, Any]

IPV4 = "IPv4"
IPV6 = "IPv6"

SERVICE_NAME = "kubernetes.io/service-name"
SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ZONE = "topology.kubernetes.io/zone"

# Nodes with one of these labels have no share in topology-aware hints.
_CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

_QUANTITY = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([-+]?[0-9]{1,2})|([numkMGTPE]|[KMGTPE]i|))\Z", re.ASCII)
_SCALE = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("num", -3)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def family_of(address: str) -> str:
    """IPv4 or IPv6."""
    return IPV6 if ":" in address else IPV4


def key_of(item: Object) -> str:
    """namespace/name of an object, for messages; whatever the object looks like."""
    meta = item.get("metadata") if isinstance(item, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    names = [str(meta.get(part) or "")[:253] for part in ("namespace", "name")]
    return "/".join(names) if names[0] else names[1] or "without a name"


def labels_of(item: Object) -> dict[str, str]:
    """The labels of an object; never None."""
    return item["metadata"].get("labels") or {}


def annotations_of(item: Object) -> dict[str, str]:
    """The annotations of an object; never None."""
    return item["metadata"].get("annotations") or {}


@dataclass(frozen=True)
class ServicePort:
    """One port of a Service; `target` is a number or the name of a container's port."""

    name: str
    protocol: str
    target: Any
    app_protocol: str | None

    def resolved(self, number: int) -> Object:
        """The port of an EndpointSlice or of Endpoints."""
        made: Object = {"name": self.name, "port": number, "protocol": self.protocol}
        if self.app_protocol is not None:
            made["appProtocol"] = self.app_protocol
        return made


@dataclass(frozen=True)
class Service:
    """A Service; `selector` is None where its endpoints are somebody else's business."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    type: str
    selector: Mapping[str, str] | None
    ports: tuple[ServicePort, ...]
    headless: bool
    families: tuple[str, ...]
    publish_not_ready: bool
    traffic_distribution: str
    deleting: bool

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name

    @property
    def has_endpoints(self) -> bool:
        """Whether the controller computes this Service's endpoints from Pods."""
        return self.selector is not None and self.type != "ExternalName"

    @property
    def named_targets(self) -> bool:
        """Whether the numbers of the ports depend on the Pod."""
        return any(isinstance(port.target, str) for port in self.ports)


@dataclass(frozen=True)
class Pod:
    """A Pod; `addresses` maps a family to its address."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    node_name: str
    addresses: Mapping[str, str]
    ready: bool
    terminating: bool
    ended: bool
    hostname: str
    subdomain: str
    containers: list[Object] = field(repr=False)
    init_containers: list[Object] = field(repr=False)

    @property
    def admitted(self) -> bool:
        """Whether the Pod may be an endpoint at all; one that terminates still may."""
        return bool(self.addresses) and not self.ended

    def port_number(self, name: str, protocol: str) -> int | None:
        """The number of the container port of that name and protocol; sidecars count, other init containers do not."""
        sidecars = [each for each in self.init_containers if each.get("restartPolicy") == "Always"]
        for container in self.containers + sidecars:
            for port in container.get("ports") or ():
                if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                    return int(port["containerPort"])
        return None

    def hostname_for(self, service: Service) -> str:
        """The host name under which the Service publishes this Pod, or nothing."""
        same = self.subdomain == service.name and self.namespace == service.namespace
        return self.hostname if same else ""

    def reference(self) -> Object:
        """The targetRef of an endpoint."""
        made = {"kind": "Pod", "name": self.name, "namespace": self.namespace}
        if self.uid:
            made["uid"] = self.uid
        return made


@dataclass(frozen=True)
class Node:
    """A Node; `cpu` is the allocatable CPU in thousandths of a core, 0 where it is not known."""

    name: str
    zone: str
    ready: bool
    control_plane: bool
    cpu: int


def _ready(status: Object) -> bool:
    """Whether the condition Ready is True."""
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ())


def _families(spec: Object) -> tuple[str, ...]:
    """The families of a Service; an object of an old cluster has none listed."""
    listed = tuple(spec.get("ipFamilies") or ())
    if listed:
        return listed
    address = spec.get("clusterIP") or ""
    if address == "None":
        return (IPV4, IPV6)
    return (family_of(address),)


def _port(port: Object) -> ServicePort:
    target = port.get("targetPort")
    if target in (None, "", 0):
        target = port["port"]
    return ServicePort(port.get("name") or "", port.get("protocol") or "TCP", target, port.get("appProtocol"))


def read_service(item: Object) -> Service:
    """Read a Service. Raises ObjectError."""
    try:
        meta, spec = item["metadata"], item["spec"]
        address = spec.get("clusterIP") or ""
        return Service(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            uid=meta.get("uid") or "",
            labels=dict(meta.get("labels") or {}),
            annotations=dict(meta.get("annotations") or {}),
            type=spec.get("type") or "ClusterIP",
            selector=dict(spec["selector"]) if spec.get("selector") else None,
            ports=tuple(_port(port) for port in spec.get("ports") or ()),
            headless=address in ("", "None"),
            families=_families(spec),
            publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
            traffic_distribution=spec.get("trafficDistribution") or "",
            deleting=bool(meta.get("deletionTimestamp")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ObjectError("Service", object_key(item), f"it can't be read ({type(error).__name__}: {error}).") from None


def read_pod(item: Object) -> Pod:
    """Read a Pod. Raises ObjectError."""
    try:
        meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
        listed = [each["ip"] for each in status.get("podIPs") or () if each.get("ip")]
        if not listed and status.get("podIP"):
            listed = [status["podIP"]]
        addresses: dict[str, str] = {}
        for address in listed:
            addresses.setdefault(family_of(address), address)
        return Pod(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            uid=meta.get("uid") or "",
            labels=meta.get("labels") or {},
            node_name=spec.get("nodeName") or "",
            addresses=addresses,
            ready=_ready(status),
            terminating=bool(meta.get("deletionTimestamp")),
            ended=status.get("phase") in ("Succeeded", "Failed"),
            hostname=spec.get("hostname") or "",
            subdomain=spec.get("subdomain") or "",
            containers=spec.get("containers") or [],
            init_containers=spec.get("initContainers") or [],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ObjectError("Pod", object_key(item), f"it can't be read ({type(error).__name__}: {error}).") from None


def _cpu(value: Any) -> int:
    """A Kubernetes quantity of CPU in thousandths of a core, rounded up; 0 for what is none."""
    match = _QUANTITY.match(str(value))
    if not match:
        return 0
    number, exponent, suffix = match.groups()
    scale = _SCALE[suffix] if exponent is None else Decimal(10) ** int(exponent)
    return int((Decimal(number) * scale * 1000).to_integral_value(rounding="ROUND_CEILING"))


def read_node(item: Object) -> Node:
    """Read a Node. Raises ObjectError."""
    try:
        meta, status = item["metadata"], item.get("status") or {}
        labels = meta.get("labels") or {}
        return Node(
            name=meta["name"],
            zone=labels.get(ZONE) or "",
            ready=_ready(status),
            control_plane=any(label in labels for label in _CONTROL_PLANE_LABELS),
            cpu=_cpu((status.get("allocatable") or {}).get("cpu") or 0),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ObjectError("Node", object_key(item), f"it can't be read ({type(error).__name__}: {error}).") from None


class PodIndex:
    """Pods by namespace and label, so that a selector costs as much as its rarest label, not as all Pods."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._by_label: dict[tuple[str, str, str], list[Pod]] = {}
        for pod in sorted(pods, key=lambda each: (each.namespace, each.name)):
            for label, value in pod.labels.items():
                self._by_label.setdefault((pod.namespace, label, value), []).append(pod)

    def select(self, service: Service) -> list[Pod]:
        """The Pods that a Service's selector matches, ordered by name."""
        if not service.selector:
            return []
        found = [self._by_label.get((service.namespace, *pair), []) for pair in service.selector.items()]
        fewest = min(found, key=len)
        if len(found) == 1:
            return fewest
        wanted = service.selector.items()
        return [pod for pod in fewest if all(pod.labels.get(label) == value for label, value in wanted)]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which Pods are endpoints of a Service, with which ports and conditions: the endpoints of its EndpointSlices.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence, Tuple

from .endpoint_objects import Node, Object, Pod, Service

# Name, protocol, number and application protocol of each port, sorted: equal for slices that belong together.
PortsKey = Tuple[Tuple[str, str, int, str], ...]
# What makes two endpoints the same one: addresses, host name, namespace and name of the target.
Identity = Tuple[Tuple[str, ...], str, str, str]


class Group(NamedTuple):
    """The endpoints of a Service that share their ports, by identity."""

    ports: list[Object]
    endpoints: dict[Identity, Object]


def ports_key(ports: Sequence[Mapping[str, Any]]) -> PortsKey:
    """The key of a list of ports, whatever their order and spelling."""
    return tuple(
        sorted(
            (
                port.get("name") or "",
                port.get("protocol") or "TCP",
                port.get("port") or 0,
                port.get("appProtocol") or "",
            )
            for port in ports
        )
    )


def identity(endpoint: Object) -> Identity:
    """The identity of an endpoint of a slice."""
    target = endpoint.get("targetRef") or {}
    return (
        tuple(sorted(endpoint["addresses"])),
        endpoint.get("hostname") or "",
        target.get("namespace") or "",
        target.get("name") or "",
    )


def resolved_ports(service: Service, pod: Pod) -> list[Object]:
    """The ports that a Pod offers to a Service; a named target that the Pod does not have is left out."""
    made = []
    for port in service.ports:
        number = pod.port_number(port.target, port.protocol) if isinstance(port.target, str) else port.target
        if number is not None:
            made.append(port.resolved(number))
    return made


def _endpoint(service: Service, pod: Pod, node: Node | None, family: str) -> Object:
    """The endpoint that a Pod is in a slice."""
    made: Object = {
        "addresses": [pod.addresses[family]],
        "conditions": {
            # A Pod that terminates is never ready, unless the Service publishes everything.
            "ready": service.publish_not_ready or (pod.ready and not pod.terminating),
            "serving": pod.ready,
            "terminating": pod.terminating,
        },
        "targetRef": pod.reference(),
    }
    if pod.node_name:
        made["nodeName"] = pod.node_name
    if node is not None and node.zone:
        made["zone"] = node.zone
    hostname = pod.hostname_for(service)
    if hostname:
        made["hostname"] = hostname
    return made


def slice_groups(
    service: Service, pods: Sequence[Pod], nodes: Mapping[str, Node], family: str
) -> dict[PortsKey, Group]:
    """The endpoints of one family of a Service, grouped by their ports.

    :param pods: those that the selector matches, in the order in which new slices are filled.
    :param nodes: by name; a Pod on none of them is left out, unless the Service publishes everything.
    """
    made: dict[PortsKey, Group] = {}
    fixed = None if service.named_targets else [port.resolved(port.target) for port in service.ports]
    fixed_key = None if fixed is None else ports_key(fixed)
    for pod in pods:
        if not pod.admitted:
            continue
        ports = resolved_ports(service, pod) if fixed is None else fixed
        key = ports_key(ports) if fixed_key is None else fixed_key
        # A group without endpoints still says that slices with these ports are wanted.
        group = made.setdefault(key, Group(ports, {}))
        node = nodes.get(pod.node_name)
        if (node is None and not service.publish_not_ready) or family not in pod.addresses:
            continue
        endpoint = _endpoint(service, pod, node, family)
        group.endpoints[identity(endpoint)] = endpoint
    return made

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters made by hand for the twin labs: one or two Services, whose endpoints a test moves."""

from __future__ import annotations

from typing import Any

from conformance.packets.packet_lab import NODE_IPS, PODS
from conformance.random.clusters import POD_CIDRS, ZONES, node

OPTIONS: dict[str, Any] = {
    "node_name": "node-a",
    "zone": "z1",
    "node_ips": NODE_IPS,
    "pod_cidrs": POD_CIDRS["node-a"],
    "detect_local_mode": "ClusterCIDR",
    "cluster_cidrs": ["10.128.0.0/9", "fd80::/16"],
    "masquerade_all": False,
    "nodeport_addresses": None,
    "localhost_nodeports": True,
}
NODES = [node(name, OPTIONS) for name in ZONES]
VIP, PORT, NODE_PORT, TARGET_PORT = "10.96.2.1", 80, 30500, 8080


def service(name: str = "web", address: str = VIP, protocol: str = "TCP", **spec: Any) -> dict[str, Any]:
    """A Service of one port and one IPv4 ClusterIP; a NodePort has NODE_PORT."""
    port = {"protocol": protocol, "port": PORT, "targetPort": TARGET_PORT}
    if spec.get("type") == "NodePort":
        port["nodePort"] = NODE_PORT
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ports": [port]} | spec,
    }


def endpoints(*pods: str, leaving: bool = False) -> list[dict[str, Any]]:
    """The endpoints of a slice; all of them terminating if they are `leaving`."""
    conditions = {"ready": not leaving, "serving": True, "terminating": leaving}
    return [{"addresses": [PODS[pod][0]], "conditions": conditions, "nodeName": PODS[pod][2]} for pod in pods]


def endpoint_slice(*pods: str, name: str = "web", protocol: str = "TCP") -> dict[str, Any]:
    """The one EndpointSlice of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": endpoints(*pods),
        "ports": [{"name": "", "protocol": protocol, "port": TARGET_PORT}],
    }

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters for property tests: of few addresses, ports and names, so that Services collide and share."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

VIPS = {
    4: [f"10.96.{i % 3}.{10 + i % 4}" for i in range(10)],
    6: [f"fd00:10:96::{i % 3}:{16 + i % 4:x}" for i in range(10)],
}
PODS = {4: [f"10.128.0.{i}" for i in range(1, 9)], 6: [f"fd80::{i:x}" for i in range(1, 9)]}


def _named(names: list[str], most: int) -> st.SearchStrategy[list[dict[str, str]]]:
    return st.lists(st.sampled_from([{"name": name} for name in names]), max_size=most)


# Strategies are made here, once: to make one takes far longer than to draw from it.
_CONDITION = st.none() | st.booleans()
_ENDPOINT = {
    "conditions": st.fixed_dictionaries({"ready": _CONDITION, "serving": _CONDITION, "terminating": _CONDITION}),
    "nodeName": st.sampled_from(["node-a", "node-b", None]),
    "hints": st.fixed_dictionaries(
        {"forZones": _named(["z1", "z2"], most=2), "forNodes": _named(["node-a", "node-b"], most=1)}
    ),
}
_ENDPOINTS = {
    family: st.lists(
        st.fixed_dictionaries({"addresses": st.sampled_from([[address] for address in addresses]), **_ENDPOINT}),
        max_size=7,
    )
    for family, addresses in PODS.items()
}
_SLICE_FAMILY = st.sampled_from([4, 4, 6])
_SLICE_PORT = st.sampled_from([8080, 8443])
_SLICES = st.integers(0, 3)
_PORTS = st.lists(
    st.tuples(st.sampled_from(["TCP", "UDP", "SCTP"]), st.sampled_from([80, 443, 53])),
    min_size=1,
    max_size=3,
    unique=True,
)
_NODE_PORT = st.sampled_from([0, 0, 30001, 30002, 30100])
_FAMILIES = st.sampled_from([[4], [6], [4, 6]])
_CLUSTER_IP = {family: st.sampled_from(addresses) for family, addresses in VIPS.items()}
_ADDRESSES = st.lists(st.sampled_from(VIPS[4] + VIPS[6]), max_size=2)
_ONE_IN_NINE = st.integers(0, 8).map(lambda n: n == 0)
_POLICY = st.sampled_from(["Cluster", "Local"])
_REST_OF_SPEC = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
        "externalIPs": _ADDRESSES,
        "loadBalancerSourceRanges": st.lists(st.sampled_from(["198.18.0.0/16", "fd98::/16"]), max_size=2),
        "sessionAffinity": st.sampled_from(["None", "None", "ClientIP"]),
        "internalTrafficPolicy": _POLICY,
        "externalTrafficPolicy": _POLICY,
    }
)
_ZONE = st.sampled_from(["z1", "z1", "z1", "z2"])


def _slice(draw: st.DrawFn, service: str, name: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    """One EndpointSlice of a Service in namespace shop."""
    family = draw(_SLICE_FAMILY)
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": f"IPv{family}",
        "ports": [{"name": p["name"], "protocol": p["protocol"], "port": draw(_SLICE_PORT)} for p in ports],
        "endpoints": draw(_ENDPOINTS[family]),
    }


def _service(draw: st.DrawFn, name: str) -> list[dict[str, Any]]:
    """A Service and its slices. Its ports are distinct, its addresses and node ports may be another Service's."""
    ports = [
        {"name": f"p{i}", "protocol": protocol, "port": number, "nodePort": draw(_NODE_PORT)}
        for i, (protocol, number) in enumerate(draw(_PORTS))
    ]
    cluster_ips = ["None"] if draw(_ONE_IN_NINE) else [draw(_CLUSTER_IP[family]) for family in draw(_FAMILIES)]
    metadata: dict[str, Any] = {"namespace": "shop", "name": name}
    if draw(_ONE_IN_NINE):
        metadata["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    service = {
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIPs": cluster_ips, "ports": ports, **draw(_REST_OF_SPEC)},
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in draw(_ADDRESSES)]}},
    }
    return [service, *[_slice(draw, name, f"{name}-{i}", ports) for i in range(draw(_SLICES))]]


def node(name: str = "node-a", zone: str = "z1") -> dict[str, Any]:
    """The Node that is programmed."""
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": ["10.128.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "198.18.1.1"}]},
    }


@st.composite
def _clusters(draw: st.DrawFn, names: st.SearchStrategy[list[str]]) -> list[dict[str, Any]]:
    objects = [node(zone=draw(_ZONE))]
    for name in draw(names):
        objects += _service(draw, name)
    return draw(st.permutations(objects))


@cache
def clusters(most: int = 6) -> st.SearchStrategy[list[dict[str, Any]]]:
    """All objects of a cluster of at most so many Services, in any order."""
    return _clusters(st.lists(st.sampled_from([f"svc-{i}" for i in range(most)]), max_size=most, unique=True))

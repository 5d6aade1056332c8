# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters for property tests: of few addresses, ports and names, so that Services collide and share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

PROTOCOLS = st.sampled_from(["TCP", "UDP", "SCTP"])
VIPS = {
    4: [f"10.96.{i % 3}.{10 + i % 4}" for i in range(10)],
    6: [f"fd00:10:96::{i % 3}:{16 + i % 4:x}" for i in range(10)],
}
PODS = {4: [f"10.128.0.{i}" for i in range(1, 9)], 6: [f"fd80::{i:x}" for i in range(1, 9)]}
NODES = ["node-a", "node-b", None]


def _maybe(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | value


@st.composite
def endpoints(draw: st.DrawFn, family: int) -> dict[str, Any]:
    """One endpoint of a slice."""
    zones = draw(st.lists(st.sampled_from(["z1", "z2"]), max_size=2))
    nodes = draw(st.lists(st.sampled_from(["node-a", "node-b"]), max_size=1))
    return {
        "addresses": [draw(st.sampled_from(PODS[family]))],
        "conditions": {
            "ready": draw(_maybe(st.booleans())),
            "serving": draw(_maybe(st.booleans())),
            "terminating": draw(_maybe(st.booleans())),
        },
        "nodeName": draw(st.sampled_from(NODES)),
        "hints": {"forZones": [{"name": z} for z in zones], "forNodes": [{"name": n} for n in nodes]},
    }


@st.composite
def slices(draw: st.DrawFn, service: str, name: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    """One EndpointSlice of a Service in namespace shop."""
    family = draw(st.sampled_from([4, 4, 6]))
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": f"IPv{family}",
        "ports": [
            {"name": p["name"], "protocol": p["protocol"], "port": draw(st.sampled_from([8080, 8443]))} for p in ports
        ],
        "endpoints": draw(st.lists(endpoints(family), max_size=7)),
    }


@st.composite
def services(draw: st.DrawFn, name: str) -> list[dict[str, Any]]:
    """A Service and its slices. Its ports are distinct, its addresses and node ports may be another Service's."""
    numbers = draw(st.lists(st.tuples(PROTOCOLS, st.sampled_from([80, 443, 53])), min_size=1, max_size=3, unique=True))
    ports = [
        {
            "name": f"p{i}",
            "protocol": protocol,
            "port": number,
            "nodePort": draw(st.sampled_from([0, 0, 30001, 30002, 30100])),
        }
        for i, (protocol, number) in enumerate(numbers)
    ]
    families = draw(st.sampled_from([[4], [6], [4, 6]]))
    spec = {
        "type": draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])),
        "clusterIPs": draw(st.sampled_from([["None"], *[[draw(st.sampled_from(VIPS[f])) for f in families]] * 8])),
        "ports": ports,
        "externalIPs": draw(st.lists(st.sampled_from(VIPS[4] + VIPS[6]), max_size=2)),
        "loadBalancerSourceRanges": draw(st.lists(st.sampled_from(["198.18.0.0/16", "fd98::/16"]), max_size=2)),
        "sessionAffinity": draw(st.sampled_from(["None", "None", "ClientIP"])),
        "internalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
        "externalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
    }
    metadata: dict[str, Any] = {"namespace": "shop", "name": name}
    if draw(st.integers(0, 9)) == 0:
        metadata["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    ingress = draw(st.lists(st.sampled_from(VIPS[4] + VIPS[6]), max_size=2))
    service = {
        "kind": "Service",
        "metadata": metadata,
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress]}},
    }
    count = draw(st.integers(0, 3))
    return [service, *[draw(slices(name, f"{name}-{i}", ports)) for i in range(count)]]


def node(name: str = "node-a", zone: str = "z1") -> dict[str, Any]:
    """The Node that is programmed."""
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": ["10.128.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "198.18.1.1"}]},
    }


@st.composite
def clusters(draw: st.DrawFn, most: int = 6) -> list[dict[str, Any]]:
    """All objects of a cluster, in any order."""
    names = draw(st.lists(st.sampled_from([f"svc-{i}" for i in range(most)]), max_size=most, unique=True))
    objects = [node(zone=draw(st.sampled_from(["z1", "z1", "z1", "z2"])))]
    for name in names:
        objects += draw(services(name))
    return draw(st.permutations(objects))

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters to ask about: one with every case of the DNS specification, and random ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]
HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}
UPSTREAM_NAME = "www.outside.example"


def namespace(name: str) -> Manifest:
    """A Namespace."""
    return {"kind": "Namespace", "metadata": {"name": name}}


def service(space: str, name: str, **spec: Any) -> Manifest:
    """A Service; `headless=True` for one without a ClusterIP."""
    spec.setdefault("ports", [HTTP])
    if spec.pop("headless", False):
        spec |= {"clusterIP": "None", "clusterIPs": ["None"]}
    if spec.get("ipFamilies") == ["IPv4", "IPv6"]:
        spec["ipFamilyPolicy"] = "RequireDualStack"
    return {"kind": "Service", "metadata": {"namespace": space, "name": name}, "spec": spec}


def alias(space: str, name: str, target: str) -> Manifest:
    """A Service of type ExternalName."""
    return service(space, name, type="ExternalName", externalName=target, ports=[])


def endpoint(*addresses: str, ready: bool | None = True, **more: Any) -> Manifest:
    """An endpoint of a slice."""
    return {"addresses": list(addresses), "conditions": {} if ready is None else {"ready": ready}, **more}


def endpoint_slice(
    space: str, of: str, suffix: str, *endpoints: Manifest, ports: Any = (HTTP,), family: int = 4
) -> Manifest:
    """An EndpointSlice of a Service."""
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": space, "name": f"{of}-{suffix}", "labels": {"kubernetes.io/service-name": of}},
        "addressType": f"IPv{family}",
        "ports": list(ports),
        "endpoints": list(endpoints),
    }


def pod(space: str, name: str, *addresses: str, phase: str = "Running", finalizer: bool = False) -> Manifest:
    """A Pod with addresses; one with a finalizer stays there, terminating, when it is deleted."""
    metadata: Manifest = {"namespace": space, "name": name}
    if finalizer:
        metadata["finalizers"] = ["servicenet.kubenode.io/test"]
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0},
        "status": {"phase": phase, "podIP": addresses[0], "podIPs": [{"ip": a} for a in addresses]},
    }


def every_case() -> list[Manifest]:
    """One cluster with every case."""
    return [
        namespace("shop"),
        namespace("empty"),
        service("shop", "web", ports=[HTTP, {"name": "metrics", "port": 9090, "protocol": "TCP"}]),
        endpoint_slice("shop", "web", "a", endpoint("10.128.0.10"), endpoint("10.128.0.11", hostname="front")),
        service("shop", "unnamed", ports=[{"port": 8443}]),
        service("shop", "six", ipFamilies=["IPv6"], ports=[HTTP, DNS]),
        service("shop", "both", ipFamilies=["IPv4", "IPv6"], ports=[HTTP, DNS]),
        service("shop", "node", type="NodePort"),
        service("shop", "balanced", type="LoadBalancer", externalIPs=["198.18.0.9"]),
        service("shop", "nobody", selector={"app": "nobody"}),
        service("shop", "names", ports=[{"name": "p" * 62, "port": 1, "protocol": "SCTP"}, {"name": "tcp", "port": 2}]),
        # headless, without and with selectors
        service("shop", "db", headless=True, ports=[HTTP, DNS]),
        endpoint_slice(
            "shop",
            "db",
            "a",
            endpoint("10.128.1.1", hostname="db-0"),
            endpoint("10.128.1.2", hostname="db-1"),
            endpoint("10.128.1.3", ready=None),
            endpoint("10.128.1.4", ready=False, hostname="db-3"),
            ports=[{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
        ),
        endpoint_slice(
            "shop",
            "db",
            "b",
            endpoint("fd00:128::1", hostname="db-0"),
            endpoint("fd00:128::2"),
            family=6,
            ports=[{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "only-six", "port": 66}],
        ),
        service("shop", "selected", headless=True, selector={"app": "selected"}),
        endpoint_slice("shop", "selected", "a", endpoint("10.128.2.1"), endpoint("10.128.2.2", "10.128.2.3")),
        # a rolling update: the same endpoint in two slices with other ports
        endpoint_slice(
            "shop", "selected", "b", endpoint("10.128.2.1"), ports=[{"name": "http", "port": 81, "protocol": "TCP"}]
        ),
        service("shop", "portless", headless=True, ports=[]),
        endpoint_slice(
            "shop",
            "portless",
            "a",
            endpoint("10.128.3.1", hostname="one"),
            endpoint("10.128.3.2", hostname="one"),
            ports=[],
        ),
        service("shop", "any-port", headless=True),
        endpoint_slice("shop", "any-port", "a", endpoint("10.128.3.9"), ports=[{"name": "", "port": None}]),
        service("shop", "down", headless=True),
        endpoint_slice("shop", "down", "a", endpoint("10.128.4.1", ready=False)),
        service("shop", "bare", headless=True),
        service("shop", "only-six", headless=True, ipFamilies=["IPv6"]),
        endpoint_slice(
            "shop", "only-six", "a", endpoint("fd00:128:5::"), endpoint("fd00:128:5::7", hostname="seven"), family=6
        ),
        # two Services with one endpoint
        service("shop", "twin", headless=True),
        endpoint_slice("shop", "twin", "a", endpoint("10.128.1.1", hostname="other"), endpoint("198.18.9.9")),
        # big answers
        service("shop", "wide", headless=True),
        *[
            endpoint_slice("shop", "wide", f"{block}", *[endpoint(f"10.129.{block}.{i}") for i in range(90)])
            for block in range(3)
        ],
        # aliases
        alias("shop", "outside", UPSTREAM_NAME),
        alias("shop", "outside-dot", f"{UPSTREAM_NAME}."),
        alias("shop", "outside-gone", "gone.outside.example"),
        alias("shop", "inside", "web.shop.svc.cluster.local"),
        alias("shop", "inside-twice", "inside.shop.svc.cluster.local"),
        alias("shop", "inside-headless", "db.shop.svc.cluster.local"),
        alias("shop", "inside-gone", "gone.shop.svc.cluster.local"),
        alias("shop", "literal", "10.1.2.3"),
        alias("shop", "loop-a", "loop-b.shop.svc.cluster.local"),
        alias("shop", "loop-b", "loop-a.shop.svc.cluster.local"),
        alias("shop", "self", "self.shop.svc.cluster.local"),
        # Pods
        pod("shop", "running", "10.128.7.1"),
        pod("shop", "both", "10.128.7.2", "fd00:128:7::2"),
        pod("shop", "six", "fd00:128:7::3"),
        pod("shop", "done", "10.128.7.4", phase="Succeeded"),
        pod("shop", "failed", "10.128.7.5", phase="Failed"),
        pod("shop", "leaving", "10.128.7.6", finalizer=True),
        pod("shop", "pending", "10.128.7.7", phase="Pending"),
        pod("empty", "same-address", "10.128.7.1"),
    ]


def random_cluster(seed: int, services: int) -> Iterator[Manifest]:
    """A random cluster in namespaces of its own."""
    chance = random.Random(seed)
    spaces = [f"random-{seed}-{i}" for i in range(3)]
    yield from map(namespace, spaces)
    for number in range(services):
        space, name = chance.choice(spaces), f"s{number}"
        names = chance.sample(["http", "dns", "x-1", "metrics"], chance.randint(1, 3))
        ports = [
            {"name": n, "port": chance.randint(1, 65535), "protocol": chance.choice(["TCP", "UDP"])} for n in names
        ]
        kind = chance.random()
        if kind < 0.15:
            yield alias(
                space,
                name,
                chance.choice(
                    [UPSTREAM_NAME, f"s{chance.randrange(services)}.{chance.choice(spaces)}.svc.cluster.local"]
                ),
            )
            continue
        families = chance.choice([["IPv4"], ["IPv6"], ["IPv4", "IPv6"]])
        yield service(space, name, headless=kind < 0.6, ipFamilies=families, ports=ports)
        for block in range(chance.randint(0, 3)):
            family = chance.choice([4, 6])
            prefix = "10.130" if family == 4 else "fd00:130:"
            listed = [
                endpoint(
                    f"{prefix}.{number}.{chance.randrange(40)}"
                    if family == 4
                    else f"{prefix}{number + 1}::{chance.randrange(1, 40):x}",
                    ready=chance.choice([True, True, None, False]),
                    **({"hostname": f"h{chance.randrange(6)}"} if chance.random() < 0.4 else {}),
                )
                for _each in range(chance.randint(0, 6))
            ]
            slice_ports = chance.choice([ports, [p | {"port": chance.randint(1, 65535)} for p in ports], []])
            yield endpoint_slice(space, name, f"{block}", *_distinct(listed), ports=slice_ports, family=family)


def _distinct(endpoints: list[Manifest]) -> list[Manifest]:
    return list({e["addresses"][0]: e for e in endpoints}.values())

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cases for the twin clusters besides the recorded ones: what is applied and deleted, step by step.

A case has the namespace `shop` and its Nodes for itself.
"""

from __future__ import annotations

from typing import NamedTuple

from integration.endpoints_lab import plain_pod, plain_service

from conformance.endpoints.builders import endpoints, node

HOLD = ["conformance.test/hold"]
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
CAPACITY = 1000


class Step(NamedTuple):
    """What happens before both controllers run; ``delete``: (kind, name) of what is in the namespace, or a Node."""

    apply: list[dict]
    delete: list[tuple[str, str]]


def _named(name: str, number: int, **port) -> dict:
    return {"name": name, "containerPort": number, **port}


def _held(number: int, **options) -> dict:
    """A Pod that stays, terminating, once it is deleted."""
    return plain_pod(number, finalizers=HOLD, **options)


def _with_address(number: int, address: str, **options) -> dict:
    made = plain_pod(number, **options)
    made["status"].update(podIP=address, podIPs=[{"ip": address}])
    return made


def _sidecar(number: int, restart: str | None) -> dict:
    """A Pod whose init container has a port; it goes on beside the others if its policy is Always."""
    made = plain_pod(number)
    side = {"name": "side", "image": "example.test/side", "ports": [_named("http", 8081)]}
    made["spec"]["initContainers"] = [{**side, "restartPolicy": restart} if restart else side]
    return made


def _slice(name: str, family: str, address: str, manager: str | None) -> dict:
    """A slice that somebody else writes."""
    label = {"endpointslice.kubernetes.io/managed-by": manager} if manager else {}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": "web", **label}},
        "addressType": family,
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


def _by_hand(name: str, *subsets: dict, **meta) -> list[dict]:
    """A Service without a selector, and its Endpoints."""
    return [plain_service(name, selector=None), {**endpoints(name, **meta), "subsets": list(subsets)}]


def _subset(ready: list[str], not_ready: list[str] | None = None, port: int = 80) -> dict:
    return {
        "addresses": [{"ip": each} for each in ready],
        **({"notReadyAddresses": [{"ip": each} for each in not_ready]} if not_ready else {}),
        "ports": [{"port": port, "protocol": "TCP"}],
    }


_NAMED_PORT = [{"port": 53, "protocol": "UDP", "targetPort": "dns"}]
_HTTP = [{"port": 80, "protocol": "TCP", "targetPort": "http"}]
_READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def _zones(*cpus: tuple[str, str]) -> list[dict]:
    """A Node in each zone, with its CPU."""
    return [node(f"node-{number}", zone, cpu) for number, (zone, cpu) in enumerate(cpus)]


def _auto(value: str, name: str = "web") -> dict:
    return plain_service(name, selector={"app": "web"}, annotations={TOPOLOGY_MODE: value})


# Those that run together, each in a namespace of its own.
TOGETHER: dict[str, list[Step]] = {
    "phases": [
        Step(
            [
                node(),
                plain_service(),
                plain_service("all", selector={"app": "web"}, publishNotReadyAddresses=True),
                *(plain_pod(n, phase=phase) for n, phase in enumerate(("Running", "Pending", "Succeeded", "Failed"))),
            ],
            [],
        )
    ],
    "named-port-protocol": [
        Step(
            [
                node(),
                plain_service(ports=_NAMED_PORT),
                plain_pod(1, ports=[_named("dns", 53, protocol="TCP"), _named("dns-udp", 5353, protocol="UDP")]),
                plain_pod(2, ports=[_named("dns", 5353, protocol="UDP")]),
            ],
            [],
        )
    ],
    "named-port-of-init-containers": [
        Step([node(), plain_service(ports=_HTTP), _sidecar(1, "Always"), _sidecar(2, None)], [])
    ],
    "shared-address": [
        Step(
            [
                node(),
                plain_service(),
                _with_address(1, "10.20.1.1"),
                _with_address(2, "10.20.1.1", ready=False),
                _with_address(3, "10.20.1.1"),
            ],
            [],
        )
    ],
    "touched-pod": [
        Step([node(), plain_service(), plain_pod(1)], []),
        Step([plain_pod(1, annotations={"note": "new"}, labels={"app": "web", "other": "label"})], []),
    ],
    "labels-change": [
        Step([node(), plain_service(labels={"a": "1", "b": "2"}), *(plain_pod(n) for n in range(4))], []),
        Step([plain_service(labels={"a": "3"})], []),
        Step([plain_service()], []),
    ],
    "application-protocol": [
        Step([node(), plain_service(), plain_pod(1), plain_pod(2)], []),
        Step(
            [plain_service(ports=[{"port": 80, "protocol": "TCP", "targetPort": 80, "appProtocol": "example.test/x"}])],
            [],
        ),
    ],
    # At most three endpoints a slice here.
    "packing": [
        Step([node(), plain_service(), *(plain_pod(n) for n in range(8))], []),
        Step([plain_pod(8)], []),
        Step([plain_pod(9), plain_pod(10)], [("Pod", "web-0"), ("Pod", "web-5")]),
        Step([], [("Pod", f"web-{n}") for n in (1, 2, 3, 4, 6)]),
    ],
    "other-managers-slices": [
        Step(
            [
                node(),
                plain_service(),
                plain_pod(1),
                _slice("web-hand", "IPv4", "10.20.9.9", None),
                _slice("web-tool", "IPv4", "10.20.9.8", "tool.example"),
                _slice("web-names", "FQDN", "db.example.org", "tool.example"),
            ],
            [],
        ),
        Step([], [("Pod", "web-1")]),
    ],
    "node-deleted": [
        Step(
            [
                node(),
                node("node-b", "zone-2"),
                plain_service(),
                plain_service("all", selector={"app": "web"}, publishNotReadyAddresses=True),
                plain_pod(1),
                plain_pod(2, node="node-b"),
            ],
            [],
        ),
        Step([], [("Node", "node-b")]),
    ],
    "publish-toggled": [
        Step([node(), plain_service(), plain_pod(1), plain_pod(2, ready=False), _held(3)], []),
        Step([plain_service(publishNotReadyAddresses=True)], [("Pod", "web-3")]),
        Step([plain_service()], []),
    ],
    "distribution-without-zones": [
        Step(
            [
                node(zone=""),
                node("node-b", "zone-2"),
                *(
                    plain_service(value.lower(), selector={"app": "web"}, trafficDistribution=value)
                    for value in ("PreferClose", "PreferSameZone", "PreferSameNode")
                ),
                plain_pod(1),
                plain_pod(2, node="node-b"),
                plain_pod(3, node="node-b", ready=False),
            ],
            [],
        ),
        Step([plain_service("preferclose", selector={"app": "web"})], []),
    ],
    "selectorless-headless": [
        Step(
            [
                plain_service("db", selector=None, clusterIP="None"),
                {**endpoints("db"), "subsets": [_subset(["10.20.9.1"], ["10.20.9.2"])]},
            ],
            [],
        )
    ],
    "mirror-skipped": [
        Step(
            [
                *_by_hand("a", _subset(["10.20.9.1"]), labels={"endpointslice.kubernetes.io/skip-mirror": "true"}),
                *_by_hand("b", _subset(["10.20.9.1"]), labels={"endpointslice.kubernetes.io/skip-mirror": "True"}),
                *_by_hand("c", _subset(["10.20.9.1"]), annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}),
                *_by_hand("d", _subset(["10.20.9.1"])),
            ],
            [],
        ),
        Step(
            [endpoints("a"), endpoints("d", labels={"endpointslice.kubernetes.io/skip-mirror": "true"})],
            [],
        ),
    ],
    "mirror-changes": [
        Step(_by_hand("db", _subset(["10.20.9.1"]), labels={"x": "1"}, annotations={"note": "1"}), []),
        Step(_by_hand("db", _subset(["10.20.9.1", "10.20.9.2"]), labels={"x": "2"})[1:], []),
        Step(_by_hand("db", _subset(["10.20.9.1"], port=81), _subset(["fd00:20::9"], port=82))[1:], []),
        Step(_by_hand("db")[1:], []),
    ],
    "mirror-empty": [Step([*_by_hand("none"), *_by_hand("unready", _subset([], ["10.20.9.1"]))], [])],
    "mirror-ready-and-not": [Step(_by_hand("db", _subset(["10.20.9.1"], ["10.20.9.1", "10.20.9.2"])), [])],
    "mirror-shared-ports": [
        Step(_by_hand("db", _subset(["10.20.9.1"]), _subset(["10.20.9.2"]), _subset(["10.20.9.1"], port=81)), [])
    ],
    "recreated-service": [
        Step([node(), plain_service(), plain_pod(1)], []),
        Step([], [("Service", "web")]),
        Step([plain_service(ports=[{"port": 90, "protocol": "TCP", "targetPort": 90}])], []),
    ],
}

# Those that count all Nodes there are: topology-mode Auto.
ALONE: dict[str, list[Step]] = {
    "topology-values": [
        Step(
            [
                *_zones(("zone-1", "4"), ("zone-2", "4")),
                *(_auto(value, value.lower() + str(n)) for n, value in enumerate(("Auto", "auto", "AUTO", "Enabled"))),
                *(plain_pod(n, node=f"node-{n % 2}") for n in range(6)),
            ],
            [],
        )
    ],
    "control-plane-nodes": [
        Step(
            [
                *_zones(("zone-1", "4"), ("zone-2", "4")),
                node("node-2", "", "64", **{"node-role.kubernetes.io/control-plane": ""}),
                {
                    **node("node-3", "", "64"),
                    "status": {"allocatable": {"cpu": "64"}, "conditions": [{"type": "Ready", "status": "False"}]},
                },
                _auto("Auto"),
                *(plain_pod(n, node=f"node-{n % 2}") for n in range(6)),
            ],
            [],
        )
    ],
}

# Those that take a thousand Pods.
LARGE: dict[str, list[Step]] = {
    "over-capacity-and-back": [
        Step([node(), plain_service(), *(plain_pod(n) for n in range(CAPACITY + 1))], []),
        Step([], [("Pod", "web-7"), ("Pod", "web-8")]),
    ],
}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real packets through what the ipvs mode compiles, on an empty node; see test_in_uml.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.packets.packet_lab import CLIENTS, EXT, NODE_IPS, PODS, PacketLab
from integration.in_namespace import inside, run, sh
from integration.services_lab import service, vip
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import passes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsOptions
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._mode_ipvs import IpvsMode
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_tool import LEGACY
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs_drain_state import DrainState

pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

VIEW = NodeView("node-a", node_ips=tuple(NODE_IPS))
SETTINGS = Settings(VIEW, Detector(("10.128.0.0/9", "fd80::/16")))
BALANCER = "198.19.1.1"
SERVICES = [
    *service("web", 10, {"pod-a1": "ready", "pod-b1": "ready"}),
    *service(
        "local",
        11,
        {"pod-a1": "ready", "pod-b1": "ready"},
        type="LoadBalancer",
        nodePort=30080,
        ingress=[BALANCER],
        externalTrafficPolicy="Local",
    ),
    *service("port", 12, {"pod-a2": "ready", "pod-b1": "ready"}, type="NodePort", nodePort=30081),
    *service("empty", 13, {}),
    *service("far", 14, {"pod-b1": "ready"}, internalTrafficPolicy="Local"),
]


def load(state: Path) -> None:
    """Programs an empty node, in the order of the plan."""
    mode = IpvsMode(SETTINGS, run, IpvsOptions(), (0, DrainState(str(state))), LEGACY)
    program = passes.full(build_snapshot(SERVICES), VIEW, mode.compiler).new
    sh("sysctl -q -w net.ipv4.vs.conntrack=1")
    for step in mode.steps(mode.complete({name: (None, content) for name, content in program.items()}, {})):
        mode.apply(step)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacketLab]:
    """A lab whose node-a is programmed."""
    with PacketLab() as built:
        with inside(built.node):
            load(tmp_path_factory.mktemp("state") / "drain.json")
        yield built


@pytest.mark.parametrize("proto", ["TCP", "UDP"])
@pytest.mark.parametrize(
    ("client", "address", "port", "expected"),
    [
        ("pod", vip(10), 80, {"pod-a1:8080|client", "pod-b1:8080|client"}),
        ("pod", vip(10, 6), 80, {"pod-a1:8080|client", "pod-b1:8080|client"}),
        ("host", vip(10), 80, {"pod-a1:8080|node", "pod-b1:8080|node"}),
        ("host", vip(10, 6), 80, {"pod-a1:8080|node", "pod-b1:8080|node"}),
        ("ext", vip(10), 80, {"pod-a1:8080|node", "pod-b1:8080|node"}),
        ("pod-self", vip(10), 80, {"pod-a1:8080|node", "pod-b1:8080|client"}),
        ("pod", vip(10), 81, {"reject"}),
        ("ext", NODE_IPS[0], 30081, {"pod-a2:8080|node", "pod-b1:8080|node"}),
        ("ext", NODE_IPS[1], 30081, {"pod-a2:8080|node", "pod-b1:8080|node"}),
        ("host", NODE_IPS[0], 30081, {"pod-a2:8080|node", "pod-b1:8080|node"}),
        ("ext", NODE_IPS[0], 30080, {"pod-a1:8080|client"}),
        ("ext", BALANCER, 80, {"pod-a1:8080|client"}),
        ("pod", BALANCER, 80, {"pod-a1:8080|client", "pod-b1:8080|client"}),
        ("host", BALANCER, 80, {"pod-a1:8080|node", "pod-b1:8080|node"}),
        ("pod", NODE_IPS[0], 30080, {"pod-a1:8080|client", "pod-b1:8080|client"}),
        ("pod", vip(13), 80, {"reject"}),
        ("pod", vip(13, 6), 80, {"reject"}),
        ("pod", vip(14), 80, {"drop"}),
    ],
)
def test_packets(lab: PacketLab, client: str, address: str, port: int, expected: set[str], proto: str) -> None:
    """Each client meets the endpoints of the decision table, and they see the address that it says."""
    worker, own = CLIENTS[client]
    spec = {"proto": proto, "address": address, "port": port, "count": 8, "timeout": 0.8}
    (got,) = lab.workers[worker].ask(op="probe", probes=[spec])
    seen: Counter[str] = Counter()
    for outcomes in got.values():
        for outcome, times in outcomes.items():
            backend, _bar, peer = outcome.partition("|")
            seen[f"{backend}|{'client' if peer in own else 'node'}" if peer else outcome] += times
    assert set(seen) == expected, seen
    assert not {peer for peer in (EXT[0], PODS["pod-a3"][0]) if f"{peer}:" in str(seen)}

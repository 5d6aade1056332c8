# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real packets through what the ipvs mode compiles, on an empty node; see test_in_uml.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from conformance.packets.packet_lab import CLIENTS, EXT, NODE_IPS, PODS, PacketLab
from integration.in_namespace import inside, run, sh
from integration.services_lab import service, vip
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import (
    ipvs_rules,
    passes,
    snapshot,
    text_iptables,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_changes import Marks, plan
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import service_addresses
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipset_tool import IpsetTool
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_tool import LEGACY, IptablesTool
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs import Ipvs

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


def load() -> None:
    """Programs an empty node, in the order of the plan."""
    program = passes.full(snapshot.build(SERVICES), VIEW, IpvsCompiler(SETTINGS)).new
    made = plan({name: (None, content) for name, content in program.items()}, Marks(SETTINGS, {}))
    ipset, frame = IpsetTool(run), ipvs_rules.frame(SETTINGS)
    sh("sysctl -q -w net.ipv4.vs.conntrack=1")
    for family in (4, 6):
        ipset.restore("".join(f"{line}\n" for line in ipvs_rules.declarations(family)))
        for table, hooks in ipvs_rules.HOOKS.items():
            prefix = f"{family}/chain/{table}/"
            wanted = {name[len(prefix) :]: (None, rules) for name, rules in frame.items() if name.startswith(prefix)}
            own = {chain: change for chain, change in wanted.items() if chain not in hooks}
            jumps = {chain: wanted[chain] for chain in hooks}
            IptablesTool(run, family, LEGACY).restore(text_iptables.transaction(table, own, jumps))
    with Ipvs() as ipvs:
        ipvs.apply(made.marked)
        ipset.restore("".join(f"{line}\n" for line in made.entries))
        ipvs.apply(made.servers)
    service_addresses.add(service_addresses.make_device(), made.addresses)


@pytest.fixture(scope="module")
def lab() -> Iterator[PacketLab]:
    """A lab whose node-a is programmed."""
    with PacketLab() as built:
        with inside(built.node):
            load()
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

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walkers: through a compiled program they come out where the service table says, for any cluster and packet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import ipvs_rules
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.explain import Answer, Explainer, Packet, inside
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables import IptablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables_explain import IptablesExplainer
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_explain import IpvsExplainer
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables_explain import NftablesExplainer
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView, resolve
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import (
    CLUSTER_IP,
    DROP,
    NODE_PORT,
    REJECT,
    Frontend,
    PortRules,
    ServiceTable,
)

from . import clusters

MODES = ("iptables", "nftables", "ipvs")
NODE = {4: "198.18.1.1", 6: "fd98:1::1"}
SETTINGS = Settings(NodeView("node-a", "z1", tuple(NODE.values())), Detector(("10.128.0.0/9", "fd80::/16")))
# A Pod that is an endpoint as well, a client outside that no source range holds, one that some do, the node.
SOURCES = {
    4: ["10.128.0.3", "198.51.100.7", "198.18.1.20", NODE[4]],
    6: ["fd80::3", "2001:db8::7", "fd98:1::20", NODE[6]],
}


def made(mode: str, objects: list[dict[str, Any]]) -> tuple[ServiceTable, Program, Explainer]:
    table = resolve(build_snapshot(objects).services()[0], SETTINGS.view)
    if mode == "iptables":
        chains = IptablesCompiler(SETTINGS)
        program = chains.compile(table.rules)
        return table, {**program, **chains.frame(program)}, IptablesExplainer()
    if mode == "ipvs":
        program = IpvsCompiler(SETTINGS).compile(table.rules)
        return table, {**program, **ipvs_rules.frame(SETTINGS)}, IpvsExplainer(SETTINGS)
    elements = NftablesCompiler(SETTINGS)
    return table, {**elements.compile(table.rules), **elements.frame()}, NftablesExplainer(elements)


def wanted(entry: PortRules, frontend: Frontend, packet: Packet) -> dict[tuple[str, str, int, bool], float]:
    """What the table says, in the words of its documentation: (verdict, address, port, masqueraded) -> chance."""
    pod = inside(packet.source, SETTINGS.detector.cidrs_of(packet.family))
    target, masquerade = entry.external, True
    if frontend.kind == CLUSTER_IP:
        target, masquerade = entry.internal, not pod
    elif entry.external_local:
        target = entry.cluster if pod or packet.from_node else entry.external
        masquerade = packet.from_node and not pod
    allowed = frontend.source_ranges
    if allowed is not None and target.verdict != REJECT and not inside(packet.source, allowed):
        own = frontend.admits_own_address and packet.source == frontend.address
        if not own:
            return {(DROP, "", 0, False): 1.0}
    if not target.backends:
        return {(target.verdict, "", 0, False): 1.0}
    return {
        ("endpoint", b.address, b.port, masquerade or b.address == packet.source): 1 / len(target.backends)
        for b in target.backends
    }


def found(answer: Answer) -> dict[tuple[str, str, int, bool], float]:
    return {outcome[:4]: pytest.approx(outcome.probability, abs=1e-6) for outcome in answer.outcomes}


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25)
@given(objects=clusters.clusters(), data=st.data())
def test_a_walk_ends_where_the_table_says(mode: str, objects: list[dict[str, Any]], data: st.DataObject) -> None:
    table, program, explainer = made(mode, objects)
    for entry in table.rules:
        for frontend in entry.frontends:
            source = data.draw(st.sampled_from(SOURCES[entry.family]))
            address = NODE[entry.family] if frontend.kind == NODE_PORT else frontend.address
            from_node = source == NODE[entry.family]
            here = frozenset(NODE.values())
            packet = Packet(entry.family, entry.protocol, source, address, frontend.port, "", from_node, here)
            refused = entry.cluster.verdict == REJECT and frontend.source_ranges is not None
            remote = any(b.address == source and not b.local for b in entry.reachable)
            if refused or remote:
                continue  # the modes differ: what is outside the ranges of nothing, what is no hairpin of this node
            answer = explainer.explain(program, packet)
            assert found(answer) == wanted(entry, frontend, packet)
            assert answer.unclear == ()
            by_mark = mode == "ipvs" and (not frontend.address or entry.external_local)
            if {outcome.verdict for outcome in answer.outcomes} == {"endpoint"} and not by_mark:
                assert answer.affinity == entry.affinity


@pytest.mark.parametrize("mode", MODES)
def test_what_no_frontend_takes_is_not_ours(mode: str) -> None:
    _table, program, explainer = made(mode, [clusters.node()])
    answer = explainer.explain(program, Packet(4, "TCP", "10.128.0.3", "198.51.100.1", 80))
    assert (answer.verdict, answer.met, answer.outcomes[0].masqueraded) == (
        "none",
        answer.met,
        False,
    )


@pytest.mark.parametrize(
    ("mode", "container", "rule"),
    [
        ("iptables", "4/nat/SERVICENET", "-d 10.96.0.10/32 -m time --timestart 08:00 -j ACCEPT"),
        ("nftables", "4/chain/prerouting", 'ip ttl 64 drop comment "mine"'),
        ("ipvs", "4/chain/mangle/SERVICENET-IPVS-PRE", "-m time --timestart 08:00 -j DROP"),
        ("iptables", "4/nat/SERVICENET", "-m set --match-set MINE dst,dst -j ACCEPT"),
    ],
)
def test_a_rule_that_is_not_understood_is_said_to_be(mode: str, container: str, rule: str) -> None:
    _table, program, explainer = made(mode, [clusters.node()])
    program[container] = (rule, *program[container])
    answer = explainer.explain(program, Packet(4, "TCP", "10.128.0.3", "10.96.0.10", 80))
    assert [one.text for one in answer.unclear] == [rule]


@pytest.mark.parametrize(
    ("mode", "container", "rule"),
    [
        ("iptables", "4/filter/SERVICENET-FORWARD", "-d 198.51.100.1/32 -p tcp -j DROP"),
        ("nftables", "4/chain/refuse_forward", "ip daddr 198.51.100.1 drop"),
        ("ipvs", "4/chain/mangle/SERVICENET-IPVS-PRE", "-d 198.51.100.1/32 -p tcp -j DROP"),
    ],
)
def test_a_rule_that_somebody_added_counts(mode: str, container: str, rule: str) -> None:
    _table, program, explainer = made(mode, [clusters.node()])
    program[container] = (rule, *program[container])
    answer = explainer.explain(program, Packet(4, "TCP", "10.128.0.3", "198.51.100.1", 80))
    assert (answer.verdict, rule in [met.text for met in answer.met]) == ("drop", True)


def test_a_virtual_server_sends_by_weight_and_what_somebody_changed_is_seen() -> None:
    port = {"name": "http", "protocol": "TCP", "port": 80}
    pods = [{"addresses": [address], "conditions": {"ready": True}} for address in clusters.PODS[4][:2]]
    service = {"kind": "Service", "metadata": {"namespace": "shop", "name": "web"}}
    labels = {"kubernetes.io/service-name": "web"}
    slices = {"kind": "EndpointSlice", "metadata": {"namespace": "shop", "name": "web-1", "labels": labels}}
    objects: list[dict[str, Any]] = [
        service | {"spec": {"clusterIPs": ["10.96.0.10"], "ports": [port]}},
        slices | {"addressType": "IPv4", "ports": [port | {"port": 8080}], "endpoints": pods},
    ]
    _table, program, explainer = made("ipvs", objects)
    packet = Packet(4, "TCP", "10.128.0.9", "10.96.0.10", 80)
    (real, other) = sorted(name for name in program if name.startswith("4/real/any/tcp/10.96.0.10/80/"))
    program[real] = 3
    assert [one.probability for one in explainer.explain(program, packet).outcomes] == [0.5, 0.5]  # rr knows no weights
    program["4/server/any/tcp/10.96.0.10/80"] = "wrr 0"
    assert [one.probability for one in explainer.explain(program, packet).outcomes] == [0.75, 0.25]
    program[other] = 0
    (only,) = explainer.explain(program, packet).outcomes
    assert (only.address, only.probability) == (real.split("/")[6], 1.0)
    program[real] = 0
    assert explainer.explain(program, packet).verdict == "reject"
    program[real] = 1
    assert explainer.explain(program, packet).verdict == "endpoint"
    del program["4/set/INT/10.96.0.10,tcp:80"]
    assert explainer.explain(program, packet).verdict == "reject"
    assert explainer.where(real) == f"IPVS virtual server tcp 10.96.0.10 80, weight of {only.address} {only.port}"

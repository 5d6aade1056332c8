# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walkers: through a compiled program they come out where the service table says, for any cluster and packet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.explain import Answer, Explainer, Packet, inside
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables import IptablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables_explain import IptablesExplainer
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables_explain import NftablesExplainer
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView, resolve
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
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

NODE = {4: "198.18.1.1", 6: "fd98:1::1"}
SETTINGS = Settings(NodeView("node-a", "z1", tuple(NODE.values())), Detector(("10.128.0.0/9", "fd80::/16")))
# A Pod that is an endpoint as well, a client outside that no source range holds, one that some do, the node.
SOURCES = {
    4: ["10.128.0.3", "198.51.100.7", "198.18.1.20", NODE[4]],
    6: ["fd80::3", "2001:db8::7", "fd98:1::20", NODE[6]],
}


def made(mode: str, objects: list[dict[str, Any]]) -> tuple[ServiceTable, Program, Explainer]:
    table = resolve(snapshot.build(objects).services()[0], SETTINGS.view)
    if mode == "iptables":
        chains = IptablesCompiler(SETTINGS)
        program = chains.compile(table.rules)
        return table, {**program, **chains.frame(program)}, IptablesExplainer()
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


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
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
            ends = {outcome.verdict for outcome in answer.outcomes}
            assert answer.affinity == (entry.affinity if ends == {"endpoint"} else answer.affinity)


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
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
    ],
)
def test_a_rule_that_somebody_added_counts(mode: str, container: str, rule: str) -> None:
    _table, program, explainer = made(mode, [clusters.node()])
    program[container] = (rule, *program[container])
    answer = explainer.explain(program, Packet(4, "TCP", "10.128.0.3", "198.51.100.1", 80))
    assert (answer.verdict, rule in [met.text for met in answer.met]) == ("drop", True)

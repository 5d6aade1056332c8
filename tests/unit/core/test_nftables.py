# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables mode's compiler: elements of Services, and the chains that lead to them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import nftables_live, passes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.live import LiveFrontend
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

from . import clusters

VIEW = NodeView("node-a", "z1", ("198.18.1.1",))
DETECTOR = Detector(("10.128.0.0/9",))
COMPILER = NftablesCompiler(Settings(VIEW, DETECTOR))


def service(**spec: Any) -> list[dict[str, Any]]:
    """A Service with an endpoint on node-a and one on node-b."""
    addresses = {"10.128.0.1": "node-a", "10.129.0.1": "node-b"}
    return [
        {
            "kind": "Service",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"name": "http", "port": 80}], **spec},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "web-0", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address], "nodeName": node} for address, node in addresses.items()],
        },
    ]


def program_of(objects: list[dict[str, Any]]) -> passes.Program:
    return passes.full(build_snapshot(objects), VIEW, COMPILER).new


def test_a_cluster_ip_leads_to_its_endpoints() -> None:
    assert program_of(service()) == {
        "4/cluster_address/10.96.0.1": "10.96.0.1",
        "4/service/10.96.0.1 . 6 . 80": "10.96.0.1 . 6 . 80 : goto internal_2",
        "4/endpoint_tcp/10.96.0.1 . 80 . 0": "10.96.0.1 . 80 . 0 : 10.128.0.1 . 8080",
        "4/endpoint_tcp/10.96.0.1 . 80 . 1": "10.96.0.1 . 80 . 1 : 10.129.0.1 . 8080",
        "4/hairpin/10.128.0.1 . 10.128.0.1 . 6 . 8080": "10.128.0.1 . 10.128.0.1 . 6 . 8080",
    }


def test_policy_local_has_other_endpoints_for_the_outside() -> None:
    ports = [{"name": "http", "port": 80, "nodePort": 30001}]
    program = program_of(service(type="NodePort", ports=ports, externalTrafficPolicy="Local"))
    assert program["4/nodeport/6 . 30001"] == "6 . 30001 : goto nodeport_inside_2"
    assert program["4/outside_nodeport/6 . 30001"] == "6 . 30001 : goto nodeport_outside_1"
    outside = {name: content for name, content in program.items() if "/outside_nodeport_endpoint_" in name}
    assert outside == {"4/outside_nodeport_endpoint_tcp/30001 . 0": "30001 . 0 : 10.128.0.1 . 8080"}


def test_affinity_learns_only_endpoints_of_its_frontend() -> None:
    program = program_of(service(sessionAffinity="ClientIP"))
    assert program["4/service/10.96.0.1 . 6 . 80"].endswith(" : goto internal_sticky_2")
    assert {name: content for name, content in program.items() if "/learn/" in name} == {
        f"4/learn/10.96.0.1 . 6 . 80 . {endpoint} . 8080": f"10.96.0.1 . 6 . 80 . {endpoint} . 8080 : goto learn_10800"
        for endpoint in ("10.128.0.1", "10.129.0.1")
    }


def test_source_ranges_inside_others_are_left_out() -> None:
    objects = service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/8", "10.1.0.0/16", "198.18.9.9/32"])
    objects[0]["status"] = {"loadBalancer": {"ingress": [{"ip": "198.19.0.1"}]}}
    program = program_of(objects)
    assert "4/restricted/198.19.0.1 . 6 . 80" in program
    assert {name for name in program if "/allowed/" in name} == {
        "4/allowed/198.19.0.1 . 6 . 80 . 10.0.0.0/8",
        "4/allowed/198.19.0.1 . 6 . 80 . 198.18.9.9",
    }


def test_without_endpoints_a_frontend_is_rejected() -> None:
    program = program_of(service()[:1])
    assert set(program) == {"4/cluster_address/10.96.0.1", "4/rejected/10.96.0.1 . 6 . 80"}


def test_the_chains_do_not_depend_on_the_number_of_services() -> None:
    def chains(count: int) -> set[str]:
        objects = []
        for i in range(count):
            spec = {"clusterIPs": [f"10.96.{i // 250}.{i % 250 + 1}"]}
            one, piece = service(**spec)
            one["metadata"]["name"] = piece["metadata"]["name"] = f"web-{i}"
            piece["metadata"]["labels"]["kubernetes.io/service-name"] = f"web-{i}"
            objects += [one, piece]
        return {content.split(" : goto ")[1] for content in program_of(objects).values() if " : goto " in content}

    assert chains(1) == chains(300) == {"internal_2"}


# --------------------------------------------------------------------------------------------------------- chains


def compiler(view: NodeView = VIEW, detector: Detector = DETECTOR, **given: Any) -> NftablesCompiler:
    return NftablesCompiler(Settings(view, detector, **given))


@pytest.mark.parametrize(
    ("made", "name", "marks"),
    [
        (COMPILER, "internal_1", "ip saddr != 10.128.0.0/9 meta mark set meta mark | 0x00004000"),
        (compiler(masquerade_all=True), "internal_1", "meta mark set meta mark | 0x00004000"),
        (compiler(detector=Detector()), "internal_1", ""),
        (compiler(detector=Detector()), "inside_1", "meta mark set meta mark | 0x00004000"),
        (
            compiler(detector=Detector(interface="veth+")),
            "internal_1",
            'iifname != "veth*" meta mark set meta mark | 0x',
        ),
        (compiler(masquerade_bit=31), "external_1", "meta mark set meta mark | 0x80000000"),
        (COMPILER, "outside_1", ""),
    ],
)
def test_who_is_masqueraded(made: NftablesCompiler, name: str, marks: str) -> None:
    rules = made.balancing(4, name)
    assert rules is not None
    if marks:
        assert rules[0].startswith(marks)
    assert len(rules) == (5 if marks else 4)
    assert rules[-1] == "drop"


@pytest.mark.parametrize("name", ["internal_0", "internal_", "sticky_2", "internal_2x", "prerouting", "nodeport_2"])
def test_other_names_are_no_balancing_chains(name: str) -> None:
    assert COMPILER.balancing(4, name) is None


def test_node_ports_are_served_on_the_primary_address_by_default() -> None:
    rules = COMPILER.chains(4)["prerouting"].rules
    assert any("ip daddr 198.18.1.1" in rule and rule.endswith("vmap @nodeport") for rule in rules)
    # This node has no IPv6 address.
    assert not any("nodeport" in rule for rule in COMPILER.chains(6)["prerouting"].rules)


def test_node_ports_are_served_on_all_addresses_of_a_family_that_no_cidr_is_given_of() -> None:
    chains = compiler(nodeport_addresses=("198.18.0.0/16", "198.18.1.0/24")).chains
    (rule,) = (r for r in chains(4)["output"].rules if "nodeport" in r)
    assert " ip daddr 198.18.0.0/16 " in rule
    (rule,) = (r for r in chains(6)["output"].rules if "nodeport" in r)
    assert rule == "fib daddr type local ip6 daddr != ::1 meta l4proto . th dport vmap @nodeport"


def test_what_no_service_has_is_dropped_if_service_cidrs_are_known() -> None:
    rules = compiler(service_cidrs=("10.96.0.0/12", "fd00::/108")).chains(4)["refuse_forward"].rules
    assert rules[-1] == "ct state new ip daddr 10.96.0.0/12 drop"


# ------------------------------------------------------------------------------------------------------------ live


@settings(max_examples=30)
@given(clusters.clusters())
def test_what_is_read_back_is_what_the_table_says(objects: list[dict[str, Any]]) -> None:
    done = passes.full(build_snapshot(objects), VIEW, COMPILER)
    expected = []
    for entry in done.after.rules:
        for frontend in entry.frontends:
            if frontend.kind == "cluster_ip":
                targets = [entry.internal]
            else:
                targets = [entry.cluster, entry.external] if entry.external_local else [entry.external]
            backends = sorted({(b.address, b.port) for target in targets for b in target.backends})
            verdicts = {target.verdict for target in targets} - {"balance"}
            where = (entry.family, frontend.address, entry.protocol, frontend.port)
            expected.append(LiveFrontend(*where, tuple(backends), verdicts.pop() if verdicts else ""))
    assert nftables_live.frontends(done.new) == sorted(expected)

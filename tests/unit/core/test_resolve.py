# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision table of Kubernetes, row by row, and what must hold for any cluster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import table
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView, resolve
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import BALANCE, DROP, REJECT

from . import clusters

VIEW = NodeView("node-a", "z1", ("198.18.1.1", "fd98:1::1"))

# Name -> (node, ready, serving, terminating)
STATES = {
    "local": ("node-a", True, True, False),
    "other": ("node-b", True, True, False),
    "local-draining": ("node-a", False, True, True),
    "other-draining": ("node-b", False, True, True),
    "local-dead": ("node-a", False, False, True),
    "other-unready": ("node-b", False, True, False),
    "local-unready": ("node-a", False, False, False),
    "nowhere": (None, True, True, False),
}
ADDRESSES = {name: f"10.128.0.{number}" for number, name in enumerate(STATES, 1)}


def service(names: list[str], hints: dict[str, Any] | None = None, **spec: Any) -> list[dict[str, Any]]:
    """A Service web with a NodePort and endpoints in these states."""
    endpoints = []
    for name in names:
        node, ready, serving, terminating = STATES[name]
        endpoint = {
            "addresses": [ADDRESSES[name]],
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "nodeName": node,
            "hints": (hints or {}).get(name),
        }
        endpoints.append(endpoint)
    return [
        {
            "kind": "Service",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIPs": ["10.96.0.10"], "ports": [{"port": 80, "nodePort": 30080}], **spec},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080}],
            "endpoints": endpoints,
        },
    ]


def decide(objects: list[dict[str, Any]], view: NodeView = VIEW) -> table.ServiceTable:
    made = build_snapshot(objects)
    assert not made.refused
    return resolve(made.services()[0], view)


def chosen(target: table.Target) -> str | set[str]:
    """The verdict, or the names of the endpoints."""
    names = {address: name for name, address in ADDRESSES.items()}
    return {names[b.address] for b in target.backends} if target.verdict == BALANCE else target.verdict


# (endpoints, what "Cluster" gives, what "Local" gives), whatever the kind of frontend
ROWS = [
    ([], REJECT, REJECT),
    (["local-dead", "other-unready", "local-unready"], REJECT, REJECT),
    (["local", "other"], {"local", "other"}, {"local"}),
    (["other"], {"other"}, DROP),
    (["nowhere"], {"nowhere"}, DROP),
    (["local", "local-draining", "other-draining"], {"local"}, {"local"}),
    (["other", "local-draining"], {"other"}, {"local-draining"}),
    (["local-draining", "other-draining"], {"local-draining", "other-draining"}, {"local-draining"}),
    (["other-draining"], {"other-draining"}, DROP),
    (["other", "local-unready"], {"other"}, DROP),
]


@pytest.mark.parametrize(("endpoints", "cluster", "local"), ROWS)
@pytest.mark.parametrize("internal", ["Cluster", "Local"])
@pytest.mark.parametrize("external", ["Cluster", "Local"])
def test_policies(endpoints: list[str], cluster: Any, local: Any, internal: str, external: str) -> None:
    objects = service(endpoints, type="NodePort", internalTrafficPolicy=internal, externalTrafficPolicy=external)
    (rules,) = decide(objects).rules
    assert chosen(rules.internal) == (local if internal == "Local" else cluster)
    assert chosen(rules.external) == (local if external == "Local" else cluster)
    assert chosen(rules.cluster) == cluster
    assert rules.external_local == (external == "Local")


def zone(name: str) -> dict[str, Any]:
    return {"forZones": [{"name": name}]}


def node(name: str) -> dict[str, Any]:
    return {"forNodes": [{"name": name}]}


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ({}, {"local", "other"}),
        ({"local": zone("z1"), "other": zone("z2")}, {"local"}),
        ({"local": zone("z2"), "other": zone("z1")}, {"other"}),
        ({"local": zone("z1")}, {"local", "other"}),  # one hint is missing
        ({"local": zone("z2"), "other": zone("z2")}, {"local", "other"}),  # none is for this zone
        ({"local": node("node-a")}, {"local", "other"}),
        ({"local": node("node-b"), "other": node("node-a")}, {"other"}),
        ({"local": {**node("node-b"), **zone("z1")}, "other": {**node("node-b"), **zone("z2")}}, {"local"}),
        ({"local": {**node("node-a"), **zone("z2")}, "other": {**node("node-b"), **zone("z1")}}, {"local"}),
    ],
)
def test_topology_hints(hints: dict[str, Any], expected: set[str]) -> None:
    (rules,) = decide(service(["local", "other"], hints)).rules
    assert chosen(rules.internal) == expected


def test_hints_of_endpoints_that_are_not_ready_do_not_matter() -> None:
    hints = {"local": zone("z1"), "other": zone("z2")}
    (rules,) = decide(service(["local", "other", "other-unready"], hints)).rules
    assert chosen(rules.internal) == {"local"}


def test_the_fallback_to_draining_endpoints_ignores_topology() -> None:
    hints = {"local-draining": zone("z2"), "other-draining": zone("z1")}
    (rules,) = decide(service(["local-draining", "other-draining"], hints)).rules
    assert chosen(rules.internal) == {"local-draining", "other-draining"}


def test_a_machine_outside_the_cluster_has_no_local_endpoints() -> None:
    objects = service(["local", "other", "nowhere"], type="NodePort", externalTrafficPolicy="Local")
    (rules,) = decide(objects, NodeView("")).rules
    assert chosen(rules.external) == DROP
    assert chosen(rules.cluster) == {"local", "other", "nowhere"}


@pytest.mark.parametrize(
    "spec",
    [{"clusterIPs": ["None"]}, {"type": "ExternalName", "externalName": "db.example.org"}, {"clusterIPs": [""]}],
)
def test_services_without_a_virtual_ip_are_not_served(spec: dict[str, Any]) -> None:
    assert decide(service(["local"], **spec)).rules == ()


@pytest.mark.parametrize(
    ("label", "ours", "served"), [(None, "", 1), ("x", "", 0), ("", "", 0), ("x", "x", 1), (None, "x", 0)]
)
def test_the_proxy_name_label(label: str | None, ours: str, served: int) -> None:
    objects = service(["local"])
    if label is not None:
        objects[0]["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": label}
    assert len(decide(objects, VIEW._replace(proxy_name=ours)).rules) == served


def test_the_headless_label_hides_a_slice_and_not_a_service() -> None:
    objects = service(["local"])
    objects[0]["metadata"]["labels"] = {"service.kubernetes.io/headless": ""}
    assert chosen(decide(objects).rules[0].internal) == {"local"}
    objects[1]["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    assert chosen(decide(objects).rules[0].internal) == REJECT


def test_a_duplicate_counts_once_and_the_better_one_wins() -> None:
    objects = service(["other", "local-unready"])
    first, second = objects[1]["endpoints"]
    second["addresses"] = first["addresses"]
    (rules,) = decide(objects).rules
    assert rules.internal.backends == (table.Backend(ADDRESSES["other"], 8080, False),)
    second["conditions"] = first["conditions"]
    (rules,) = decide(objects).rules
    assert rules.internal.backends == (table.Backend(ADDRESSES["other"], 8080, True),)


def test_only_the_slice_port_of_the_same_name_and_protocol_counts() -> None:
    objects = service(["local"])
    objects[0]["spec"]["ports"] = [{"name": "a", "port": 80}, {"name": "b", "port": 81}, {"name": "c", "port": 82}]
    objects[1]["ports"] = [{"name": "a", "port": 8080}, {"name": "b", "protocol": "UDP", "port": 53}, {"name": "c"}]
    verdicts = {rules.port_name: chosen(rules.internal) for rules in decide(objects).rules}
    assert verdicts == {"a": {"local"}, "b": REJECT, "c": REJECT}


def frontends(rules: table.PortRules) -> set[tuple[str, str, int]]:
    return {(f.kind, f.address, f.port) for f in rules.frontends}


def test_frontends_of_each_family() -> None:
    objects = service(["local"], clusterIPs=["10.96.0.10", "fd00:10:96::10"], externalIPs=["198.19.2.1"])
    objects[0]["status"] = {
        "loadBalancer": {
            "ingress": [{"ip": "198.19.1.1"}, {"ip": "fd98:19::1"}, {"ip": "198.19.1.9", "ipMode": "Proxy"}]
        }
    }
    four, six = decide(objects).rules
    assert frontends(four) == {
        ("cluster_ip", "10.96.0.10", 80),
        ("load_balancer", "198.19.1.1", 80),
        ("external_ip", "198.19.2.1", 80),
        ("node_port", "", 30080),
    }
    assert frontends(six) == {
        ("cluster_ip", "fd00:10:96::10", 80),
        ("load_balancer", "fd98:19::1", 80),
        ("node_port", "", 30080),
    }
    assert chosen(six.internal) == REJECT  # there is no IPv6 slice


def test_source_ranges_hold_for_load_balancer_ips_of_their_family_only() -> None:
    objects = service(["local"], clusterIPs=["10.96.0.10", "fd00:10:96::10"], externalIPs=["198.19.2.1"])
    objects[0]["spec"]["loadBalancerSourceRanges"] = ["198.18.1.0/24"]
    objects[0]["status"] = {"loadBalancer": {"ingress": [{"ip": "198.19.1.1"}, {"ip": "fd98:19::1"}]}}
    four, six = decide(objects).rules
    limited = {f.kind: (f.source_ranges, f.admits_own_address) for f in (*four.frontends, *six.frontends)}
    assert limited["external_ip"] == limited["node_port"] == limited["cluster_ip"] == (None, False)
    assert [f.source_ranges for f in six.frontends if f.kind == "load_balancer"] == [None]
    (balancer,) = (f for f in four.frontends if f.kind == "load_balancer")
    # 198.18.1.1 is the node's own address.
    assert (balancer.source_ranges, balancer.admits_own_address) == (("198.18.1.0/24",), True)


def test_an_external_ip_that_is_a_load_balancer_ip_keeps_its_source_ranges() -> None:
    objects = service(["local"], externalIPs=["198.19.1.1"], loadBalancerSourceRanges=["198.18.9.0/24"])
    objects[0]["status"] = {"loadBalancer": {"ingress": [{"ip": "198.19.1.1"}]}}
    (rules,) = decide(objects).rules
    assert [f.source_ranges for f in rules.frontends if f.address == "198.19.1.1"] == [("198.18.9.0/24",)]


def test_two_services_that_claim_one_frontend() -> None:
    first, second = service(["local"]), service(["other"])
    for piece in second:
        piece["metadata"]["name"] = piece["metadata"]["name"].replace("web", "zoo")
    second[0]["spec"]["ports"] = [{"port": 80}, {"name": "more", "port": 81}]
    second[1]["metadata"]["labels"]["kubernetes.io/service-name"] = "zoo"
    found = decide([*second, *first])
    assert {(rules.name, f.port) for rules in found.rules for f in rules.frontends} == {
        ("shop/web", 80),
        ("shop/web", 30080),
        ("shop/zoo:more", 81),
    }
    assert [w for w in found.warnings if "shop/zoo" in w and "shop/web" in w and "10.96.0.10 port 80/TCP" in w]


def test_the_health_check_counts_ready_local_endpoints() -> None:
    objects = service(["local", "other", "local-draining"], type="LoadBalancer", externalTrafficPolicy="Local")
    objects[0]["spec"]["healthCheckNodePort"] = 32000
    assert decide(objects).health_checks == (table.HealthCheck("shop/web", 32000, {4: 1}),)


def test_the_health_check_counts_a_pod_of_two_families_once_in_each() -> None:
    objects = service(["local"], type="LoadBalancer", externalTrafficPolicy="Local")
    objects[0]["spec"].update(healthCheckNodePort=32000, clusterIPs=["10.96.0.10", "fd00:10:96::10"])
    of_pod = {**objects[1]["endpoints"][0], "addresses": ["fd00::1"]}
    name = {**objects[1]["metadata"], "name": "web-2"}
    objects.append({**objects[1], "metadata": name, "addressType": "IPv6", "endpoints": [of_pod]})
    assert decide(objects).health_checks == (table.HealthCheck("shop/web", 32000, {4: 1, 6: 1}),)
    # A node of one family says nothing of the other, and nothing at all of a Service that has only the other.
    view = VIEW._replace(families=(4,))
    assert decide(objects, view).health_checks == (table.HealthCheck("shop/web", 32000, {4: 1}),)
    objects[0]["spec"]["clusterIPs"] = ["fd00:10:96::10"]
    assert decide(objects, view).health_checks == ()


@settings(max_examples=60)
@given(clusters.clusters(), st.randoms())
def test_any_order_of_the_objects_gives_the_same_table(objects: list[dict[str, Any]], chance: Any) -> None:
    shuffled = list(objects)
    chance.shuffle(shuffled)
    assert build_snapshot(objects).lines == build_snapshot(shuffled).lines


@settings(max_examples=60)
@given(clusters.clusters())
def test_what_holds_for_every_table(objects: list[dict[str, Any]]) -> None:
    found = resolve(build_snapshot(objects).services()[0], VIEW)
    claimed = [(r.family, r.protocol, f.address, f.port) for r in found.rules for f in r.frontends]
    assert len(claimed) == len(set(claimed))
    for rules in found.rules:
        for target in (rules.internal, rules.cluster, rules.external):
            assert (target.verdict == BALANCE) == bool(target.backends)
            assert list(target.backends) == sorted(set(target.backends))
            assert set(target.backends) <= set(rules.reachable)
            assert all((":" in b.address) == (rules.family == 6) for b in target.backends)
        if rules.external.verdict == BALANCE and rules.external_local:
            assert all(b.local for b in rules.external.backends)
        if not rules.external_local:
            assert rules.external == rules.cluster
        assert (
            (rules.cluster.verdict == REJECT)
            == (rules.internal.verdict == REJECT)
            == (rules.external.verdict == REJECT)
        )

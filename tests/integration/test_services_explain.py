# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What service_rules_info explains is what packets do, for each kind of frontend and source."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from conformance.packets.packet_lab import NODE_ADDRESSES
from integration.services_lab import EXT, NODE_IPS, PODS, ServicesNode, module_server, node, service, services_lab

__all__ = ["module_server", "node", "services_lab"]

BALANCER = "198.19.0.5"
SOURCES = {"pod": PODS["pod-a3"][0], "pod-self": PODS["pod-a1"][0], "host": "node", "ext": EXT[0]}
BOTH = {"pod-a1": "ready", "pod-b1": "ready"}
REMOTE = {"pod-b1": "ready", "pod-b2": "ready"}
# client, address, port
ASKED = [
    *((client, "10.96.0.1", 80) for client in SOURCES),
    *((client, NODE_IPS[0], 30001) for client in SOURCES),
    *((client, NODE_IPS[0], 30002) for client in ("pod", "host", "ext")),
    *((client, BALANCER, 80) for client in ("pod", "ext")),
    ("pod", "10.96.0.3", 80),
    ("pod", "10.96.0.4", 80),
    ("ext", "10.96.0.5", 80),
]


def programmed(node: ServicesNode) -> None:
    """Services of all kinds."""
    local = {"externalTrafficPolicy": "Local"}
    node.give(
        service("plain", 1, BOTH, type="NodePort", nodePort=30001),
        service("local", 2, REMOTE, type="NodePort", nodePort=30002, **local),
        service("empty", 3, {}),
        service("inside", 4, REMOTE, internalTrafficPolicy="Local"),
        service("limited", 5, BOTH, type="LoadBalancer", ingress=[BALANCER], loadBalancerSourceRanges=["10.128.0.0/9"]),
    )
    node.run()


def explained(node: ServicesNode, client: str, address: str, port: int) -> dict[str, Any]:
    asked = {"source": SOURCES[client], "destination": address, "port": port}
    arguments = {"state_dir": str(node.state_dir), "run_dir": str(node.run_dir), "explain": asked}
    result = node.start_module("service_rules_info", arguments).wait()
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is False
    return dict(result["explanation"])


def seen(
    node: ServicesNode, client: str, address: str, port: int, count: int = 16, until: Iterable[str] = ()
) -> dict[str, set[bool]]:
    """Who answered, or what else happened -> whether it saw an address of the node instead of the client's.

    :param until: who may answer: the tries go on until chance can't be why one of them was not met.
    """
    found: dict[str, set[bool]] = {}
    spec = {"client": client, "proto": "TCP", "address": address, "port": port, "count": count, "timeout": 0.4}
    spec["until"] = list(until)
    (got,) = node.lab.probe([spec])
    for outcomes in got.values():
        for outcome in outcomes:
            who, _bar, peer = outcome.partition("|")
            found.setdefault(who, set()).add(peer in NODE_ADDRESSES)
    return found


def told(answer: dict[str, Any]) -> dict[str, set[bool]]:
    """The same of an explanation."""
    names = {ip: name for name, (v4, v6, _node) in PODS.items() for ip in (v4, v6)}
    found: dict[str, set[bool]] = {}
    for outcome in answer["outcomes"]:
        endpoint = outcome["verdict"] == "endpoint"
        who = f"{names[outcome['address']]}:{outcome['port']}" if endpoint else outcome["verdict"]
        found.setdefault(who, set()).add(outcome["masqueraded"])
    return found


def test_packets_go_where_it_is_explained(node: ServicesNode) -> None:
    programmed(node)
    for client, address, port in ASKED:
        answer = explained(node, client, address, port)
        expected = told(answer)
        endpoints = [who for who in expected if ":" in who]
        real = seen(node, client, address, port, 16 if len(expected) > 1 else 2, endpoints)
        if client == "host":  # its address is the node's either way
            expected = {who: {True} for who in expected}
        assert real == expected, (client, address, port)
        assert answer["as_wanted"], (client, address, port)
        assert answer["service"].startswith("shop/")
        assert any(met["service"] == answer["service"] for met in answer["met"])
        assert not any(met["altered"] for met in answer["met"])


def test_a_rule_that_somebody_added_is_met_and_said_to_be_not_ours(node: ServicesNode) -> None:
    programmed(node)
    possible = {"drop", "pod-b1:8080"}
    if node.variant.mode == "userspace":
        # All packets of the Service end at one proxy.
        port = json.loads((node.state_dir / "userspace_ports.json").read_text())["ports"][
            "4/tcp/cluster/shop/plain:tcp"
        ]
        node.sh(f"nft insert rule ip servicenet guard_input th dport {port} drop")
        possible = {"drop"}
    elif node.variant.mode == "ipvs":
        # What goes on to an endpoint passes no chain of ours that could drop it.
        node.sh(f"iptables-legacy -t mangle -I SERVICENET-IPVS-PRE -s {SOURCES['pod']}/32 -j DROP")
        possible = {"drop"}
    elif node.variant.mode == "nftables":
        node.sh("nft insert rule ip servicenet refuse_forward ip daddr 10.128.0.11 drop")
    else:
        tool = f"iptables-{node.variant.options['variant']}"
        node.sh(f"{tool} -I SERVICENET-FORWARD -d 10.128.0.11/32 -j DROP")
    answer = explained(node, "pod", "10.96.0.1", 80)
    assert answer["verdict"] == ("mixed" if len(possible) > 1 else "drop")
    outcomes: set[str] = set()
    for _each in range(24):
        # A probe ends after two drops in a row, which chance brings about once in four times.
        outcomes |= set(seen(node, "pod", "10.96.0.1", 80))
        if len(outcomes) >= len(possible):
            break
    assert set(told(answer)) == possible == outcomes
    assert [met["service"] for met in answer["met"] if met["altered"]] == [""]
    assert answer["as_wanted"] is False
    assert answer["wanted"]["verdict"] == "endpoint"


@pytest.mark.parametrize("source", ["node", PODS["pod-a3"][0]])
def test_where_the_rules_are_gone_nothing_of_ours_takes_the_packet(node: ServicesNode, source: str) -> None:
    programmed(node)
    node.lab.reset()
    client = next(name for name, address in SOURCES.items() if address == source)
    answer = explained(node, client, "10.96.0.1", 80)
    assert (answer["verdict"], answer["as_wanted"], answer["met"]) == ("none", False, [])

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whom a drift concerns: who misses something, and of whom something speaks that somebody added."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import changes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables import IptablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView, resolve
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

SETTINGS = Settings(NodeView("node-a"))
LEAF = "4/nat/SERVICENET-IP-0a"
PORTS = "4/nat/SERVICENET-NP-tcp-30080"


def cluster() -> list[dict[str, Any]]:
    """Two Services in one leaf: of two ports, one of them with a node port, and of one."""
    made: list[dict[str, Any]] = []
    for name, address, ports in (("web", "10.96.0.10", (80, 443)), ("api", "10.96.1.10", (80,))):
        spec = [{"name": f"p{p}", "port": p, "nodePort": 30080 if (name, p) == ("web", 80) else 0} for p in ports]
        labels = {"kubernetes.io/service-name": name}
        made += [
            {
                "kind": "Service",
                "metadata": {"namespace": "shop", "name": name},
                "spec": {"type": "NodePort", "clusterIPs": [address], "ports": spec},
            },
            {
                "kind": "EndpointSlice",
                "metadata": {"namespace": "shop", "name": name, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": p["name"], "port": 8080} for p in spec],
                "endpoints": [{"addresses": ["10.128.0.1"]}],
            },
        ]
    return made


RULES = resolve(build_snapshot(cluster()).services()[0], SETTINGS.view).rules


@pytest.mark.parametrize(
    ("container", "added", "whose"),
    [
        (LEAF, "-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j DROP", ["shop/web:p80"]),
        (LEAF, "-d 10.96.0.10/32 -j DROP", ["shop/web:p443", "shop/web:p80"]),
        (LEAF, "-d 10.96.0.10/32 -p udp -m udp --dport 80 -j DROP", ["shop/web:p443", "shop/web:p80"]),
        (LEAF, "-d 10.96.0.110/32 -j DROP", [changes.COMMON]),
        (LEAF, "-p tcp -m tcp --dport 30080 -j DROP", [changes.COMMON]),
        (PORTS, "-p tcp -m tcp --dport 30080 -j DROP", ["shop/web:p80"]),
        (PORTS, "-p tcp -m tcp --dport 30081 -j DROP", [changes.COMMON]),
    ],
)
def test_a_rule_that_somebody_added_is_of_whom_it_names(container: str, added: str, whose: list[str]) -> None:
    compiler = IptablesCompiler(SETTINGS)
    held = compiler.compile(RULES)[container]
    assert changes.concerned({container: (added, *held)}, RULES, compiler) == whose


def test_who_misses_a_rule_and_whose_address_is_named_are_both_told() -> None:
    compiler = IptablesCompiler(SETTINGS)
    held = [rule for rule in compiler.compile(RULES)[LEAF] if "10.96.1.10" not in rule]
    found = changes.concerned({LEAF: ("-d 10.96.0.10/32 -p tcp --dport 443 -j DROP", *held)}, RULES, compiler)
    assert found == ["shop/api:p80", "shop/web:p443"]


def test_rules_in_another_order_are_nobodys() -> None:
    compiler = IptablesCompiler(SETTINGS)
    held = compiler.compile(RULES)[LEAF]
    assert changes.concerned({LEAF: held[::-1]}, RULES, compiler) == [changes.COMMON]


@pytest.mark.parametrize(
    ("kind", "key", "whose"),
    [
        ("rejected", "10.96.0.10 . 6 . 80", ["shop/web:p80"]),
        ("rejected", "10.96.0.99 . 6 . 80", [changes.COMMON]),
        ("rejected_nodeport", "6 . 30080", ["shop/web:p80"]),
        ("rejected_nodeport", "17 . 30080", [changes.COMMON]),
    ],
)
def test_an_element_that_somebody_added_is_of_whom_it_names(kind: str, key: str, whose: list[str]) -> None:
    assert changes.concerned({f"4/{kind}/{key}": key}, RULES, NftablesCompiler(SETTINGS)) == whose


@pytest.mark.parametrize(
    ("container", "held", "whose"),
    [
        ("4/real/any/tcp/10.96.0.10/443/10.128.9.9/1", 1, ["shop/web:p443"]),
        ("4/real/any/tcp/10.96.0.10/443/10.128.0.1/8080", 7, ["shop/web:p443"]),
        ("4/server/any/tcp/10.96.0.10/80", "wlc 0", ["shop/web:p80"]),
        ("4/server/any/tcp/10.96.0.10/444", "rr 0", ["shop/web:p443", "shop/web:p80"]),
        ("4/set/INT/10.96.1.10,tcp:80", None, ["shop/api:p80"]),
        ("4/set/REJECT/10.96.1.10,tcp:80", "", ["shop/api:p80"]),
        ("4/set/NP/tcp:30080", "mark 0x0", ["shop/web:p80"]),
        ("4/server/pod/tcp/-/30080", "rr 0", ["shop/web:p80"]),
        ("4/address/10.96.1.10", False, ["shop/api:p80"]),
        ("4/address/10.96.1.11", True, [changes.COMMON]),
        ("4/server/stray/tcp/-/0x5e000001", "rr 0", [changes.COMMON]),
        ("4/chain/mangle/SERVICENET-IPVS-PRE", (), [changes.COMMON]),
    ],
)
def test_containers_of_ipvs_are_of_whom_their_names_tell(container: str, held: Any, whose: list[str]) -> None:
    assert changes.concerned({container: held}, RULES, IpvsCompiler(SETTINGS)) == whose


def test_a_container_that_nobody_wants_is_common() -> None:
    assert changes.concerned({"4/nat/SERVICENET": None}, RULES, IptablesCompiler(SETTINGS)) == [changes.COMMON]

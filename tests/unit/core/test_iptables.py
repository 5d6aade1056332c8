# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chains of the iptables mode: what they must add up to, for any cluster."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import iptables, iptables_live
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import text_iptables as text
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables import IptablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView, resolve
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import (
    BALANCE,
    CLUSTER_IP,
    LOAD_BALANCER,
    REJECT,
    Backend,
    ServiceTable,
    Target,
)

from . import clusters
from .test_resolve import service

SETTINGS = Settings(NodeView("node-a", "z1", ("198.18.1.1",)), Detector(("10.128.0.0/9",)))
COMPILER = IptablesCompiler(SETTINGS)


def compiled(objects: list[dict[str, Any]]) -> tuple[ServiceTable, Program]:
    """The table of a cluster and its whole program."""
    table = resolve(build_snapshot(objects).services()[0], SETTINGS.view)
    program = COMPILER.compile(table.rules)
    return table, {**program, **COMPILER.frame(program)}


def many_endpoints(count: int) -> list[dict[str, Any]]:
    objects = service([])
    objects[1]["endpoints"] = [{"addresses": [f"10.128.{i // 250}.{i % 250 + 1}"]} for i in range(count)]
    return objects


def test_a_small_service_is_balanced_in_its_leaf() -> None:
    objects = service(["local", "other"])
    del objects[0]["spec"]["ports"][0]["nodePort"]
    _table, program = compiled(objects)
    match = "-d 10.96.0.10/32 -p tcp -m tcp --dport 80"
    assert program["4/nat/SERVICENET-IP-0a"] == (
        f"{match} -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.128.0.1:8080",
        f"{match} -j DNAT --to-destination 10.128.0.2:8080",
    )
    assert program["4/nat/SERVICENET-IP-a"] == ("-d 0.0.0.0/0.0.0.240 -g SERVICENET-IP-0a",)
    assert "-d 0.0.0.10/0.0.0.15 -j SERVICENET-IP-a" in program["4/nat/SERVICENET"]


def test_node_ports_on_every_address_are_spelled_as_the_kernel_lists_them() -> None:
    """iptables-save leaves ``-d 0.0.0.0/0`` out, so such a rule would differ at every look; and 127.0.0.1 is served
    only if it is asked for."""
    names = ["4/nat/SERVICENET-NP-tcp-30080", "6/nat/SERVICENET-NP-tcp-30080"]
    for localhost in (True, False):
        everything = SETTINGS._replace(
            nodeport_addresses=("198.18.0.0/16", "0.0.0.0/0", "::/0"), localhost_nodeports=localhost
        )
        default = SETTINGS._replace(localhost_nodeports=localhost)
        assert IptablesCompiler(everything).frame(names) == IptablesCompiler(default).frame(names)
        assert everything.serves_loopback() == localhost


@pytest.mark.parametrize(
    ("localhost", "served"),
    [(True, {"127.0.0.0/8", "198.18.0.0/16", "fd98:1::/64"}), (False, {"198.18.0.0/16", "fd98:1::/64"})],
)
def test_node_ports_on_the_loopback_only_where_they_work(localhost: bool, served: set[str]) -> None:
    chosen = SETTINGS._replace(
        nodeport_addresses=("127.0.0.0/8", "198.18.0.0/16", "::1/128", "fd98:1::/64"), localhost_nodeports=localhost
    )
    program = IptablesCompiler(chosen).frame(["4/nat/SERVICENET-NP-tcp-30080", "6/nat/SERVICENET-NP-tcp-30080"])
    rules = [rule for family in (4, 6) for rule in program[f"{family}/nat/SERVICENET"] if "NODEPORTS" in rule]
    assert {rule.split()[1] for rule in rules} == served
    alone = chosen._replace(nodeport_addresses=("127.0.0.1/32",))
    rules = list(IptablesCompiler(alone).frame(["4/nat/SERVICENET-NP-tcp-30080"])["4/nat/SERVICENET"])
    assert any("NODEPORTS" in rule for rule in rules) == localhost


def test_sixteen_thousand_services_do_not_make_sixteen_thousand_chains() -> None:
    objects = []
    for i in range(16_000):
        metadata = {"namespace": "shop", "name": f"s{i}"}
        spec = {"clusterIPs": [f"10.{96 + i // 65536}.{i // 256 % 256}.{i % 256}"], "ports": [{"port": 80}]}
        objects.append({"kind": "Service", "metadata": metadata, "spec": spec})
    _table, program = compiled([o for o in objects if o["spec"]["clusterIPs"] != ["10.96.0.0"]])
    chains = [name for name in program if "/filter/SERVICENET-IP-" in name]
    assert len(chains) == 256 + 16
    assert max(len(program[name]) for name in chains) <= 64


@pytest.mark.parametrize("count", [1, 4, 5, 16, 17, 250, 257, 1000])
def test_every_endpoint_has_the_same_chance(count: int) -> None:
    _table, program = compiled(many_endpoints(count))
    found = chances(program)
    assert len(found) == count
    assert all(abs(share * count - 1) < 0.001 for share in found.values())
    # No chain is long, so no packet meets many rules.
    assert max(len(rules) for rules in program.values()) <= 2 * iptables.CHOICES


def chances(program: Program) -> dict[str, float]:
    """The chance of each endpoint of the one Service."""
    found: dict[str, float] = {}

    def walk(chain: str, reached: float) -> None:
        for rule in program[f"4/nat/{chain}"]:
            chance = re.search(r"--probability (\S+)", rule)
            taken = reached * float(chance.group(1)) if chance else reached
            backend, onward = re.search(r"--to-destination (\S+)", rule), re.search(r"-g (\S+)", rule)
            if backend:
                found[backend.group(1)] = found.get(backend.group(1), 0) + taken
            elif onward:
                walk(onward.group(1), taken)
            else:
                continue
            reached -= taken

    (entrance,) = (name for name in program if "/nat/SERVICENET-B-" in name)
    walk(entrance.split("/")[2], 1.0)
    return found


def test_a_part_of_a_huge_service_takes_no_chain_of_another_part() -> None:
    """The 40,960th endpoint and those behind it had the chains of the 4,096th."""
    backends = tuple(Backend(f"10.128.{i // 250}.{i % 250 + 1}", 80, False) for i in range(41_000))
    everywhere = Target(BALANCE, backends)
    (entry,) = compiled(many_endpoints(1))[0].rules
    found = chances(COMPILER.compile([entry._replace(internal=everywhere, cluster=everywhere, external=everywhere)]))
    assert len(found) == len(backends)
    assert all(abs(share * len(backends) - 1) < 0.001 for share in found.values())


def test_the_name_of_a_chain_can_not_be_hit_by_the_name_of_another_service() -> None:
    """Who may name Services could try 2**48 names in some hours, and have what another Service is sent."""
    names = {iptables.parts(name)[2] for name in compiled(many_endpoints(300))[1]}
    of_service = [name for name in names if re.match("SERVICENET-[BCX]-", name)]
    assert len(of_service) > 10
    assert all(len(name) == 28 for name in of_service)
    assert all(set(name[13:]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for name in of_service)
    assert set.union(*(set(name[13:]) for name in of_service)) - set("ABCDEF234567")


def test_the_entrance_from_outside() -> None:
    """Policy Cluster masquerades everything; policy Local tells Pods, the node and the outside apart."""
    for policy, expected in (
        ("Cluster", ("-j MARK --set-xmark 0x4000/0x4000", "-g CLUSTER")),
        (
            "Local",
            (
                "-j MARK --set-xmark 0x0/0x4000",
                "-s 10.128.0.0/9 -g CLUSTER",
                "-m addrtype --src-type LOCAL -j MARK --set-xmark 0x4000/0x4000",
                "-m addrtype --src-type LOCAL -g CLUSTER",
                "-g NODE",
            ),
        ),
    ):
        table, program = compiled(service(["local", "other"], externalTrafficPolicy=policy))
        (entrance,) = (rules for name, rules in program.items() if "/nat/SERVICENET-X-" in name)
        told = list(entrance)
        for name, rules in program.items():
            if "/nat/SERVICENET-B-" in name:
                whose = "CLUSTER" if len(rules) == 2 else "NODE"
                told = [rule.replace(name.split("/")[2], whose) for rule in told]
        assert tuple(told) == expected
        assert table.rules[0].external_local == (policy == "Local")


@example(ip_address("fd00::1:0"), ip_address("10.96.0.0"), "clusterIPs")
@example(ip_address("::"), ip_address("0.0.0.100"), "clusterIPs")
@example(ip_address("::"), ip_address("0.0.0.0"), "ingress")
@given(st.ip_addresses(), st.ip_addresses(), st.sampled_from(["clusterIPs", "externalIPs", "ingress"]))
def test_a_leaf_finds_the_lines_of_its_addresses(address: Any, other: Any, field: str) -> None:
    """The pattern of a leaf finds its addresses in a Service's line, whichever kind of VIP they are, and no others."""
    leaf = iptables.container(address.version, "nat", f"SERVICENET-IP-{iptables.low_byte(str(address)):02x}")
    (pattern,) = COMPILER.contributors([leaf])
    assert isinstance(pattern, re.Pattern)
    for candidate in (address, other):
        values = f'[{{"ip":"{candidate}"}}]' if field == "ingress" else f'["{candidate}"]'
        line = f'{{"spec":{{"{field}":{values}}},"endpointSlices":[{{"addresses":["{address}"]}}]}}'
        inside = candidate.version == address.version and int(candidate) & 255 == int(address) & 255
        assert bool(pattern.search(line.encode())) == inside


def test_clients_are_remembered_by_the_backend_and_not_by_the_frontend() -> None:
    objects = service(["local", "other"], sessionAffinity="ClientIP", externalTrafficPolicy="Local")
    _table, program = compiled(objects)
    lists: dict[str, set[str]] = {}
    for rules in program.values():
        for rule in rules:
            name, backend = re.search(r"--name (\S+)", rule), re.search(r"--to-destination (\S+)", rule)
            if name and backend:
                lists.setdefault(backend.group(1), set()).add(name.group(1))
    assert {backend: len(names) for backend, names in lists.items()} == {"10.128.0.1:8080": 1, "10.128.0.2:8080": 1}
    assert all("--seconds 10800" in r for rules in program.values() for r in rules if "--update" in r)


@settings(max_examples=60)
@given(clusters.clusters())
def test_the_chains_do_what_the_table_says(objects: list[dict[str, Any]]) -> None:
    table, program = compiled(objects)
    found = {(f.family, f.address, f.protocol, f.port): f for f in iptables_live.frontends(program)}
    for entry in table.rules:
        for frontend in entry.frontends:
            live = found.pop((entry.family, frontend.address, entry.protocol, frontend.port))
            inward = frontend.kind == CLUSTER_IP
            targets = (entry.internal,) if inward else (entry.cluster, entry.external)
            expected = {(b.address, b.port) for t in targets if t.verdict == BALANCE for b in t.backends}
            assert set(live.backends) == expected
            verdict = targets[-1].verdict
            limited = frontend.kind == LOAD_BALANCER and frontend.source_ranges is not None
            assert live.refused == ("reject" if verdict == REJECT else "drop" if verdict != BALANCE or limited else "")
    assert found == {}


@settings(max_examples=60)
@given(clusters.clusters())
def test_every_chain_is_led_to_and_has_a_name_that_iptables_takes(objects: list[dict[str, Any]]) -> None:
    _table, program = compiled(objects)
    chains: dict[tuple[int, str], set[str]] = {}
    targets: dict[tuple[int, str], set[str]] = {}
    for name, rules in program.items():
        family, where, chain = iptables.parts(name)
        assert len(chain) <= 28
        if chain not in iptables.HOOKS[where]:
            chains.setdefault((family, where), set()).add(chain)
        targets.setdefault((family, where), set()).update(re.findall(r"-[jg] (SERVICENET\S*)", "\n".join(rules)))
        for rule in rules:
            assert not re.search(r"[\n;`$|&<>\\]", rule)
    for table, names in chains.items():
        assert targets[table] <= names
        # The dispatch of an empty filter table is the one chain that nothing needs to lead to.
        assert names - targets[table] <= {"SERVICENET"}


@settings(max_examples=40)
@given(clusters.clusters(), clusters.clusters())
def test_a_transaction_declares_what_it_changes_and_only_that(old: list[Any], new: list[Any]) -> None:
    before, after = compiled(old)[1], compiled(new)[1]
    changes = {
        iptables.parts(name)[2]: (before.get(name), after.get(name))
        for name in {**before, **after}
        if name.startswith("4/nat/SERVICENET") and before.get(name) != after.get(name)
    }
    lines = text.transaction("nat", changes, {}).splitlines()
    assert {line.split(" ")[0][1:] for line in lines if line.startswith(":")} == set(changes)
    gone = {chain for chain, (_old, rules) in changes.items() if rules is None}
    assert {line[3:] for line in lines if line.startswith("-X ")} == gone
    assert [line for line in lines if line.startswith("-A ")] == [
        f"-A {chain} {rule}" for chain, (_old, rules) in changes.items() for rule in rules or ()
    ]


def test_chains_of_the_mode_ipvs_are_left_to_it() -> None:
    assert iptables.ours("filter", "SERVICENET-IPVS-INPUT", ("-j DROP",)) is None
    assert iptables.ours("filter", "SERVICENET-IP-5", ("-j DROP",)) == ("-j DROP",)
    jumps = ("-j SERVICENET-IPVS-INPUT", "-j SERVICENET-INPUT", "-j OTHER")
    assert iptables.ours("filter", "INPUT", jumps) == ("-j SERVICENET-INPUT",)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second run changes nothing and writes nothing; what others do to our rules is told and repaired; and at the end
nothing of ours is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from collection_tree import collections_path
from integration.services_lab import ServicesNode, module_server, node, service, services_lab, vip

__all__ = ["module_server", "node", "services_lab"]

WEB = service("web", 10, {"pod-a1": "ready", "pod-b1": "ready"}, nodePort=30080, type="NodePort")
API = service("api", 11, {"pod-a2": "ready"}, target=9090)
# Its ClusterIP is in the same leaf of the tree as that of shop/web.
NEIGHBOUR = service("neighbour", 266 - 256, {"pod-b2": "ready"}, target=9090)
for _raw in NEIGHBOUR[:1]:
    _raw["spec"].update(clusterIP="10.96.1.10", clusterIPs=["10.96.1.10", "fd00:10:96::1:a"])
EMPTY = service("empty", 12, {})
ALL = (WEB, API, NEIGHBOUR, EMPTY)
COMMON = "(common rules)"
# What Ansible's own wrapper does before a module's code runs, and the module.
LAUNCHER = """
import runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
MODULES = "ansible_collections.kubenode.servicenet.plugins.modules"


def assert_packets_flow(node: ServicesNode) -> None:
    """Every Service answers, in both families, or refuses where it has no endpoints."""
    for family in (4, 6):
        for proto in ("TCP", "UDP"):
            assert set(node.probe("pod", vip(10, family), proto=proto, count=32)) == {"pod-a1:8080", "pod-b1:8080"}
        assert set(node.probe("ext", vip(11, family))) == {"pod-a2:9090"}
        assert set(node.probe("host", ("10.96.1.10", "fd00:10:96::1:a")[family == 6])) == {"pod-b2:9090"}
        assert set(node.probe("pod", vip(12, family))) == {"reject"}
    assert set(node.probe("ext", "198.18.1.1", 30080, count=32)) == {"pod-a1:8080", "pod-b1:8080"}


def files_of(*directories: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and directory, with what shows that it was written or replaced."""
    found = {}
    for directory in directories:
        for path in [directory, *directory.rglob("*")]:
            seen = path.stat()
            found[str(path)] = (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns)
    return found


# ---- again


def test_a_second_run_changes_nothing_and_writes_nothing(node: ServicesNode) -> None:
    node.give(*ALL)
    assert node.run()["changed"]
    assert_packets_flow(node)
    before = node.rules(), node.sysctls(), node.generation(), files_of(node.state_dir, node.run_dir)
    # The API gives the objects in another order.
    node.give(*reversed([list(reversed(objects)) for objects in ALL]))
    again = node.run(_ansible_diff=True)
    assert not again["changed"]
    assert (again["diff"]["before"], again["diff"]["after"], again["transactions"]) == ("", "", 0)
    assert (node.rules(), node.sysctls(), node.generation(), files_of(node.state_dir, node.run_dir)) == before


def test_a_second_run_opens_no_file_for_writing(node: ServicesNode) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace on this machine")
    node.give(*ALL)
    node.run()
    trace = node.directory / "trace"
    calls = "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,linkat,symlink,chmod,fchmod"
    done = subprocess.run(
        [
            *("ip", "netns", "exec", node.lab.node),
            *("strace", "-f", "-s", "200", "-e", f"trace={calls}", "-o", str(trace)),
            *(sys.executable, "-B", "-c", LAUNCHER, f"{MODULES}.{node.variant.mode}_services"),
        ],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": node.arguments()}),
        env=os.environ | {"PYTHONPATH": str(collections_path())},
        text=True,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["changed"] is False
    written = []
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if call and int(call.group(3)) >= 0:
            reads_only = call.group(1) in ("open", "openat") and not re.search(
                r"O_WRONLY|O_RDWR|O_CREAT", call.group(2)
            )
            # iptables locks itself with a file that it opens for reading, and makes if there is none.
            if not reads_only and '"/dev/' not in call.group(2) and '"/run/xtables.lock"' not in call.group(2):
                written.append(line)
    assert written == []


def test_a_second_run_says_the_same_whichever_way_it_takes(node: ServicesNode) -> None:
    node.give(*ALL)
    node.run()
    short = node.run(_ansible_diff=True)
    # Whoever looks for what a kube-proxy left has to have all of the code at hand.
    long = node.run(_ansible_diff=True, remove_kube_proxy=True)
    for said in (short, long):
        del said["invocation"]
    assert short == long


def test_a_change_of_somebody_else_costs_a_look_and_nothing_more(node: ServicesNode) -> None:
    node.give(*ALL)
    node.run()
    node.sh("nft add table ip somebody")
    before = node.rules()
    looked = node.run()
    assert not looked["changed"]
    assert looked["drift"] == []
    assert node.rules() == before
    settled = node.generation(), files_of(node.state_dir, node.run_dir)
    assert not node.run()["changed"]
    assert (node.generation(), files_of(node.state_dir, node.run_dir)) == settled


def test_node_ports_on_every_address_are_no_drift(node: ServicesNode) -> None:
    everywhere = ["0.0.0.0/0", "::/0"]
    node.give(*ALL)
    node.run(nodeport_addresses=everywhere)
    assert set(node.probe("ext", "198.18.1.1", 30080, count=32)) == {"pod-a1:8080", "pod-b1:8080"}
    node.sh("nft add table ip somebody")
    looked = node.run(nodeport_addresses=everywhere)
    assert (looked["changed"], looked["drift"]) == (False, [])


# ---- drift


def iptables(node: ServicesNode, command: str, family: int = 4) -> str:
    """A command of the variant's iptables on the node; beside the nftables mode, others may use iptables-nft."""
    tool = "iptables" if family == 4 else "ip6tables"
    return node.sh(f"{tool}-{node.variant.options.get('variant', 'nft')} {command}")


class Drift(NamedTuple):
    """What somebody does (arguments of the tool), and whom it concerns."""

    command: str
    concerned: set[str]


EVERYBODY = {f"shop/{name}:{port}" for name in ("web", "api", "neighbour") for port in ("tcp", "udp")}
API_TCP = f"-d {vip(11)}/32 -p tcp -m tcp --dport 80"
NFT_API = "{ 10.96.0.11 . tcp . 80"
# mode -> what happens
DRIFTS = {
    "iptables": {
        "a rule is deleted": Drift(
            f"iptables -t nat -D SERVICENET-IP-0b {API_TCP} -j DNAT --to 10.128.0.12:9090", {"shop/api:tcp"}
        ),
        # Nobody misses anything, but the rule names an address and a port.
        "a rule is added": Drift(f"iptables -t nat -I SERVICENET-IP-0b {API_TCP} -j RETURN", {"shop/api:tcp"}),
        "a rule of nobody is added": Drift("iptables -t nat -I SERVICENET-IP-0b -j RETURN", {COMMON}),
        "a chain is flushed": Drift("iptables -t nat -F SERVICENET-IP-0b", {"shop/api:tcp", "shop/api:udp"}),
        "what is shared is flushed": Drift(
            "ip6tables -t nat -F SERVICENET-IP-0a",
            {"shop/web:tcp", "shop/web:udp", "shop/neighbour:tcp", "shop/neighbour:udp"},
        ),
        "the rejects are flushed": Drift(
            "iptables -t filter -F SERVICENET-IP-0c", {"shop/empty:tcp", "shop/empty:udp"}
        ),
        "the way in is removed": Drift("iptables -t nat -D PREROUTING -j SERVICENET", {COMMON}),
        "a table is gone": Drift("iptables -t nat -F", {*EVERYBODY, COMMON}),
    },
    "nftables": {
        "a rule is deleted": Drift(f"delete element ip servicenet service {NFT_API} }}", {"shop/api:tcp"}),
        "a rule is added": Drift(f"add element ip servicenet rejected {NFT_API} }}", {"shop/api:tcp"}),
        "a rule of nobody is added": Drift("add rule ip servicenet prerouting ip ttl 1 return", {COMMON}),
        "a chain is flushed": Drift("flush chain ip servicenet internal_1", {COMMON}),
        "what is shared is flushed": Drift("flush map ip6 servicenet service", EVERYBODY),
        "the rejects are flushed": Drift("flush set ip servicenet rejected", {"shop/empty:tcp", "shop/empty:udp"}),
        "the way in is removed": Drift("delete chain ip servicenet prerouting", {COMMON}),
        "a table is gone": Drift(
            "delete table ip servicenet", {*EVERYBODY, "shop/empty:tcp", "shop/empty:udp", COMMON}
        ),
    },
}
DRIFTS["userspace"] = DRIFTS["nftables"]


def alter(node: ServicesNode, drift: Drift) -> None:
    """Does it."""
    if node.variant.mode != "iptables":
        node.sh("nft -f -", drift.command + "\n")
    else:
        tool, _space, command = drift.command.partition(" ")
        iptables(node, command, 6 if tool == "ip6tables" else 4)


@pytest.mark.parametrize("what", DRIFTS["iptables"])
def test_drift_is_told_and_repaired(node: ServicesNode, what: str) -> None:
    drift = DRIFTS[node.variant.mode][what]
    node.give(*ALL)
    node.run()
    for family, ours in ((4, "198.18.7.7"), (6, "fd98:7::7")):
        for table in ("nat", "filter"):
            iptables(node, f"-t {table} -N FOREIGN", family)
            iptables(node, f"-t {table} -A FOREIGN -d {ours} -m comment --comment ours -j RETURN", family)
    node.sh("nft add table inet somebody")
    good = node.tables()
    alter(node, drift)
    altered = node.tables()
    assert altered != good
    shown = node.check()
    assert node.tables() == altered
    result = node.run(_ansible_diff=True)
    assert result["changed"]
    assert set(result["drift"]) == drift.concerned
    assert (shown["drift"], shown["diff"]) == (result["drift"], result["diff"])
    for name in drift.concerned:
        assert f"{name} (altered on the node)" in result["diff"]["before"]
    if what != "a table is gone":  # the others' chains in it are gone as well
        assert node.tables() == good
    assert "somebody" in node.rules()
    assert_packets_flow(node)
    again = node.run()
    assert (again["changed"], again["drift"]) == (False, [])


def test_drift_beside_a_change_is_told_too(node: ServicesNode) -> None:
    """What differs on the node and what differs in the cluster are two things, in one run."""
    node.give(*ALL)
    node.run()
    alter(node, DRIFTS[node.variant.mode]["a rule is deleted"])
    node.give(WEB, API, NEIGHBOUR, service("empty", 12, {"pod-a1": "ready"}))
    result = node.run()
    assert result["drift"] == ["shop/api:tcp"]
    assert result["services_changed"] == ["shop/empty"]
    assert set(node.probe("pod", vip(11))) == {"pod-a2:9090"}
    assert set(node.probe("pod", vip(12))) == {"pod-a1:8080"}


# ---- absent


def test_absent_leaves_nothing_of_ours_and_everything_of_others(node: ServicesNode) -> None:
    for family in (4, 6):
        for table, chain in (("nat", "PREROUTING"), ("filter", "FORWARD")):
            iptables(node, f"-t {table} -N FOREIGN", family)
            iptables(node, f"-t {table} -A {chain} -m comment --comment foreign -j FOREIGN", family)
        for table in ("nat", "filter", "mangle"):  # the built-in chains are there from now on, whoever made them first
            iptables(node, f"-t {table} -L -n", family)
    node.sh("nft add table inet somebody")
    node.sh("sysctl -q -w net.ipv4.ip_forward=0")
    before, sysctls = node.rules(), node.sysctls()
    node.give(*ALL)
    node.run()
    # Nothing is forwarded to proxies.
    assert node.sysctls().count("net.ipv4.ip_forward = 1") == (node.variant.mode != "userspace")
    assert "servicenet" in node.rules().lower()
    assert node.sysctls() != sysctls
    shown = node.run(state="absent", _ansible_check_mode=True, _ansible_diff=True)
    result = node.run(state="absent", _ansible_diff=True)
    assert result["changed"]
    assert shown["changed"]
    assert shown["diff"] == result["diff"]
    assert f"shop/api:tcp {vip(11)}:80/tcp" in result["diff"]["before"]
    assert _without_empty_builtins(node.rules()) == _without_empty_builtins(before)
    assert node.sysctls() == sysctls
    node.sh("sysctl -q -w net.ipv4.ip_forward=1")
    assert list(node.state_dir.iterdir()) == []
    assert set(node.probe("pod", vip(10))) <= {"drop", "reject"}
    assert not node.run(state="absent")["changed"]


def test_absent_needs_no_state(node: ServicesNode) -> None:
    node.give(*ALL)
    node.run()
    shutil.rmtree(node.state_dir)
    shutil.rmtree(node.run_dir)
    node.snapshot.unlink()
    assert node.run(state="absent")["changed"]
    assert "servicenet" not in node.rules().lower()
    assert not node.run(state="absent")["changed"]


@pytest.mark.parametrize(("family", "other"), [("ipv4", 6), ("ipv6", 4)])
def test_a_family_that_is_served_no_more_leaves_nothing(node: ServicesNode, family: str, other: int) -> None:
    node.give(*ALL)
    node.run()
    assert vip(11, other) in node.rules()
    assert node.run(ip_families=[family])["changed"]
    assert vip(11, other) not in node.rules()
    assert set(node.probe("ext", vip(11, 10 - other))) == {"pod-a2:9090"}
    assert not node.run(ip_families=[family])["changed"]
    node.run()
    assert node.run(ip_families=[family], state="absent")["changed"]
    assert "servicenet" not in node.rules().lower()


def test_absent_on_a_node_never_touched(node: ServicesNode) -> None:
    before = node.rules(), node.sysctls()
    assert not node.run(state="absent")["changed"]
    assert (node.rules(), node.sysctls()) == before
    assert not node.state_dir.exists()


def _without_empty_builtins(rules: str) -> list[str]:
    """iptables makes its built-in chains when it first writes, and nobody may take them away again."""
    lines = rules.splitlines()
    return [
        line for line in lines if not re.match(r"chain (INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)( type.*)?$", line)
    ]

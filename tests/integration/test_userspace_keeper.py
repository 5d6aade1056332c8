# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps the proxies of the userspace mode running on a node without systemd."""

from __future__ import annotations

import json
import re

import pytest
from lab import Lab
from lab.nodes import Node
from lab.waiting import wait_until

WEB, API = "10.96.0.10", "10.96.0.11"
PROGRAM = "/usr/local/lib/servicenet/userspace_supervise.py"
PORTS = "/var/lib/servicenet/userspace_ports.json"


@pytest.fixture(scope="module")
def programmed(lab: Lab) -> Lab:
    """A lab whose nodes have the mode."""
    lab.playbook("site", inventory=lab.inventory(service_proxy_mode="userspace"))
    return lab


@pytest.fixture
def node(programmed: Lab) -> Node:
    """One node of it."""
    return programmed.node("node-a")


def processes(node: Node, pattern: str) -> list[int]:
    """The processes of the node whose command line matches."""
    said = node.run(["ps", "-e", "-o", "pid=,args="]).stdout
    return [int(line.split()[0]) for line in said.splitlines() if re.search(pattern, line)]


def masters(node: Node) -> list[int]:
    """Those of nginx; one that ends when its connections do is among them."""
    return processes(node, "nginx: master")


def answers(lab: Lab) -> bool:
    """Does the Service answer a Pod of the node?"""
    return lab.http("pod-a3", f"http://{WEB}/")[0] == 200


def resync(lab: Lab) -> list[int]:
    """The periodic run; how many tasks changed something on node-a and on node-b."""
    changed = lab.playbook("resync", inventory=lab.inventory(service_proxy_mode="userspace")).changed
    return [changed["node-a"], changed["node-b"]]


def test_a_second_run_changes_nothing(programmed: Lab, node: Node) -> None:
    before = masters(node)
    assert answers(programmed)
    assert resync(programmed) == [0, 0]
    assert masters(node) == before
    assert len(processes(node, PROGRAM)) == 1


def test_a_killed_master_is_back_by_itself(programmed: Lab, node: Node) -> None:
    """Connections of before go on, and the next run finds nothing to do."""
    (before,) = masters(node)
    stream = programmed.stream("pod-a3", API, 7000)
    who = stream.say("one").split()[0]
    node.run(["kill", "-9", str(before)])
    wait_until(lambda: set(masters(node)) - {before})
    wait_until(lambda: answers(programmed))
    assert stream.say("two") == f"{who} two"
    stream.close()
    assert resync(programmed) == [0, 0]


def test_a_killed_keeper_is_replaced_by_the_next_run(programmed: Lab, node: Node) -> None:
    """And nginx with it, since somebody has to wait for its end; its connections go on."""
    stream = programmed.stream("pod-a3", API, 7000)
    who = stream.say("one").split()[0]
    (keeper,), (before,) = processes(node, PROGRAM), masters(node)
    node.run(["kill", "-9", str(keeper)])
    assert answers(programmed)
    assert resync(programmed) == [1, 0]
    assert len(processes(node, PROGRAM)) == 1
    assert answers(programmed)
    assert stream.say("two") == f"{who} two"
    stream.close()
    wait_until(lambda: before not in masters(node))
    assert resync(programmed) == [0, 0]


def test_a_boot_is_healed(programmed: Lab, node: Node) -> None:
    """Of what a boot leaves: the files, and none of the processes, rules and reserved ports."""
    ports = json.loads(node.run(["cat", PORTS]).stdout)["ports"]
    for pattern in (PROGRAM, "nginx: (master|worker)"):
        node.run(["kill", "-9", *map(str, processes(node, pattern))])
        wait_until(lambda pattern=pattern: not processes(node, pattern), f"the end of {pattern}")  # type: ignore[misc]
    node.run(["sh", "-c", "rm -r /run/servicenet; nft flush ruleset; sysctl -q -w net.ipv4.ip_local_reserved_ports="])
    assert not answers(programmed)
    assert resync(programmed) == [1, 0]
    assert answers(programmed)
    assert json.loads(node.run(["cat", PORTS]).stdout)["ports"] == ports
    assert resync(programmed) == [0, 0]


def test_nothing_is_left_of_it(programmed: Lab, node: Node) -> None:
    """Another mode takes over, and the connection is served to its end."""
    stream = programmed.stream("pod-a3", API, 7000)
    who = stream.say("one").split()[0]
    programmed.playbook("site", inventory=programmed.inventory(service_proxy_mode="nftables"))
    assert stream.say("two") == f"{who} two"
    assert processes(node, PROGRAM) == []
    assert not node.path(PROGRAM).exists()
    assert not node.path("/var/lib/servicenet/userspace_start").exists()
    stream.close()
    wait_until(lambda: masters(node) == [])

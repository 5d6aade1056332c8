# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is killed: each table holds the old rules or the new ones, packets go to an old or a new backend or are
refused, and the next run heals. UDP flows move to living endpoints, also after a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from integration.old_and_new import (
    ANSWERS,
    NEW,
    NOBODY,
    OLD,
    REFUSED,
    assert_heals,
    assert_holds,
    assert_old_or_new,
    assert_tables_old_or_new,
    both,
    probe_all,
    settle,
)
from integration.services_lab import ServicesNode, module_server, node, rules_node, service, services_lab, vip

__all__ = ["module_server", "node", "rules_node", "services_lab"]


# ---- kill -9


def test_the_two_clusters_answer_as_they_should(node: ServicesNode) -> None:
    """What the tests below allow is what is seen without any kill."""
    both(node)
    assert_holds(node, 0)
    settle(node, NEW)
    assert_holds(node, 1)


def test_a_kill_between_any_two_transactions(node: ServicesNode) -> None:
    """There and back again, so that each pair of states is left half way in both directions."""
    old, new = both(node)
    stops = {0: 0, 1: 0}
    for cluster, wanted, way in ((NEW, new, 0), (OLD, old, 1)) * 12:
        node.give(*cluster)
        # Before the first one, then after each.
        node.fault("after" if stops[way] else "before", max(1, stops[way]))
        killed = "killed" in node.start().wait()
        node.heal()
        if killed:
            stops[way] += 1
            assert_old_or_new(node, old, new)
            node.run()
        assert node.tables() == wanted
        assert not node.run()["changed"]
        if not killed and way == 1:
            break
    # iptables: for each family the rejects that come, the NAT rules, the rejects that go. nftables: come, go.
    assert min(stops.values()) >= (5 if node.variant.mode == "iptables" else 2)


@pytest.mark.soak
def test_kills_at_random_moments(node: ServicesNode, full_figures: bool) -> None:
    old, new = both(node)
    wanted = 200 if full_figures else 20
    killed, duration = 0, 1.0
    for number in range(5 * wanted):
        cluster, tables = ((NEW, new), (OLD, old))[number % 2]
        node.give(*cluster)
        begin, run = time.monotonic(), node.start()
        time.sleep(random.uniform(0, duration))
        # The run alone, as the kernel does it for want of memory, or all that it started, as systemd does.
        random.choice((os.kill, os.killpg))(run.pid, signal.SIGKILL)
        ended = "killed" not in run.wait()
        if ended:
            duration = min(duration, time.monotonic() - begin)
            assert node.tables() == tables
            continue
        killed += 1
        if killed % 5 == 0:
            assert_old_or_new(node, old, new)
        else:
            assert_tables_old_or_new(node, old, new)
        if killed % 10 == 0:
            assert_heals(node, tables)
        if killed == wanted:
            break
    assert killed == wanted


def test_a_kill_on_a_node_never_touched(node: ServicesNode) -> None:
    """An un-NATed packet is all that there was before; no half program answers wrongly."""
    for stop in range(1, 9):
        node.lab.reset()
        for path in node.state_dir.glob("*"):
            path.unlink()
        node.give(*NEW)
        node.fault("after", stop)
        killed = "killed" in node.start().wait()
        node.heal()
        if not killed:
            break
        for number, seen in probe_all(node, silent={*ANSWERS}).items():
            assert seen <= {*ANSWERS[number][1], *NOBODY, *REFUSED}
        node.run()
        assert_holds(node, 1)
        assert not node.run()["changed"]
    assert stop > 1
    assert_holds(node, 1)


def test_a_kill_while_everything_is_removed(node: ServicesNode) -> None:
    untouched = node.sysctls()
    for stop in range(1, 9):
        settle(node, OLD)
        node.fault("after", stop)
        killed = "killed" in node.start(state="absent").wait()
        node.heal()
        if killed:
            for number, seen in probe_all(node, silent={*ANSWERS}).items():
                assert seen <= {*ANSWERS[number][0], *NOBODY, *REFUSED}
            assert node.run(state="absent")["changed"]
        assert "servicenet" not in node.rules().lower()
        assert node.sysctls() == untouched
        assert list(node.state_dir.iterdir()) == []
        if not killed:
            break
    assert stop > 1


# ---- UDP flows


UDP_CLIENT = """
import socket, sys, time
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", int(sys.argv[2])))
sock.connect((sys.argv[1], 80))
for line in sys.stdin:
    sock.settimeout(0)
    try:
        while sock.recv(2048):  # what came late, the last time
            pass
    except OSError:
        pass
    sock.settimeout(0.2)
    # More datagrams than one, since a new flow may begin with a lost one; the flow never falls silent. Silence is no
    # answer that anybody expects, but on a busy machine a server may be late.
    answers = []
    while len(answers) < 6 or (answers[-1] == "TimeoutError" and len(answers) < 300):
        try:
            sock.send(b"?")
            answers.append(sock.recv(2048).split()[0].decode())
        except OSError as error:
            answers.append(type(error).__name__)
    print(answers[-1], flush=True)
"""


@contextmanager
def udp_client(node: ServicesNode, address: str, port: int) -> Iterator[Any]:
    """A client with a fixed source port, whose flow never ends: a callable that sends and tells who answers."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", node.lab.ns("pod-a3"), "python3", "-c", UDP_CLIENT, address, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask() -> str:
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        yield ask
    finally:
        process.communicate()


@pytest.mark.parametrize("family", [4, 6])
def test_a_udp_flow_moves_to_a_living_endpoint(node: ServicesNode, family: int) -> None:
    settle(node, [service("dns", 53, {"pod-a1": "ready"}), service("other", 54, {"pod-a1": "ready"})])
    with udp_client(node, vip(53, family), 40053) as dns, udp_client(node, vip(54, family), 40054) as other:
        assert (dns(), other()) == ("pod-a1", "pod-a1")
        settle(node, [service("dns", 53, {"pod-b1": "ready"}), service("other", 54, {"pod-a1": "ready"})])
        assert (dns(), other()) == ("pod-b1", "pod-a1")
        settle(node, [service("dns", 53, {}), service("other", 54, {"pod-a1": "ready", "pod-b2": "ready"})])
        assert (dns(), other()) == ("ConnectionRefusedError", "pod-a1")


def test_a_udp_flow_moves_after_a_kill(rules_node: ServicesNode) -> None:
    """The run is killed when all rules are in force, but before it forgot the old flows: the next one must do it."""
    settle(rules_node, [service("dns", 53, {"pod-a1": "ready"})])
    rules_node.give(service("dns", 53, {"pod-b1": "ready"}))
    rules_node.fault("none", 0)
    rules_node.run()
    transactions = rules_node.heal()
    settle(rules_node, [service("dns", 53, {"pod-a1": "ready"})])
    with udp_client(rules_node, vip(53), 40055) as dns:
        assert dns() == "pod-a1"
        rules_node.give(service("dns", 53, {"pod-b1": "ready"}))
        rules_node.fault("after", transactions)
        assert "killed" in rules_node.start().wait()
        rules_node.heal()
        assert dns() == "pod-a1"
        rules_node.run()
        assert dns() == "pod-b1"

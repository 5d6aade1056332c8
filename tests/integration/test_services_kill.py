# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is killed, refused or kept from writing: each table holds the old rules or the new ones, packets go to an
old or a new backend or are refused, and the next run heals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.services_lab import ServicesNode, module_server, node, rules_node, service, services_lab, vip

__all__ = ["module_server", "node", "rules_node", "services_lab"]

Cluster = list[list[dict[str, Any]]]
# What an answer may be where no rule is in the way: a ClusterIP that nobody translates ends in silence.
NOBODY = {"drop"}
REFUSED = {"reject"}

# Each Service of the two clusters, between which runs are killed, and what its ClusterIP (10.96.0.NUMBER) answers.
OLD: Cluster = [
    service("stays", 10, {"pod-a1": "ready", "pod-b1": "ready"}, nodePort=30080, type="NodePort"),
    service("shrinks", 11, {"pod-a1": "ready", "pod-a2": "ready", "pod-b1": "ready", "pod-b2": "ready"}),
    service("fills", 12, {}),
    service("empties", 13, {"pod-a2": "ready"}),
    service("goes", 14, {"pod-a2": "ready"}, target=9090),
    service("gives-its-address", 15, {"pod-a2": "ready"}, target=8080),
    service("moves", 17, {"pod-a1": "ready"}, target=8443),
    service(
        "opens",
        18,
        {"pod-b2": "ready"},
        ingress=["198.19.0.18"],
        type="LoadBalancer",
        loadBalancerSourceRanges=["198.18.9.0/24", "fd98:9::/64"],
    ),
]
NEW: Cluster = [
    service("stays", 10, {"pod-a1": "ready", "pod-b1": "ready"}, nodePort=30080, type="NodePort"),
    service("shrinks", 11, {"pod-b2": "ready"}),
    service("fills", 12, {"pod-b1": "ready"}),
    service("empties", 13, {}),
    service("takes-an-address", 15, {"pod-b2": "ready"}, target=9090),
    service("comes", 16, {"pod-b1": "ready"}, target=5353),
    service("moves", 17, {"pod-b2": "ready"}, target=9999),
    service("opens", 18, {"pod-b2": "ready"}, ingress=["198.19.0.18"], type="LoadBalancer"),
]
BOTH = {"pod-a1:8080", "pod-b1:8080"}
ANSWERS: dict[int, tuple[set[str], set[str]]] = {
    10: (BOTH, BOTH),
    11: ({*BOTH, "pod-a2:8080", "pod-b2:8080"}, {"pod-b2:8080"}),
    12: (REFUSED, {"pod-b1:8080"}),
    13: ({"pod-a2:8080"}, REFUSED),
    14: ({"pod-a2:9090"}, NOBODY),
    15: ({"pod-a2:8080"}, {"pod-b2:9090"}),
    16: (NOBODY, {"pod-b1:5353"}),
    17: ({"pod-a1:8443"}, {"pod-b2:9999"}),
    18: ({"pod-b2:8080"}, {"pod-b2:8080"}),
}
LB = "198.19.0.18"
LB_ANSWERS = (NOBODY, {"pod-b2:8080"})
# Where one of the two has a backend, a packet that nobody translates has leaked; else it may be refused at any time.
ALLOWED = {
    number: {*old, *new, *REFUSED} - (NOBODY if NOBODY not in (old, new) else set())
    for number, (old, new) in ANSWERS.items()
}


def probe_all(node: ServicesNode, proto: str = "TCP", family: int = 4, silent: bool = False) -> dict[int, set[str]]:
    """What each ClusterIP answers. Two clients ask at the same time, each half of them.

    :param silent: any of them may be silent, not only those that are nobody's at times.
    """

    def ask(client: str, numbers: list[int]) -> list[tuple[int, set[str]]]:
        seen = []
        for number in numbers:
            # Silence takes long to be heard.
            count = 1 if silent or NOBODY in ANSWERS[number] else 6
            seen.append((number, set(node.probe(client, vip(number, family), proto=proto, count=count))))
        return seen

    numbers = list(ANSWERS)
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(ask, ("pod", "ext"), (numbers[::2], numbers[1::2]))
        return dict(pair for half in halves for pair in half)


def assert_holds(node: ServicesNode, which: int) -> None:
    """The node holds the old (0) or the new (1) cluster, as packets see it."""
    for family in (4, 6):
        for number, seen in probe_all(node, family=family).items():
            wanted = ANSWERS[number][which]
            assert seen, number
            assert seen <= wanted, (family, number, seen, wanted)
    assert set(node.probe("ext", LB, count=1)) == LB_ANSWERS[which]


def assert_tables_old_or_new(node: ServicesNode, old: dict[str, str], new: dict[str, str]) -> None:
    """Each table is wholly old or new."""
    for name, text in node.tables().items():
        if name.endswith("nat"):
            assert text in (old[name], new[name]), name
        else:
            # On the way, iptables' filter table refuses what either refuses, and a table of nftables still has what
            # nothing points at any more.
            was, is_now, held = (set(one.splitlines()) for one in (old[name], new[name], text))
            assert held <= was | is_now, name
            assert was <= held or is_now <= held, name


def assert_old_or_new(node: ServicesNode, old: dict[str, str], new: dict[str, str]) -> None:
    """Each table is wholly old or new, and so are the answers."""
    assert_tables_old_or_new(node, old, new)
    proto, family = random.choice(("TCP", "UDP")), random.choice((4, 6))
    for number, seen in probe_all(node, proto, family).items():
        assert seen, number
        assert seen <= ALLOWED[number], (proto, family, number, seen, ALLOWED[number])
    assert set(node.probe("ext", LB, count=1)) <= {*LB_ANSWERS[0], *LB_ANSWERS[1]}


def settle(node: ServicesNode, cluster: Cluster) -> dict[str, str]:
    """Makes the node hold a cluster; its rules."""
    node.give(*cluster)
    node.run()
    return node.tables()


def both(node: ServicesNode) -> tuple[dict[str, str], dict[str, str]]:
    """The rules of the old and of the new cluster; the node holds the old one then.

    Each is programmed twice: nftables keeps the chains that once chose from a number of endpoints.
    """
    for cluster in (OLD, NEW):
        settle(node, cluster)
    old, new = settle(node, OLD), settle(node, NEW)
    assert settle(node, OLD) == old
    return old, new


def assert_heals(node: ServicesNode, new: dict[str, str]) -> None:
    """The next run makes everything new, and the one after that finds nothing to do."""
    node.run()
    assert node.tables() == new
    assert_settled(node)


def assert_settled(node: ServicesNode) -> None:
    """One more run finds nothing to do, and does nothing."""
    settled = node.rules(), node.generation()
    again = node.run()
    assert not again["changed"]
    assert again["drift"] == []
    assert (node.rules(), node.generation()) == settled


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
        for number, seen in probe_all(node, silent=True).items():
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
            for number, seen in probe_all(node, silent=True).items():
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
sock.settimeout(0.2)
for line in sys.stdin:
    # More datagrams than one, since a new flow may begin with a lost one; the flow never falls silent.
    answers = []
    for _each in range(6):
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


# ---- refused


def test_a_rule_that_is_refused_is_taken_back_and_named(rules_node: ServicesNode) -> None:
    old, _new = both(rules_node)
    # The transaction of IPv6 that sends somebody to the new endpoint of shop/takes-an-address; IPv4 is new by then.
    for number in range(1, 20):
        rules_node.give(*NEW)
        rules_node.fault("spoil", number, "fd80:0:0:b::12[] .:]*9090")
        result = rules_node.start().wait()
        rules_node.heal()
        if result.get("failed"):
            break
        settle(rules_node, OLD)
    assert number > 1 or rules_node.variant.mode == "nftables"  # which commits both families at once
    assert "a rule of Service shop/takes-an-address:" in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert rules_node.tables() == old
    assert_holds(rules_node, 0)
    rules_node.run()
    assert_holds(rules_node, 1)
    assert not rules_node.run()["changed"]


def test_any_transaction_that_is_refused_takes_all_back(node: ServicesNode) -> None:
    old, new = both(node)
    refused = 0
    while True:
        node.give(*NEW)
        node.fault("refuse", refused + 1, "the kernel is out of memory today")
        result = node.start().wait()
        node.heal()
        if not result.get("failed"):
            break
        refused += 1
        assert "the kernel is out of memory today" in result["msg"]
        assert "nothing was changed" in result["msg"]
        assert node.tables() == old
    assert refused >= (4 if node.variant.mode == "iptables" else 1)
    assert node.tables() == new
    assert not node.run()["changed"]


# ---- a full disk


@contextmanager
def small_disk(node: ServicesNode) -> Iterator[Path]:
    """The node's state directory becomes a file system with little room, where its runs see it."""
    node.state_dir.mkdir()
    enter = ["nsenter", "--mount", "--target", str(node.server.pid)]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(node.state_dir)], check=True)
    try:
        yield Path(f"/proc/{node.server.pid}/root{node.state_dir}")
    finally:
        subprocess.run([*enter, "umount", str(node.state_dir)], check=True)


def fill(disk: Path) -> Path:
    """Takes all that is left."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
    return ballast


def test_a_full_disk_changes_nothing_and_says_so(node: ServicesNode) -> None:
    with small_disk(node) as disk:
        old, new = both(node)
        ballast = fill(disk)
        node.give(*NEW)
        message = node.fail()
        assert "No space left on device" in message
        assert str(node.state_dir) in message
        assert node.tables() == old
        assert_holds(node, 0)
        assert not [path for path in disk.iterdir() if path.name.startswith(".")]
        ballast.unlink()
        assert node.run()["changed"]
        assert node.tables() == new
        assert not node.run()["changed"]


# ---- two at once


def test_two_runs_at_once_are_one_after_the_other(node: ServicesNode) -> None:
    old, new = both(node)
    node.give(*NEW)
    first, second = node.start(), node.start()
    results = [first.wait(), second.wait()]
    assert all(not result.get("failed") for result in results), results
    assert node.tables() == new
    # Whoever came second found everything done, or the first had not begun.
    assert sorted(result["changed"] for result in results) in ([False, True], [True, True])
    assert not node.run()["changed"]
    assert old != new


def test_removing_and_programming_at_once_leave_all_or_nothing(node: ServicesNode) -> None:
    for _each in range(3):
        settle(node, OLD)
        node.give(*NEW)
        runs = [node.start(), node.start(state="absent")]
        random.shuffle(runs)
        for result in [run.wait() for run in runs]:
            assert not result.get("failed"), result
        if "servicenet" in node.rules().lower():
            assert_holds(node, 1)
            assert not node.run()["changed"]
        else:
            assert list(node.state_dir.iterdir()) == []


def test_a_run_that_waits_too_long_says_for_whom(node: ServicesNode) -> None:
    settle(node, OLD)
    old = node.tables()
    node.give(*NEW)
    lock = node.run_dir / "lock"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"{os.getpid()}\n")
        held.flush()
        begin = time.monotonic()
        message = node.fail(lock_timeout=1)
        assert time.monotonic() - begin >= 1
        assert f"Process {os.getpid()} (" in message
        assert f"held the lock {lock}" in message
        assert node.tables() == old
        assert node.check()["changed"]  # looking takes no lock
        node.give(*OLD)
        assert not node.run(lock_timeout=0)["changed"]  # nor does finding nothing to do
    node.give(*NEW)
    assert node.run(lock_timeout=5)["changed"]

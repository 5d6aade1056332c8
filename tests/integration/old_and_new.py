# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two clusters between which a node goes, and what a node shows while it is at one of them or between them."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from integration.services_lab import ServicesNode, service, vip

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
OFTEN_SILENT = {number for number, answers in ANSWERS.items() if NOBODY in answers}
LB = "198.19.0.18"
LB_ANSWERS = (NOBODY, {"pod-b2:8080"})
# Where one of the two has a backend, a packet that nobody translates has leaked; else it may be refused at any time.
ALLOWED = {
    number: {*old, *new, *REFUSED} - (NOBODY if NOBODY not in (old, new) else set())
    for number, (old, new) in ANSWERS.items()
}


def probe_all(
    node: ServicesNode, proto: str = "TCP", family: int = 4, silent: set[int] = OFTEN_SILENT
) -> dict[int, set[str]]:
    """What each ClusterIP answers. Two clients ask at the same time, each half of them.

    :param silent: those that may be. Silence takes long to be heard, so these are asked once; an answer of the others
        that is late is asked for again.
    """

    def ask(client: str, numbers: list[int]) -> list[tuple[int, set[str]]]:
        seen = []
        for number in numbers:
            count = 1 if number in silent else 6
            seen.append((number, set(node.probe(client, vip(number, family), proto=proto, count=count))))
        return seen

    numbers = list(ANSWERS)
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(ask, ("pod", "ext"), (numbers[::2], numbers[1::2]))
        return dict(pair for half in halves for pair in half)


def assert_holds(node: ServicesNode, which: int) -> None:
    """The node holds the old (0) or the new (1) cluster, as packets see it."""
    silent = {number for number, answers in ANSWERS.items() if answers[which] == NOBODY}
    for family in (4, 6):
        for number, seen in probe_all(node, family=family, silent=silent).items():
            wanted = ANSWERS[number][which]
            assert seen, number
            assert seen <= wanted, (family, number, seen, wanted)
    assert set(node.probe("ext", LB, count=1 if LB_ANSWERS[which] == NOBODY else 6)) == LB_ANSWERS[which]


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

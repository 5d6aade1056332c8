# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resyncs under load: while endpoints come and go, no new connection to a living endpoint fails, and no established
flow breaks."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from integration.services_lab import (
    HERE,
    PODS,
    STREAM,
    ServicesNode,
    module_server,
    node,
    service,
    services_lab,
    vip,
)
from uml.machine import is_inside

__all__ = ["module_server", "node", "services_lab"]

TARGET = 8080
# It is ready from the first run to the last.
ALWAYS = "pod-a1"
OTHERS = ("pod-a2", "pod-b1", "pod-b2", "pod-c1")
NODE_PORT = 30080
# Where the way back of an answer over UDP is cut by each change, see docs/conformance.md: of each flow one datagram.
LOSSY = {"userspace": "udp"}
# From which of their states the others are chosen anew for each run.
CHOICES = ("ready", "ready", "unready", "terminating", "")


class Traffic:
    """traffic.py in a namespace of the lab."""

    def __init__(self, node: ServicesNode, place: str, **targets: list[tuple[str, int]]) -> None:
        # User Mode Linux has one processor, which modules need as well.
        pause = "0.04" if is_inside() else "0.004"
        program = [sys.executable, HERE / "traffic.py", pause, json.dumps(targets)]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", node.lab.ns(place), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # Later the endpoints change, and streams that open late would all lead to those that always stay.
        assert self._process.stdout
        assert self._process.stdout.readline() == "open\n"

    def end(self) -> dict[str, Any]:
        """What came of it."""
        out, _err = self._process.communicate()
        return dict(json.loads(out))


class Pods:
    """The Pods' servers: one that is no endpoint any more goes on serving for one more run, as a Pod that terminates
    does, and then refuses: whom the rules still send there has no excuse."""

    def __init__(self, node: ServicesNode) -> None:
        self.node = node
        self.serving = dict.fromkeys(OTHERS, True)
        self.unused = dict.fromkeys(OTHERS, 0)

    def before_run(self, wanted: dict[str, str]) -> None:
        """What is to be used serves before the rules say so."""
        for pod in OTHERS:
            if wanted.get(pod) == "ready" and not self.serving[pod]:
                self._ask(pod, "serve")
                self.serving[pod] = True

    def after_run(self, wanted: dict[str, str]) -> None:
        """What the rules of this run and the one before did not use is closed."""
        for pod in OTHERS:
            self.unused[pod] = 0 if wanted.get(pod) == "ready" else self.unused[pod] + 1
            if self.unused[pod] > 1 and self.serving[pod]:
                self._ask(pod, "quit_serving")
                self.serving[pod] = False

    def open_all(self) -> None:
        """As they were at first."""
        self.before_run(dict.fromkeys(OTHERS, "ready"))

    def _ask(self, pod: str, operation: str) -> None:
        self.node.lab.workers[pod].ask(op=operation, port=TARGET)


@pytest.fixture
def pods(node: ServicesNode) -> Iterator[Pods]:
    """The Pods' servers, all of which serve in the end."""
    made = Pods(node)
    with contextlib.ExitStack() as stack:
        stack.callback(made.open_all)
        yield made


def cluster(states: dict[str, str], number: int) -> list[list[dict[str, Any]]]:
    """shop/web with these endpoints, and others around it that come, go and change."""
    web = service(
        "web", 10, states, stream=True, target=TARGET, nodePort=NODE_PORT, type="LoadBalancer", ingress=["198.19.0.10"]
    )
    # Neighbours in the leaf of shop/web and elsewhere.
    around = [service(f"noise-{n}", n, {"pod-b2": "ready"} if random.random() < 0.5 else {}) for n in (26, 42, 11, 12)]
    for index, raw in enumerate(around[0:2]):
        raw[0]["spec"].update(clusterIP=f"10.96.{index + 1}.10", clusterIPs=[f"10.96.{index + 1}.10"])
    return [web, *random.sample(around, number % (len(around) + 1))]


@pytest.mark.soak
def test_no_connection_fails_while_endpoints_come_and_go(node: ServicesNode, pods: Pods, full_figures: bool) -> None:
    everybody = dict.fromkeys((ALWAYS, *OTHERS), "ready")
    node.give(*cluster(everybody, 0))
    node.run()
    both = [(vip(10), 80), (vip(10, 6), 80)]
    streams = [(vip(10, family), STREAM) for family in (4, 6) for _each in range(10)]
    datagrams = {"inside": both, "outside": [("198.18.1.1", NODE_PORT)]}
    inside = Traffic(node, "pod-a3", tcp=both, udp=datagrams["inside"], streams=streams)
    outside = Traffic(
        node,
        "ext",
        tcp=[("198.18.1.1", NODE_PORT), ("fd98:1::1", NODE_PORT), ("198.19.0.10", 80)],
        udp=datagrams["outside"],
        streams=[("198.19.0.10", STREAM)] * 10,
    )
    # A run of the userspace mode waits for nginx.
    runs = 1000 if full_figures else 20 if node.variant.mode == "userspace" else 100
    changes = 0
    try:
        for number in range(runs):
            states = {ALWAYS: "ready"}
            states.update({pod: state for pod in OTHERS if (state := random.choice(CHOICES))})
            pods.before_run(states)
            node.give(*cluster(states, number))
            changes += node.run()["changed"]
            pods.after_run(states)
    finally:
        reports = {"inside": inside.end(), "outside": outside.end()}
    # It did change, it was noticed, and there was load all the time.
    assert changes > runs / 2
    for place, report in reports.items():
        for kind, tally in report.items():
            assert tally["failed"] == [], (place, kind)
            assert tally["tries"] > runs, (place, kind)
            # An endpoint that is gone has a tenth of a second for its last answers.
            lossy = kind == LOSSY.get(node.variant.mode)
            assert tally["again"] <= (changes * len(datagrams[place]) if lossy else runs // 20), (place, kind)
            who = {name.split(":")[0] for name in tally["who"]}
            # A stream keeps the Pod of its first moment: ten of them may well have missed a particular one.
            assert len(who) > 1 if kind == "streams" else who > {ALWAYS}, (place, kind)
            assert who <= PODS.keys(), (place, kind)
    wanted = {f"{pod}:{TARGET}" for pod, state in states.items() if state == "ready"}
    assert set(node.probe("pod", vip(10), count=96)) == wanted
    assert not node.run()["changed"]

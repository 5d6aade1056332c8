# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Graceful termination by the module ipvs_services, with live connections; see test_in_uml.py."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.packets.packet_lab import CLIENTS, NODE_IPS, PODS
from integration.services_lab import (
    IPVS,
    STREAM,
    ModuleServer,
    ServicesLab,
    ServicesNode,
    module_server,
    service,
    services_lab,
    vip,
)
from integration.test_rollback import roll_back
from uml.machine import has_ip_vs

__all__ = ["module_server", "services_lab"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

BOTH = ("pod-a1", "pod-b1")
NAMES = {PODS[name][0]: name for name in BOTH}
API = service("api", 11, {"pod-a2": "ready"})
# IPVS keeps a connection that was reset for ten seconds; the rest is for a busy machine.
PATIENCE = 120


def web(*pods: str, **spec: Any) -> list[dict[str, Any]]:
    """A Service with connections that stay."""
    return service("web", 10, dict.fromkeys(pods, "ready"), stream=True, **spec)


class Stream:
    """A connection that stays, through a Service with two endpoints."""

    def __init__(self, node: ServicesNode, client: str, address: str, port: int = STREAM) -> None:
        self._worker = node.lab.workers[CLIENTS[client][0]]
        self._number = self._worker.ask(op="open", address=address, port=port, timeout=PATIENCE)
        assert self._number >= 0
        self.mine = self.say()
        (self.other,) = {*BOTH} - {self.mine}

    def say(self) -> str:
        """The endpoint that still has the connection, "" if it is cut."""
        said = self._worker.ask(op="say", connection=self._number, line="still there?", timeout=PATIENCE)
        return str(said).partition(" ")[0]

    def hang_up(self) -> None:
        """Ends it with a reset."""
        if self._number >= 0:
            self._worker.ask(op="hang_up", connection=self._number)
        self._number = -1


Open = Callable[..., Stream]


@pytest.fixture
def node(services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path) -> Iterator[ServicesNode]:
    """A node without any rules; afterwards nothing of the mode is left on it."""
    made = ServicesNode(services_lab, module_server, IPVS, tmp_path)
    yield made
    made.run(state="absent", ipvs_drain_seconds=0)


@pytest.fixture
def opened(node: ServicesNode) -> Iterator[Open]:
    """Opens connections, and ends those that are left."""
    streams = []

    def opener(client: str, address: str, port: int = STREAM) -> Stream:
        streams.append(Stream(node, client, address, port))
        return streams[-1]

    yield opener
    for stream in streams:
        stream.hang_up()


def weights(node: ServicesNode, key: str = f"-t {vip(10)}:{STREAM}") -> dict[str, int]:
    """Endpoint -> its weight in the kernel, for one virtual server."""
    found = re.findall(rf"^-a {re.escape(key)} -r ([0-9.]+):\d+ -m -w (\d+)$", node.sh("ipvsadm -S -n"), re.MULTILINE)
    return {NAMES[address]: int(weight) for address, weight in found}


def connections(node: ServicesNode) -> int:
    """How many connections IPVS knows, those that ended a moment ago included."""
    return sum(map(int, " ".join(re.findall(r"\d+ +\d+ *$", node.sh("ipvsadm -L -n"), re.MULTILINE)).split()))


def files(node: ServicesNode) -> dict[str, tuple[int, int]]:
    """The files of the state, in a form that changes whenever one is written."""
    return {one.name: (one.stat().st_ino, one.stat().st_mtime_ns) for one in node.state_dir.iterdir()}


def unchanged(node: ServicesNode) -> None:
    """There is nothing to do."""
    result = node.run(_ansible_diff=True)
    assert not result["changed"], result


def wait_until_idle(node: ServicesNode) -> None:
    deadline = time.monotonic() + PATIENCE
    while connections(node) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert connections(node) == 0


def test_a_connection_goes_on_at_an_endpoint_that_left_until_it_ends(node: ServicesNode, opened: Open) -> None:
    node.give(web(*BOTH), API)
    node.run()
    stream = opened("pod", vip(10))
    assert weights(node) == {stream.mine: 1, stream.other: 1}
    node.give(web(stream.other), API)
    shown = node.check()
    assert weights(node) == {stream.mine: 1, stream.other: 1}
    result = node.run(_ansible_diff=True)
    assert (shown["changed"], shown["diff"]) == (True, result["diff"])
    assert weights(node) == {stream.mine: 0, stream.other: 1}
    assert stream.say() == stream.mine
    assert {opened("pod", vip(10)).mine for _each in range(4)} == {stream.other}
    # As long as it goes on there is nothing to do, and nothing is written.
    written = files(node)
    again = node.run(_ansible_diff=True)
    assert (again["changed"], again["transactions"], again["drift"]) == (False, 0, [])
    assert files(node) == written
    assert stream.say() == stream.mine
    # Another change goes by what drains, and does not take it for somebody else's work.
    node.give(web(stream.other), service("api", 11, {"pod-a2": "ready", "pod-b2": "ready"}))
    result = node.run()
    assert (result["services_changed"], result["full_pass"], result["drift"]) == (["shop/api"], False, [])
    assert stream.say() == stream.mine
    stream.hang_up()
    deadline = time.monotonic() + PATIENCE
    while stream.mine in weights(node) and time.monotonic() < deadline:
        node.run()
    assert weights(node) == {stream.other: 1}
    assert "ipvs_drain.json" not in files(node)
    unchanged(node)


@pytest.mark.soak
def test_a_service_that_is_gone_keeps_its_connections_and_comes_back(node: ServicesNode, opened: Open) -> None:
    node.give(web(*BOTH), API)
    node.run()
    stream = opened("pod", vip(10))
    node.give(API)
    node.run()
    assert weights(node) == {stream.mine: 0}
    assert stream.say() == stream.mine
    assert set(node.probe("pod", vip(10), STREAM)) == {"reject"}
    unchanged(node)
    node.give(web(*BOTH), API)
    node.run()
    assert weights(node) == {stream.mine: 1, stream.other: 1}
    assert stream.say() == stream.mine
    assert "ipvs_drain.json" not in files(node)
    unchanged(node)
    # For good, and without connections: nothing is left at once.
    stream.hang_up()
    wait_until_idle(node)
    node.give(API)
    node.run()
    assert vip(10) not in node.sh("ipvsadm -S -n") + node.sh("ip -o address") + node.sh("ipset save")
    unchanged(node)


@pytest.mark.soak
def test_connections_are_cut_at_the_limit(node: ServicesNode, opened: Open) -> None:
    node.give(web(*BOTH), API)
    node.run(ipvs_drain_seconds=2)
    stream = opened("pod", vip(10))
    node.give(web(stream.other), API)
    node.run(ipvs_drain_seconds=2)
    assert weights(node) == {stream.mine: 0, stream.other: 1}
    deadline = time.monotonic() + PATIENCE
    while stream.mine in weights(node) and time.monotonic() < deadline:
        node.run(ipvs_drain_seconds=2)
    assert weights(node) == {stream.other: 1}
    assert stream.say() == ""
    # 0 is no time at all.
    second = opened("pod", vip(10))
    node.give(API)
    node.run(ipvs_drain_seconds=0)
    assert weights(node) == {}
    assert second.say() == ""


@pytest.mark.soak
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_connection_by_a_node_port_goes_on(node: ServicesNode, opened: Open, policy: str) -> None:
    """Its virtual server is found by a mark, and packets have that mark no more once the Service is gone."""
    spec = {"type": "NodePort", "externalTrafficPolicy": policy}
    served = web(*BOTH, **spec)
    served[0]["spec"]["ports"][2]["nodePort"] = 30700
    node.give(served, API)
    node.run()
    stream = opened("ext", NODE_IPS[0], 30700)
    assert stream.mine == "pod-a1" or policy == "Cluster"
    node.give(API)
    node.run()
    assert stream.say() == stream.mine
    assert node.lab.workers["ext"].ask(op="open", address=NODE_IPS[0], port=30700) == -1
    unchanged(node)
    assert stream.say() == stream.mine
    stream.hang_up()
    wait_until_idle(node)
    node.run()
    assert " -f " not in node.sh("ipvsadm -S -n")
    assert "add SERVICENET-MARK" not in node.sh("ipset save")
    unchanged(node)


@pytest.mark.soak
def test_udp_and_idle_endpoints_go_at_once(node: ServicesNode) -> None:
    node.give(web(*BOTH), API)
    node.run()
    assert set(node.probe("pod", vip(10), proto="UDP", count=8)) == {"pod-a1:8080", "pod-b1:8080"}
    node.give(web("pod-b1"), API)
    node.run()
    for key in (f"-t {vip(10)}:{STREAM}", f"-t {vip(10)}:80", f"-u {vip(10)}:80"):
        assert weights(node, key) == {"pod-b1": 1}
    assert set(node.probe("pod", vip(10), proto="UDP", count=8)) == {"pod-b1:8080"}
    unchanged(node)


@pytest.mark.soak
def test_cleanup_can_wait_for_nobody(node: ServicesNode, opened: Open) -> None:
    before = node.sh("ipvsadm -S -n"), node.sh("ipset save"), node.sh("ip -o address")
    node.give(web(*BOTH), API)
    node.run()
    stream = opened("pod", vip(10))
    node.give(web(stream.other), API)
    node.run()
    node.run(state="absent", ipvs_drain_seconds=0)
    assert (node.sh("ipvsadm -S -n"), node.sh("ipset save"), node.sh("ip -o address")) == before
    assert list(node.state_dir.iterdir()) == []
    assert not node.run(state="absent", ipvs_drain_seconds=0)["changed"]


@pytest.mark.soak
def test_cleanup_cuts_no_connection_and_lets_nobody_in(node: ServicesNode, opened: Open) -> None:
    before = node.sh("ipvsadm -S -n"), node.sh("ipset save"), node.sh("ip -o address")
    node.give(web(*BOTH), API)
    node.run()
    stream = opened("pod", vip(10))
    node.run(state="absent")
    assert stream.say() == stream.mine
    # Its address is the node's still, whose own servers listen on it, as on all the others.
    for client, port in (("pod", STREAM), ("pod", 80), ("host", 8080), ("ext", 9999)):
        for proto in ("TCP", "UDP"):
            assert set(node.probe(client, vip(10), port, proto)) == {"reject"}
    assert not node.run(state="absent")["changed"]
    stream.hang_up()
    wait_until_idle(node)
    assert node.run(state="absent")["changed"]
    assert (node.sh("ipvsadm -S -n"), node.sh("ipset save"), node.sh("ip -o address")) == before
    assert "SERVICENET" not in node.rules()


@pytest.mark.soak
def test_going_back_to_a_kept_state_cuts_no_connection(node: ServicesNode, opened: Open) -> None:
    for pod in BOTH:
        node.give(web(pod), API)
        node.run()
    stream = opened("pod", vip(10))
    assert roll_back(node)["changed"]
    assert weights(node) == {stream.other: 1, stream.mine: 0}
    assert stream.say() == stream.mine == BOTH[1]
    assert {opened("pod", vip(10)).mine for _each in range(4)} == {stream.other}
    unchanged(node)
    assert stream.say() == stream.mine


@pytest.mark.soak
def test_a_weight_that_somebody_took_is_given_back(node: ServicesNode) -> None:
    node.give(web(*BOTH), API)
    node.run()
    node.sh(f"ipvsadm -e -t {vip(10)}:{STREAM} -r {PODS['pod-a1'][0]}:{STREAM} -m -w 0")
    result = node.run()
    assert (result["changed"], result["drift"]) == (True, ["shop/web:stream"])
    assert weights(node) == dict.fromkeys(BOTH, 1)
    unchanged(node)

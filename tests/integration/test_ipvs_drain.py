# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Graceful termination with live connections through a node that has ip_vs; see test_in_uml.py.

The node runs what the ipvs mode decides and nothing else: no rules are needed for a client outside that reaches the
endpoints through it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.in_namespace import inside, sh
from lab.ground import Ground
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_drain import (
    Decision,
    Draining,
    Since,
    decide,
    releasable,
    revived,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import Operation, Real, Server
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight_settings import (
    VS_CONNTRACK,
    VS_NO_DESTINATION,
    VS_TEMPLATE,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import service_addresses, sysctl
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs import Ipvs
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs_drain_state import DrainState, now

pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

PODS = {"pod-1": "10.128.0.11", "pod-2": "10.128.0.12"}
NAMES = {address: name for name, address in PODS.items()}
VIP = "10.96.0.10"
STREAM, PLAIN = 7000, 8080
LIMIT = 3600
# Seconds that IPVS keeps a connection that was reset, with room for a busy machine.
PATIENCE = 90


class DrainLab(Ground):
    """A client, a node, and two endpoints behind it that answer by its way."""

    def build(self) -> None:
        """Four namespaces in a star."""
        self.add("node", router=True)
        for name, address, gateway in (("client", "198.18.1.2", "198.18.1.1"), *self._ends()):
            self.add(name)
            self.wire(name, "eth0", "node", name)
            self.ip("node", f"addr add {gateway}/32 dev {name}", f"route add {address} dev {name}")
            self.ip(name, f"addr add {address}/32 dev eth0", f"route add {gateway} dev eth0")
            self.ip(name, f"route add default via {gateway} dev eth0 onlink")
        self.start_workers(["client", *PODS], {"plain": [PLAIN], "stream": [STREAM]})
        with inside(self.ns("node")):
            for name in (VS_CONNTRACK, VS_NO_DESTINATION, VS_TEMPLATE):
                sysctl.write(name, "1")
            service_addresses.add(service_addresses.make_device(), [VIP])

    @staticmethod
    def _ends() -> Iterable[tuple[str, str, str]]:
        return ((name, address, f"10.128.0.{index}") for index, (name, address) in enumerate(PODS.items(), 1))

    def ask(self, **message: Any) -> Any:
        """What the client's worker says."""
        return self.workers["client"].ask(**message)

    def say(self, connection: int) -> str:
        """The name of the endpoint that still holds the connection, "" if it is cut."""
        return str(self.ask(op="say", connection=connection, line="still there?", timeout=PATIENCE)).partition(" ")[0]

    def new(self, protocol: str, port: int) -> Counter[str]:
        """Who answers new connections."""
        spec = {"proto": protocol, "address": VIP, "port": port, "count": 8, "timeout": 1.0}
        (found,) = self.ask(op="probe", probes=[spec])
        return Counter({outcome.partition(":")[0]: times for outcome, times in found[""].items()})


@pytest.fixture(scope="module")
def lab() -> Iterator[DrainLab]:
    """The lab."""
    with DrainLab() as built:
        yield built


@pytest.fixture(autouse=True)
def on_the_node(lab: DrainLab) -> Iterator[None]:
    """The tests run on the node, and leave it without virtual servers."""
    with inside(lab.ns("node")):
        yield
        sh("ipvsadm -C")


def serve(*servers: Server) -> None:
    """Both endpoints behind each of these."""
    with Ipvs() as ipvs:
        for server in servers:
            reals = [Real(address, server.port) for address in PODS.values()]
            ipvs.apply([Operation("add", server, "rr"), *(Operation("add", server, real=one) for one in reals)])


def settle(wanted: dict[Server, Iterable[str]], since: Since, late: int = 0, limit: int = LIMIT) -> Decision:
    """What a run does: reads, decides, and applies. ``late``: seconds that have gone by since."""
    places = {server: {(address, server.port) for address in addresses} for server, addresses in wanted.items()}
    with Ipvs() as ipvs:
        decision = decide(ipvs.read(), places, since, now() + late, limit)
        ipvs.apply(decision.operations)
    return decision


def held(server: Server) -> dict[str, int]:
    """Endpoint -> its weight in the kernel."""
    with Ipvs() as ipvs:
        return {NAMES[real.address]: real.weight for real in ipvs.read()[server].reals}


def opened(lab: DrainLab) -> tuple[int, str, str]:
    """A connection that stays, the endpoint that has it, and the other one."""
    connection = lab.ask(op="open", address=VIP, port=STREAM, timeout=PATIENCE)
    assert connection >= 0
    mine = lab.say(connection)
    (other,) = {*PODS} - {mine}
    return connection, mine, other


WEB = Server(4, "TCP", VIP, STREAM)


def test_a_connection_goes_on_at_an_endpoint_that_left_until_it_ends(lab: DrainLab, tmp_path: Path) -> None:
    serve(WEB)
    connection, mine, other = opened(lab)
    wanted = {WEB: [PODS[other]]}
    state = DrainState(str(tmp_path / "ipvs_drain.json"))
    first = settle(wanted, state.load())
    assert first.operations == [Operation("edit", WEB, real=Real(PODS[mine], STREAM, 0))]
    assert state.save(first.since)
    assert held(WEB) == {mine: 0, other: 1}
    assert lab.say(connection) == mine
    more = [opened(lab) for _ in range(6)]
    assert {name for _connection, name, _other in more} == {other}
    # A second run has nothing to do, and writes nothing.
    second = settle(wanted, state.load())
    assert second.operations == []
    assert not state.save(second.since)
    assert lab.say(connection) == mine
    lab.ask(op="hang_up", connection=connection)
    deadline = time.monotonic() + PATIENCE
    while mine in held(WEB) and time.monotonic() < deadline:
        last = settle(wanted, state.load())
        state.save(last.since)
        time.sleep(0.5)
    assert held(WEB) == {other: 1}
    assert last.operations == [Operation("delete", WEB, real=Real(PODS[mine], STREAM, 0))]
    assert not (tmp_path / "ipvs_drain.json").exists()
    for one, name, _other in more:
        assert lab.say(one) == name
        lab.ask(op="hang_up", connection=one)


def test_an_endpoint_without_connections_goes_in_the_second_look(lab: DrainLab) -> None:
    plain = Server(4, "TCP", VIP, PLAIN)
    serve(plain)
    first = settle({plain: [PODS["pod-1"]]}, {})
    assert held(plain) == {"pod-1": 1, "pod-2": 0}
    settle({plain: [PODS["pod-1"]]}, first.since)
    assert held(plain) == {"pod-1": 1}
    assert set(lab.new("TCP", PLAIN)) == {"pod-1"}


def test_a_connection_is_cut_at_the_limit(lab: DrainLab) -> None:
    serve(WEB)
    connection, mine, other = opened(lab)
    wanted = {WEB: [PODS[other]]}
    first = settle(wanted, {})
    assert first.since.keys() == {Draining(WEB, PODS[mine], STREAM)}
    assert settle(wanted, first.since, late=LIMIT - 60).operations == []
    assert lab.say(connection) == mine
    assert settle(wanted, first.since, late=LIMIT).since == {}
    assert held(WEB) == {other: 1}
    assert lab.say(connection) == ""
    lab.ask(op="hang_up", connection=connection)


def test_a_service_that_is_gone_keeps_its_connection_and_its_address(lab: DrainLab) -> None:
    serve(WEB)
    connection, mine, other = opened(lab)
    first = settle({}, {})
    assert first.staying == {WEB}
    assert releasable([VIP], first.staying) == []
    second = settle({}, first.since)
    assert held(WEB) == {mine: 0}
    assert lab.say(connection) == mine
    assert lab.ask(op="open", address=VIP, port=STREAM) == -1
    # It comes back, with the endpoint that drains and another one.
    with Ipvs() as ipvs:
        anew = [Operation("add", WEB, "rr"), *(Operation("add", WEB, real=Real(PODS[name], STREAM)) for name in PODS)]
        ipvs.apply(revived(anew, ipvs.read()))
    assert held(WEB) == {mine: 1, other: 1}
    third = settle({WEB: PODS.values()}, second.since)
    assert (third.operations, third.since, third.staying) == ([], {}, frozenset())
    assert lab.say(connection) == mine
    lab.ask(op="hang_up", connection=connection)
    assert settle({}, {}, limit=0).operations == [Operation("delete", WEB)]
    with Ipvs() as ipvs:
        assert ipvs.read() == {}
    assert releasable([VIP], frozenset()) == [VIP]


def test_udp_goes_elsewhere_at_once(lab: DrainLab) -> None:
    dns = Server(4, "UDP", VIP, PLAIN)
    serve(dns)
    assert set(lab.new("UDP", PLAIN)) == {"pod-1", "pod-2"}
    decision = settle({dns: [PODS["pod-1"]]}, {})
    assert decision.operations == [Operation("delete", dns, real=Real(PODS["pod-2"], PLAIN, 0))]
    assert decision.since == {}
    assert set(lab.new("UDP", PLAIN)) == {"pod-1"}


def test_what_others_balance_is_not_looked_at(lab: DrainLab) -> None:
    """Who decides is given our virtual servers only; here that the others are as they were."""
    foreign = "-A -t 10.96.9.9:443 -s wlc\n-a -t 10.96.9.9:443 -r 10.128.9.9:443 -m -w 0\n"
    sh("ipvsadm -R", foreign)
    serve(WEB)
    with Ipvs() as ipvs:
        ours = {WEB: ipvs.read()[WEB]}
        ipvs.apply(decide(ours, {}, {}, now(), 0).operations)
    assert sh("ipvsadm -S -n") == foreign
    assert lab.ask(op="ping") == "ready"

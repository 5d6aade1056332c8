# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the ipvs mode on a model of a node whose endpoints have connections: from any cluster to any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import (
    ipvs_changes,
    ipvs_drain,
    ipvs_objects,
    ipvs_rules,
    passes,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_changes import Marks
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_drain import Limit
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import Operation, Real, Server
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes, Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs_retire import carry_out

from . import clusters
from .ipvs_kernel import Model

VIEW = NodeView("node-a", "z1", ("198.18.1.1",))
SETTINGS = Settings(VIEW)
HOUR = 3600


class Node(Model):
    """A node with clients. What the mode remembers is ``since``. ``late``: the real servers that a client finds just
    before they get the weight 0."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.since: Program = {}
        self.late: set[tuple[Server, tuple[str, int]]] = set()

    def decide(self, wanted: Program, time: int, looked_at: Any = None) -> tuple[Changes, frozenset[str]]:
        """The changes of a run, and what of them retires.

        :param looked_at: the containers that an incremental pass looks at; None for a full one.
        """
        program = {**self.held().program, **self.since}
        frame = {name: content for name, content in ipvs_rules.frame(SETTINGS).items() if "/sets/" in name}
        whole: Program = {**wanted, **frame}
        names = {**program, **whole} if looked_at is None else {**dict.fromkeys(looked_at), **frame}
        changes: Changes = {
            name: (program.get(name), whole.get(name)) for name in names if program.get(name) != whole.get(name)
        }
        limit = Limit(time, HOUR)
        changes = ipvs_drain.with_leftovers(changes, program)
        changes = ipvs_drain.graceful(changes, self.held().servers, self.since, limit)
        return changes, ipvs_drain.retiring(changes, limit)

    def run(self, wanted: Program, time: int) -> None:
        """A run."""
        changes, retiring = self.decide(wanted, time)
        seen = self.held()
        marks = Marks(SETTINGS, seen.marks, seen.taken)
        staying: list[str] = []
        for part in [
            ipvs_changes.sets(changes, wanted=True),
            *ipvs_changes.plan(changes, marks, retiring),
            ipvs_changes.sets(changes, wanted=False),
        ]:
            if part.where == ipvs_changes.IPVS:
                operations = [ipvs_objects.operation(line) for line in part.lines]
                kept = carry_out(self, operations)
                named = zip(operations, part.names, strict=True)
                staying += [name for one, name in named if one.real is None and one.server in kept]
            else:
                self.do(part, ipvs_changes.without_needed(part.lines, part.names, staying))
        since = {name: new for name, (_old, new) in changes.items() if "/drain/" in name}
        self.since = {name: begin for name, begin in {**self.since, **since}.items() if begin is not None}

    def apply(self, operations: Sequence[Operation]) -> None:
        for one in operations:
            before = self.real(one.server, one.real) if one.real else None
            self._operation(one)
            if one.real and before and one.verb == "edit":
                late = not one.real.weight and (one.server, one.real[:2]) in self.late
                self.connect(one.server, one.real, before.active or int(late))

    def reals(self, server: Server) -> list[Real]:
        return list(self.servers[server].reals)

    def real(self, server: Server, wanted: Real) -> Real | None:
        virtual = self.servers.get(server)
        return next((real for real in virtual.reals if real[:2] == wanted[:2]), None) if virtual else None

    def connect(self, server: Server, real: Real, connections: int) -> None:
        """From now on the real server has so many connections."""
        virtual = self.servers[server]
        reals = (one._replace(active=connections) if one[:2] == real[:2] else one for one in virtual.reals)
        self.servers[server] = virtual._replace(reals=tuple(reals))


def program(objects: list[dict[str, Any]]) -> Program:
    return passes.full(build_snapshot(objects), VIEW, IpvsCompiler(SETTINGS)).new


@given(clusters.clusters(), clusters.clusters(), st.randoms())
def test_connections_go_on_and_nothing_stays_behind_them(old: Any, new: Any, random: Any) -> None:
    node = Node()
    node.run(program(old), 100)
    busy = [
        (server, real)
        for server, virtual in sorted(node.servers.items())
        for real in virtual.reals
        if random.random() < 0.3 and not {"udp", "sctp"} & _protocols(node, server)
    ]
    for server, real in busy:
        node.connect(server, real, 1)
    wanted = program(new)
    node.run(wanted, 200)
    for server, real in busy:
        assert node.real(server, real), "a connection was cut"
        assert not server.address or server.address in node.addresses
    # Whatever a pass looks at, there is nothing to do as long as they go on.
    assert node.decide(wanted, 300)[0] == {}
    assert node.decide(wanted, 300, looked_at=())[0] == {}
    for server, real in busy:
        node.connect(server, real, 0)
    node.run(wanted, 400)
    fresh = Node()
    fresh.run(wanted, 100)
    assert node.since == {}
    assert node.held().program == fresh.held().program
    assert node.addresses == fresh.addresses


@given(clusters.clusters(), clusters.clusters(), st.randoms())
def test_a_connection_that_comes_at_the_last_moment_keeps_what_it_needs(old: Any, new: Any, random: Any) -> None:
    node = Node()
    node.run(program(old), 100)
    everyone = [(server, real) for server, virtual in sorted(node.servers.items()) for real in virtual.reals]
    node.late = {(server, real[:2]) for server, real in everyone if random.random() < 0.3}
    wanted = program(new)
    node.run(wanted, 200)
    for server, virtual in node.servers.items():
        if any(real.active for real in virtual.reals):
            assert not server.address or server.address in node.addresses
    assert {server for server, _virtual in node.held().servers.values()} == set(node.servers)
    # The next run knows who drains, and then there is nothing to do as long as they go on.
    node.run(wanted, 300)
    assert node.decide(wanted, 300)[0] == {}
    for server, virtual in list(node.servers.items()):
        for real in virtual.reals:
            node.connect(server, real, 0)
    node.run(wanted, 400)
    fresh = Node()
    fresh.run(wanted, 100)
    assert node.held().program == fresh.held().program
    assert node.addresses == fresh.addresses


def _protocols(node: Node, server: Server) -> set[str]:
    return {name.split("/")[3] for name, (found, _virtual) in node.held().servers.items() if found == server}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a packet goes in the iptables mode.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from .explain import ENDPOINT, NONE, Answer, Packet, State
from .iptables import container, parts
from .passes import Program
from .table import DROP, REJECT
from .text_iptables import Rules
from .walk_iptables import MASQUERADE, PASSED, Flow, Walk


class IptablesExplainer:
    """Implements ``explain.Explainer``."""

    def explain(self, program: Program, packet: Packet) -> Answer:
        """The way of the packet through the tables nat and filter."""
        walk = _Walk(program, packet)
        start = State(packet.destination, packet.port)
        for weight, _end, state in walk.hook("nat", "OUTPUT" if packet.from_node else "PREROUTING", (1.0, start)):
            here = packet.is_here(state.destination)
            way = "OUTPUT" if packet.from_node else "INPUT" if here else "FORWARD"
            for part, verdict, kept in walk.hook("filter", way, (weight, state)):
                self._leave(walk, way, (part, kept), verdict)
        return walk.trace.answer()

    @staticmethod
    def _leave(walk: _Walk, way: str, flow: Flow, verdict: str) -> None:
        weight, state = flow
        if verdict in (DROP, REJECT):
            walk.trace.end(verdict, state, False, weight)
            return
        ends = walk.hook("nat", "POSTROUTING", flow) if way != "INPUT" else iter([(weight, PASSED, state)])
        for part, last, kept in ends:
            walk.trace.end(ENDPOINT if kept.translated else NONE, kept, last == MASQUERADE, part)

    def where(self, name: str) -> str:
        """Table and chain."""
        family, table, chain = parts(name)
        return f"{'ip6tables' if family == 6 else 'iptables'} {table} {chain}"


class _Walk(Walk):
    """One packet on its way through the chains of a program."""

    def __init__(self, program: Program, packet: Packet) -> None:
        super().__init__(packet)
        self.program = program

    def chain(self, table: str, chain: str) -> tuple[str, Rules]:
        """Its container is named by family, table and chain."""
        name = container(self.packet.family, table, chain)
        return name, self.program.get(name, ())

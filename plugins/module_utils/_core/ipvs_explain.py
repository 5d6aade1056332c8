# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a packet goes in the ipvs mode: through rules that put marks on it to a virtual server, and to a real server.

Which one a scheduler chooses is told by the weights alone: how many connections each has by now, and what a hash of the
client's address gives, is not looked at.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .explain import ENDPOINT, NONE, Answer, Packet, State, inside
from .ipvs import ANY, MARKED, MASQUERADED, container
from .ipvs_changes import DEVICE, Marks, server_of
from .ipvs_objects import Server
from .ipvs_options import WITHOUT_WEIGHTS
from .ipvs_rules import ADDRESSES, declarations, set_name
from .passes import Program
from .settings import Settings
from .table import DROP, REJECT
from .text_iptables import Rules
from .walk_iptables import MASQUERADE, Flow, Rule, Test, Walk


class IpvsExplainer:
    """Implements ``explain.Explainer``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def explain(self, program: Program, packet: Packet) -> Answer:
        """The way of the packet. What the node itself sends meets a virtual server before the filter does."""
        walk = _Walk(program, packet, self.settings)
        start = (1.0, State(packet.destination, packet.port))
        for weight, verdict, state in walk.hook("mangle", "OUTPUT" if packet.from_node else "PREROUTING", start):
            server = walk.server(state)
            if verdict == DROP:
                walk.trace.end(DROP, state, False, weight)
            elif packet.from_node and server:
                walk.serve(server, (weight, state))
            elif packet.from_node or walk.is_here(state.destination):
                walk.refuse_or_serve(server, (weight, state))
            else:
                walk.trace.end(NONE, state, False, weight)
        return walk.trace.answer()

    def where(self, name: str) -> str:
        """A chain, an entry of a set, a virtual server or one of its real servers."""
        family, kind, *key = name.split("/")
        if kind == "chain":
            return " ".join(("ip6tables" if family == "6" else "iptables", *key))
        if kind == "set":
            return f"ipset {set_name(int(family), key[0])}, entry {'/'.join(key[1:])}"
        if kind == "address":
            return f"device {DEVICE}, address {key[0]}"
        role, protocol, address, port, *real = key
        found = f"virtual server {protocol} {'node port' if address == '-' else address} {port}"
        by = "" if role == ANY else f" (by mark, {role})"
        return f"IPVS {found}{by}" + (f", weight of {real[0]} {real[1]}" if real else "")


class _Walk(Walk):
    """One packet on its way through the rules, sets and virtual servers of a program."""

    tests = Walk.tests | {"--match-set", "--ipvs", "-o"}
    targets = Walk.targets | {"SET"}

    def __init__(self, program: Program, packet: Packet, settings: Settings) -> None:
        super().__init__(packet)
        self.program = program
        self.marks = Marks(settings, {})
        self.sets = {set_name(packet.family, name): name for name in declarations(packet.family)}
        self.servers: dict[Server, str] = {}
        for name in program:
            family, kind, *key = name.split("/")
            if kind == "server" and int(family) == packet.family:
                self.servers[server_of(packet.family, key, self.marks)] = name

    def chain(self, table: str, chain: str) -> tuple[str, Rules]:
        """The frame has them all, by table and chain."""
        name = container(self.packet.family, "chain", table, chain)
        return name, self.program.get(name, ())

    def is_here(self, address: str) -> bool:
        """Is it an address of the node? Those of Services are."""
        return self.packet.is_here(address) or self.program.get(self._address(address)) is True

    def _address(self, address: str) -> str:
        return container(self.packet.family, "address", address)

    # ---- rules with sets

    def holds(self, test: Test, state: State) -> bool:
        """Those of sets and of IPVS, besides what all modes have."""
        if test.name == "--match-set":
            return bool(self._entries(test.argument, state))
        if test.name == "--ipvs":
            return state.translated
        if test.name == "-o":
            return test.argument == "lo" and self.packet.is_here(state.destination)
        if test.name == "--dst-type":
            return test.argument == "LOCAL" and self.is_here(state.destination)
        return super().holds(test, state)

    def act(self, table: str, rule: Rule, flow: Flow) -> Iterator[tuple[float, str | None, State]]:
        """A rule may take a mark from the entry of a set."""
        if rule.target != "SET":
            yield from super().act(table, rule, flow)
            return
        weight, state = flow
        for name in self._entries(rule.argument, state):
            content = self.program[name]
            if content in (MARKED, MASQUERADED):
                state = state._replace(mark=self.marks.of(name, content == MASQUERADED))
            elif content.startswith("mark "):
                state = state._replace(mark=int(content[5:], 16))
        yield weight, None, state

    def _entries(self, full_name: str, state: State) -> list[str]:
        """The containers of the entries of a set that hold the packet."""
        name = self.sets.get(full_name, "")
        address, port = state.destination, f"{self.packet.protocol.lower()}:{state.port}"
        if name == ADDRESSES:
            return [one for one in (self._address(address),) if one in self.program]
        entry = container(self.packet.family, "set", name, port if name.startswith("NP") else f"{address},{port}")
        if name == "ALLOW":
            ranges = (one for one in self.program if one.startswith(f"{entry},"))
            found = [one for one in ranges if inside(self.packet.source, [one[len(entry) + 1 :]])]
        else:
            found = [entry] if entry in self.program else []
        for one in found:
            self.trace.meet(one, self.program[one])
        return found

    # ---- virtual servers

    def server(self, state: State) -> str:
        """The container of the virtual server that takes the packet, "" for none; a mark counts first."""
        family, protocol = self.packet.family, self.packet.protocol
        by_mark = self.servers.get(Server(family, mark=state.mark), "") if state.mark else ""
        return by_mark or self.servers.get(Server(family, protocol, state.destination, state.port), "")

    def refuse_or_serve(self, server: str, flow: Flow) -> None:
        """Through the filter, and from there to the virtual server."""
        way = "OUTPUT" if self.packet.from_node else "INPUT"
        for weight, verdict, state in self.hook("filter", way, flow):
            if verdict in (DROP, REJECT):
                self.trace.end(verdict, state, False, weight)
            elif server:
                self.serve(server, (weight, state))
            else:
                self.trace.end(NONE, state, False, weight)

    def serve(self, server: str, flow: Flow) -> None:
        """To every real server that takes new connections; without any, the kernel refuses."""
        weight, state = flow
        content = self.program[server]
        scheduler, _space, seconds = content.partition(" ")
        self.trace.meet(server, content)
        self.trace.affinity = max(self.trace.affinity, int(seconds))
        prefix = server.replace("/server/", "/real/", 1) + "/"
        reals = {name: share for name, share in self.program.items() if name.startswith(prefix) and share}
        shares = dict.fromkeys(reals, 1) if scheduler in WITHOUT_WEIGHTS else reals
        if not shares:
            self.trace.end(REJECT, state, False, weight)
        for name, share in shares.items():
            self.trace.meet(name, reals[name])
            address, port = name[len(prefix) :].split("/")
            self._leave((weight * share / sum(shares.values()), State(address, int(port), state.mark, True)))

    def _leave(self, flow: Flow) -> None:
        weight, state = flow
        if not self.packet.from_node and self.packet.is_here(state.destination):
            self.trace.end(ENDPOINT, state, False, weight)  # it never leaves the node
            return
        for part, verdict, kept in self.hook("nat", "POSTROUTING", flow):
            self.trace.end(ENDPOINT, kept, verdict == MASQUERADE, part)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walks the chains of the iptables mode for one packet, as the kernel does.

Only our own chains are walked: what other programs' rules do with the packet is not known here. Somebody else's rule in
one of our chains is understood if it has no other matches than our own rules have.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Tuple

from . import text_iptables as text
from .explain import ENDPOINT, NONE, Answer, Packet, State, Trace
from .iptables import container, parts
from .passes import Program
from .table import DROP, REJECT

ACCEPT = "accept"
MASQUERADE = "masquerade"
TRANSLATED = "translated"
# Fell off the end of a chain, or returned.
PASSED = ""

_SIMPLE = ("-s", "-d", "-p", "-i", "--dport", "--dst-type", "--src-type", "--probability", "--mark", "--ctstate")
# What says nothing by itself, with the number of its arguments.
_SILENT = {"-m": 1, "--mode": 1, "--name": 1, "--mask": 1, "--rsource": 0, "--reap": 0, "--comment": 1, "--set": 0}
_BACKEND = re.compile(r"\[?([0-9a-f:.]+?)\]?:(\d+)\Z")
_TARGETS = ("ACCEPT", "DROP", "REJECT", "RETURN", "MARK", "DNAT", "MASQUERADE")


class _Test(NamedTuple):
    name: str
    argument: str
    negated: bool


class _Rule(NamedTuple):
    """``tests`` must all hold. ``remembers``: seconds, of a rule for clients that are remembered. ``clear``: there is
    nothing in it that is not understood."""

    tests: tuple[_Test, ...]
    target: str
    argument: str
    goto: bool
    remembers: int
    clear: bool


@lru_cache(maxsize=50_000)
def _parse(rule: str) -> _Rule:
    words = shlex.split(rule)
    tests: list[_Test] = []
    target, argument, goto, remembers, clear, negated = "", "", False, 0, True, False
    place = 0
    while place < len(words):
        word = words[place]
        following = words[place + 1] if place + 1 < len(words) else ""
        place += 2
        if word == "!":
            negated = True
            place -= 1
            continue
        if word in ("-j", "-g"):
            target, goto = following, word == "-g"
            argument = words[place + 1] if place + 1 < len(words) else ""
            clear = clear and (target in _TARGETS or target.startswith("SERVICENET"))
            break
        if word in _SIMPLE:
            tests.append(_Test(word, following, negated))
        elif word == "--bytecode":
            known = [family for family in (4, 6) if f'"{following}"' in text.reaches_itself(family)]
            tests.append(_Test(word, str(known[0]) if known else "", negated))
            clear = clear and bool(known)
        elif word in ("--update", "--seconds"):
            remembers = int(following) if word == "--seconds" else remembers
            place -= word == "--update"
        elif word in _SILENT:
            place += _SILENT[word] - 1
        else:
            clear = False
            place -= 1
        negated = False
    return _Rule(tuple(tests), target, argument, goto, remembers, clear)


_Flow = Tuple[float, State]
_End = Tuple[float, str, State]


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
    def _leave(walk: _Walk, way: str, flow: _Flow, verdict: str) -> None:
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


class _Walk:
    """One packet on its way."""

    def __init__(self, program: Program, packet: Packet) -> None:
        self.program, self.packet = program, packet
        self.trace = Trace()

    def hook(self, table: str, chain: str, flow: _Flow) -> Iterator[_End]:
        """From a built-in chain on; it holds nothing but our jumps here."""
        return self._chain(table, chain, flow)

    def _chain(self, table: str, chain: str, flow: _Flow) -> Iterator[_End]:
        name = container(self.packet.family, table, chain)
        flows = [flow]
        for rule in self.program.get(name, ()):
            going: dict[State, float] = {}
            for weight, state in flows:
                held = weight * self._chance(name, rule, state)
                if held > 0:
                    self.trace.meet(name, rule)
                    for part, end, after in self._act(table, _parse(rule), (held, state)):
                        if end is None:
                            going[after] = going.get(after, 0.0) + part
                        else:
                            yield part, end, after
                if weight > held:
                    going[state] = going.get(state, 0.0) + weight - held
            flows = [(weight, state) for state, weight in going.items()]
        for weight, state in flows:
            yield weight, PASSED, state

    def _act(self, table: str, rule: _Rule, flow: _Flow) -> Iterator[tuple[float, str | None, State]]:
        """What a rule does with a packet that it holds for; the end None is: on to the next rule."""
        weight, state = flow
        if rule.target == "MARK":
            value, _slash, mask = rule.argument.partition("/")
            bits = int(mask, 16) if mask else 0xFFFFFFFF
            yield weight, None, state._replace(mark=(state.mark & ~bits) ^ int(value, 16))
        elif rule.target == "DNAT":
            backend = _BACKEND.match(rule.argument)
            where = (backend.group(1), int(backend.group(2))) if backend else (rule.argument, state.port)
            yield weight, TRANSLATED, State(*where, state.mark, True)
        elif rule.target in ("ACCEPT", "DROP", "REJECT", "MASQUERADE", "RETURN"):
            yield weight, PASSED if rule.target == "RETURN" else rule.target.lower(), state
        elif not rule.target:
            yield weight, None, state
        else:
            for part, end, after in self._chain(table, rule.target, flow):
                # A chain that was gone to comes back to where its caller was called from.
                yield part, end if end or rule.goto else None, after

    def _chance(self, name: str, rule: str, state: State) -> float:
        """For which part of such packets the rule holds."""
        parsed = _parse(rule)
        if parsed.remembers:
            self.trace.affinity = max(self.trace.affinity, parsed.remembers)
            return 0.0
        chance = 1.0
        for test in parsed.tests:
            if test.name == "--probability":
                chance *= float(test.argument)
                continue
            if test.name == "-i" and not (self.packet.interface or self.packet.from_node):
                self.trace.wonder(name, rule)
                return 0.0
            if self._holds(test, state) == test.negated:
                return 0.0
        if not parsed.clear:
            self.trace.wonder(name, rule)
            return 0.0
        return chance

    def _holds(self, test: _Test, state: State) -> bool:
        name, argument, packet = test.name, test.argument, self.packet
        if name == "-s":
            return _matches(packet.source, argument)
        if name == "-d":
            return _matches(state.destination, argument)
        if name == "-p":
            return argument in (packet.protocol.lower(), "all")
        if name == "-i":
            prefix = argument.endswith("+")
            return packet.interface.startswith(argument[:-1]) if prefix else packet.interface == argument
        if name == "--dport":
            low, _colon, high = argument.partition(":")
            return int(low) <= state.port <= int(high or low)
        if name in ("--dst-type", "--src-type"):
            return argument == "LOCAL" and packet.is_here(state.destination if name == "--dst-type" else packet.source)
        if name == "--mark":
            value, _slash, mask = argument.partition("/")
            return state.mark & (int(mask, 16) if mask else 0xFFFFFFFF) == int(value, 16)
        if name == "--ctstate":
            return bool({"NEW", "DNAT" if state.translated else "NEW"}.intersection(argument.split(",")))
        return packet.source == state.destination  # --bytecode


@lru_cache(maxsize=50_000)
def _mask(argument: str) -> tuple[int, int]:
    """-> (the address, the bits that count); the bits need not be the first ones."""
    address, _slash, mask = argument.partition("/")
    base = ipaddress.ip_address(address)
    if not mask:
        bits = (1 << base.max_prefixlen) - 1
    elif mask.isdigit():
        bits = ((1 << int(mask)) - 1) << (base.max_prefixlen - int(mask))
    else:
        bits = int(ipaddress.ip_address(mask))
    return int(base), bits


def _matches(address: str, argument: str) -> bool:
    value, bits = _mask(argument)
    return int(ipaddress.ip_address(address)) & bits == value & bits

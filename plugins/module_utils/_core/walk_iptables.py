# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walks chains of iptables for one packet, as the kernel does, whatever mode wrote them.

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
from .explain import Packet, State, Trace
from .text_iptables import Rules

MASQUERADE = "masquerade"
TRANSLATED = "translated"
# Fell off the end of a chain, or returned.
PASSED = ""

_COMMON = ("-s", "-d", "-p", "-i", "--dport", "--dst-type", "--src-type", "--probability", "--mark", "--ctstate")
_WITH_ARGUMENT = (*_COMMON, "-o", "--match-set")
# Tests without an argument.
_BARE = ("--ipvs",)
# What says nothing by itself, with the number of its arguments.
_SILENT = {"-m": 1, "--mode": 1, "--name": 1, "--mask": 1, "--rsource": 0, "--reap": 0, "--comment": 1, "--set": 0}
_BACKEND = re.compile(r"\[?([0-9a-f:.]+?)\]?:(\d+)\Z")


class Test(NamedTuple):
    """What a rule asks of the packet: the option, its argument, and whether the opposite has to hold."""

    name: str
    argument: str
    negated: bool


class Rule(NamedTuple):
    """``tests`` must all hold. ``remembers``: seconds, of a rule for clients that are remembered. ``clear``: there is
    nothing in it that is not understood."""

    tests: tuple[Test, ...]
    target: str
    argument: str
    goto: bool
    remembers: int
    clear: bool


@lru_cache(maxsize=50_000)
def parse(rule: str) -> Rule:
    """A rule as ``iptables -S`` shows it, without its chain."""
    words = shlex.split(rule)
    tests: list[Test] = []
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
            break
        if word in _WITH_ARGUMENT:
            tests.append(Test(word, following, negated))
            place += word == "--match-set"  # it says of the packet's parts which one is looked for, too
        elif word in _BARE:
            tests.append(Test(word, "", negated))
            place -= 1
        elif word == "--bytecode":
            known = [family for family in (4, 6) if f'"{following}"' in text.reaches_itself(family)]
            tests.append(Test(word, str(known[0]) if known else "", negated))
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
    return Rule(tuple(tests), target, argument, goto, remembers, clear)


Flow = Tuple[float, State]
End = Tuple[float, str, State]


class Walk:
    """One packet on its way. A mode says where its chains are, and what its own rules have besides."""

    # What is understood.
    tests = frozenset((*_COMMON, "--bytecode"))
    targets = frozenset(("ACCEPT", "DROP", "REJECT", "RETURN", "MARK", "DNAT", "MASQUERADE"))

    def __init__(self, packet: Packet) -> None:
        self.packet = packet
        self.trace = Trace()

    def chain(self, table: str, chain: str) -> tuple[str, Rules]:
        """-> (the container of a chain, its rules)."""
        raise NotImplementedError

    def hook(self, table: str, chain: str, flow: Flow) -> Iterator[End]:
        """From a built-in chain on; it holds nothing but our jumps here."""
        return self._chain(table, chain, flow)

    def _chain(self, table: str, chain: str, flow: Flow) -> Iterator[End]:
        name, rules = self.chain(table, chain)
        flows = [flow]
        for rule in rules:
            going: dict[State, float] = {}
            for weight, state in flows:
                held = weight * self._chance(name, rule, state)
                if held > 0:
                    self.trace.meet(name, rule)
                    for part, end, after in self.act(table, parse(rule), (held, state)):
                        if end is None:
                            going[after] = going.get(after, 0.0) + part
                        else:
                            yield part, end, after
                if weight > held:
                    going[state] = going.get(state, 0.0) + weight - held
            flows = [(weight, state) for state, weight in going.items()]
        for weight, state in flows:
            yield weight, PASSED, state

    def act(self, table: str, rule: Rule, flow: Flow) -> Iterator[tuple[float, str | None, State]]:
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
        parsed = parse(rule)
        if parsed.remembers:
            self.trace.affinity = max(self.trace.affinity, parsed.remembers)
            return 0.0
        known = not parsed.target or parsed.target in self.targets or parsed.target.startswith("SERVICENET")
        chance, clear = 1.0, parsed.clear and known
        for test in parsed.tests:
            if test.name not in self.tests:
                clear = False
                continue
            if test.name == "--probability":
                chance *= float(test.argument)
                continue
            # What comes by the loopback comes from this node.
            if test.name == "-i" and test.argument != "lo" and not (self.packet.interface or self.packet.from_node):
                self.trace.wonder(name, rule)
                return 0.0
            if self.holds(test, state) == test.negated:
                return 0.0
        if not clear:
            self.trace.wonder(name, rule)
            return 0.0
        return chance

    def holds(self, test: Test, state: State) -> bool:
        """Does a test hold for the packet as it is by now?"""
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

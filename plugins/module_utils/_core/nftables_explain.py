# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walks our nftables tables for one packet as the kernel does: chains by their hooks, and the elements that they find.

Rules are read as the compiler spells them (see ``text_nftables.py``); what a rule of somebody else says is understood
as far as it uses the same words. Other tables are not looked at.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Tuple

from . import text_nftables as text
from .explain import ENDPOINT, NONE, Answer, Packet, State, Trace, inside
from .nftables import NftablesCompiler, container, learning_seconds, parts
from .passes import Program
from .table import DROP, REJECT

ACCEPT = "accept"
MASQUERADE = "masquerade"
TRANSLATED = "translated"
PASSED = ""
_FINAL = (DROP, REJECT)

_HOOK = re.compile(r"type (\S+) hook (\S+) priority (-?\d+);")
_COMMENT = re.compile(r' comment "[^"]*"\Z')
_MARK = re.compile(r"meta mark (?:& (0x[0-9a-f]+) == (0x[0-9a-f]+)|set meta mark ([|&]) (0x[0-9a-f]+))(?: |\Z)")
_MASQUERADE = re.compile(r"masquerade(?: fully-random)?\Z")
_DNAT = re.compile(r"dnat ip6? to (.+) map @(\S+)\Z")
_CONNECTION = re.compile(r"ct (?:state (new)|status (dnat)|status & dnat (!=) dnat)(?: |\Z)")
_GO = re.compile(r"(jump|goto) (\S+)\Z")
# What of a packet a rule looks at, as far as a value or the name of a map or set follows.
_FIELD = r"(?:ip6? [sd]addr|meta l4proto|(?:th|tcp|udp|sctp) dport|fib daddr type|iifname|numgen random mod \d+)"
_KEY = re.compile(rf"({_FIELD}(?: \. {_FIELD})*)(?: |\Z)")
_VALUE = re.compile(r"(!= )?(vmap )?(@\S+|\{[^}]*\}|\S+)(?: |\Z)")
_RANDOM = re.compile(r"numgen random mod (\d+)")

_Flow = Tuple[float, State]
_End = Tuple[float, str, State]


class NftablesExplainer:
    """Implements ``explain.Explainer``."""

    def __init__(self, compiler: NftablesCompiler) -> None:
        self.compiler = compiler

    def explain(self, program: Program, packet: Packet) -> Answer:
        """The way of the packet through all our chains."""
        walk = _Walk(program, packet, self.compiler)
        first = "output" if packet.from_node else "prerouting"
        for weight, end, state in walk.hook(first, (1.0, State(packet.destination, packet.port))):
            here = packet.is_here(state.destination)
            ways = [] if packet.from_node else ["input" if here else "forward"]
            walk.leave([*ways, *(["postrouting"] if packet.from_node or not here else [])], (weight, state), end)
        return walk.trace.answer()

    def where(self, name: str) -> str:
        """Table, and chain or map."""
        family, kind, key = parts(name)
        return f"nft {text.table(family)} {key if kind == 'chain' else kind}"


class _Walk:
    """One packet on its way."""

    def __init__(self, program: Program, packet: Packet, compiler: NftablesCompiler) -> None:
        self.program, self.packet, self.compiler = program, packet, compiler
        self.trace = Trace()
        self.hooks: dict[str, list[tuple[int, str]]] = {}
        for name, chain in compiler.chains(packet.family).items():
            # What remembers clients sends the packet nowhere.
            hooked = _HOOK.match(chain.hook)
            if hooked and not name.startswith("learn_"):
                self.hooks.setdefault(hooked.group(2), []).append((int(hooked.group(3)), name))

    def hook(self, name: str, flow: _Flow) -> Iterator[_End]:
        """Through all chains at a hook, by their priorities."""
        flows = [flow]
        for _priority, chain in sorted(self.hooks.get(name, ())):
            going = []
            for one in flows:
                for weight, end, state in self._chain(chain, one):
                    if end in _FINAL or end == MASQUERADE:
                        yield weight, end, state
                    else:
                        going.append((weight, state))
            flows = going
        for weight, state in flows:
            yield weight, PASSED, state

    def leave(self, hooks: list[str], flow: _Flow, end: str) -> None:
        """Through the hooks that are left, to the end of the way."""
        weight, state = flow
        if end in _FINAL:
            self.trace.end(end, state, False, weight)
        elif not hooks:
            self.trace.end(ENDPOINT if state.translated else NONE, state, end == MASQUERADE, weight)
        else:
            for part, next_end, kept in self.hook(hooks[0], flow):
                self.leave(hooks[1:], (part, kept), next_end)

    # ---- chains

    def _rules(self, chain: str) -> tuple[str, ...]:
        found = self.program.get(container(self.packet.family, "chain", chain))
        # A balancing chain that is as it should be is not among the containers.
        return found if found is not None else self.compiler.balancing(self.packet.family, chain) or ()

    def _chain(self, chain: str, flow: _Flow) -> Iterator[_End]:
        flows = [flow]
        name = container(self.packet.family, "chain", chain)
        for rule in self._rules(chain):
            going = []
            for weight, state in flows:
                for part, end, after in self._rule(name, rule, (weight, state)):
                    if end is None:
                        going.append((part, after))
                    else:
                        yield part, end, after
            flows = going
        for weight, state in flows:
            yield weight, PASSED, state

    def _rule(self, name: str, rule: str, flow: _Flow) -> Iterator[tuple[float, str | None, State]]:
        """What a rule does; the end None is: on to the next rule."""
        weight, state = flow
        left = _COMMENT.sub("", rule)
        while left:
            mark, connection, key = _MARK.match(left), _CONNECTION.match(left), _KEY.match(left)
            if mark:
                left = left[mark.end() :]
                mask, value, operator, operand = mark.groups()
                if operator:
                    bits = int(operand, 16)
                    state = state._replace(mark=state.mark | bits if operator == "|" else state.mark & bits)
                elif state.mark & int(mask, 16) != int(value, 16):
                    yield weight, None, state
                    return
            elif connection:
                left = left[connection.end() :]
                if (connection.group(2) and not state.translated) or (connection.group(3) and state.translated):
                    yield weight, None, state
                    return
            elif key:
                left = left[key.end() :]
                value_match = _VALUE.match(left)
                if value_match is None:
                    break
                left = left[value_match.end() :]
                negated, verdicts, value = value_match.groups()
                if verdicts:
                    yield from self._look_up(name, rule, (key.group(1), value[1:]), (weight, state))
                    return
                if self._equals(key.group(1), value, state, not negated) == bool(negated):
                    yield weight, None, state
                    return
            else:
                break
        yield from self._act(name, rule, left, (weight, state))

    def _act(self, name: str, rule: str, statement: str, flow: _Flow) -> Iterator[tuple[float, str | None, State]]:
        """The statement that ends a rule."""
        weight, state = flow
        translation, go = _DNAT.match(statement), _GO.match(statement)
        if translation:
            yield from self._translate(name, rule, (translation.group(1), translation.group(2)), flow)
            return
        known = statement in ("", DROP, REJECT, ACCEPT, "return") or go or _MASQUERADE.match(statement)
        (self.trace.meet if known else self.trace.wonder)(name, rule)
        if go:
            for part, end, after in self._chain(go.group(2), flow):
                yield part, end if end or go.group(1) == "goto" else None, after
        elif _MASQUERADE.match(statement):
            yield weight, MASQUERADE, state
        elif known and statement:
            yield weight, PASSED if statement == "return" else statement, state
        else:
            yield weight, None, state

    # ---- maps and sets

    def _words(self, key: str, state: State, index: int = 0) -> list[str]:
        """What the packet has in these fields, spelled as keys are."""
        protocol = text.NUMBERS[self.packet.protocol]
        found = {
            "saddr": self.packet.source,
            "daddr": state.destination,
            "l4proto": protocol,
            "dport": str(state.port),
            "type": "local" if self.packet.is_here(state.destination) else "unicast",
            "iifname": f'"{self.packet.interface}"',
        }
        return [str(index) if "numgen" in field else found[field.rsplit(" ", 1)[-1]] for field in key.split(" . ")]

    def _other_protocol(self, key: str) -> bool:
        """Does the key ask for a port of another protocol?"""
        asked = {field.split(" ")[0] for field in key.split(" . ")} & set(text.PROTOCOLS)
        return bool(asked) and self.packet.protocol.lower() not in asked

    def _equals(self, key: str, value: str, state: State, show: bool) -> bool:
        """Do the fields have this value, or one of a set? ``show``: note which element of the set it was."""
        words = self._words(key, state)
        if value.startswith("@"):
            return self._in_set(value[1:], words, show)
        for one in value.strip("{ }").split(", "):
            prefix = one.endswith('*"')
            if one == words[0] or (prefix and words[0].startswith(one[:-2])):
                return True
            if key == "meta l4proto" and text.NUMBERS.get(one.upper()) == words[0]:
                return True
            if key.endswith("addr") and inside(words[0], [one]):
                return True
        return False

    def _in_set(self, name: str, words: list[str], show: bool) -> bool:
        key = " . ".join(words)
        exact = container(self.packet.family, name, key)
        if exact in self.program:
            if show:
                self.trace.meet(exact, key)
            return True
        if "interval" not in text.COLLECTIONS[name].flags if name in text.COLLECTIONS else True:
            return False
        before = container(self.packet.family, name, " . ".join(words[:-1]) + " . ")
        for element in self.program:
            if element.startswith(before) and inside(words[-1], [element[len(before) :]]):
                self.trace.meet(element, self.program[element])
                return True
        return False

    def _element(self, name: str, words: list[str]) -> str | None:
        """The value of a map's element."""
        found = container(self.packet.family, name, " . ".join(words))
        content = self.program.get(found)
        if content is None:
            return None
        self.trace.meet(found, content)
        return str(content).partition(" : ")[2]

    def _look_up(
        self, name: str, rule: str, asked: tuple[str, str], flow: _Flow
    ) -> Iterator[tuple[float, str | None, State]]:
        """A rule whose verdict is an element of a map."""
        weight, state = flow
        if self._other_protocol(asked[0]) or not self._has(asked[1], self._words(asked[0], state)):
            yield weight, None, state
            return
        self.trace.meet(name, rule)
        verdict = self._element(asked[1], self._words(asked[0], state)) or ""
        yield from self._act_of_element(verdict, flow)

    def _has(self, name: str, words: list[str]) -> bool:
        return container(self.packet.family, name, " . ".join(words)) in self.program

    def _act_of_element(self, verdict: str, flow: _Flow) -> Iterator[tuple[float, str | None, State]]:
        weight, state = flow
        go = _GO.match(verdict)
        if go is None:
            yield weight, verdict, state
            return
        for part, end, after in self._chain(go.group(2), flow):
            yield part, end if end or go.group(1) == "goto" else None, after

    def _translate(
        self, name: str, rule: str, asked: tuple[str, str], flow: _Flow
    ) -> Iterator[tuple[float, str | None, State]]:
        """A rule that sends the packet to what a map has; where it has nothing, the rule does not hold."""
        weight, state = flow
        key, source = asked
        random = _RANDOM.search(key)
        count = int(random.group(1)) if random else 1
        missed = 0
        if source != "affinity" and not self._other_protocol(key):
            self.trace.meet(name, rule)
            for index in range(count):
                value = self._element(source, self._words(key, state, index))
                if value is None:
                    missed += 1
                    continue
                address, port = value.split(" . ")
                self._note_affinity(source, state, value)
                yield weight / count, TRANSLATED, State(address, int(port), state.mark, True)
        else:
            missed = count
        if missed:
            yield weight * missed / count, None, state

    def _note_affinity(self, source: str, state: State, backend: str) -> None:
        """For how long a client of this endpoint is remembered."""
        protocol = text.NUMBERS[self.packet.protocol]
        kind, before = ("nodeport_learn", "") if "nodeport" in source else ("learn", f"{state.destination} . ")
        element = self.program.get(
            container(self.packet.family, kind, f"{before}{protocol} . {state.port} . {backend}"), ""
        )
        seconds = learning_seconds(str(element).rpartition(" : goto ")[2])
        self.trace.affinity = max(self.trace.affinity, seconds)

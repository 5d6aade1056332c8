# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads what ``nft -nn list table`` shows of our own table back into containers, spelled as the compiler spells them.

Rules are known by the digest in their comment; one that the compiler does not know stays as it was listed. So a rule
that was taken away, added, moved or written by another version shows, whatever words nft lists rules in.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import text_nftables as text
from .nftables import Chain, NftablesCompiler, container, learning_seconds
from .nftables_changes import Forget
from .passes import Program

_BLOCK = re.compile(r"(set|map|chain) (\S+) \{$")
_HOOK = re.compile(r"type \S+ hook (\S+) priority (\S+);")
_COMMENT = re.compile(r'comment "([^"]*)"$')
_TABLE_COMMENT = re.compile(r'comment "servicenet ([^"]*)"$')
_ELEMENTS = "elements = { "
# The elements of the memory of session affinity are the kernel's own, as long as they are of endpoints that there are.
_LEARNED = "affinity"
# The one rule of a chain that remembers clients does not come from nft, so no comment tells it.
_REMEMBERS = "update @affinity { "


def program(listing: str, family: int, compiler: NftablesCompiler) -> Program:
    """The containers of a listed table.

    Balancing and remembering chains that are as they should be are left out, as the compiler does. A table of another
    version shows as nothing but itself: it has to be made anew. A map, set or chain that is not ours is there as
    ``4/foreign/set name``, a client that is remembered for an endpoint that its frontend does not have by its element:
    a run that was killed between two transactions leaves such.
    """
    found: Program = {}
    memory: list[_Entry] = []
    version = ""
    chains = compiler.chains(family)
    for kind, name, lines in _blocks(listing):
        if kind == "table":
            version = name
        elif kind == "chain":
            _read_chain(found, family, name, lines, compiler, chains.get(name))
        elif name not in compiler.collections:
            found[container(family, "foreign", f"{kind} {name}")] = "foreign"
        elif name == _LEARNED:
            memory = list(_remembered(lines, family))
        else:
            for element in _elements(lines):
                spelled = _canonical(element) if family == 6 else element
                found[f"{family}/{name}/{spelled.partition(' : ')[0]}"] = spelled
    for entry in memory:
        if not entry.learned(family, found):
            found[container(family, _LEARNED, entry.key)] = f"{entry.key} : {entry.backend}"
    own = container(family, "table", text.TABLE)
    if version != compiler.mark:
        return {own: f"version {version}" if version else "unknown version"}
    found[own] = version
    return found


def _blocks(listing: str) -> Iterator[tuple[str, str, list[str]]]:
    """-> (kind, name, lines without indentation); the version in the table's comment: ("table", version, [])."""
    kind, name = "", ""
    lines: list[str] = []
    for raw in listing.splitlines():
        line = raw.strip()
        start = _BLOCK.match(line)
        if start:
            kind, name = start.groups()
            lines = []
        elif not kind:
            comment = _TABLE_COMMENT.match(line)
            if comment:
                yield "table", comment.group(1), []
        elif raw.rstrip() == "\t}":
            yield kind, name, lines
            kind = ""
        else:
            lines.append(line)


def _elements(lines: Iterable[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        inside = inside or line.startswith(_ELEMENTS)
        if inside:
            start = len(_ELEMENTS) if line.startswith(_ELEMENTS) else 0
            listed = line[start:-2] if line.endswith(" }") else line[start:].rstrip(",")
            yield from filter(None, listed.split(", "))


def _canonical(element: str) -> str:
    """IPv6 addresses as Python spells them: C libraries write some of them with an IPv4 address at their end."""
    if "." not in element.replace(" . ", ""):
        return element
    return " ".join(_address(word) for word in element.split(" "))


def _address(word: str) -> str:
    base, slash, length = word.partition("/")
    return str(ipaddress.IPv6Address(base)) + slash + length if ":" in base and "." in base else word


def _read_chain(
    found: Program, family: int, name: str, lines: list[str], compiler: NftablesCompiler, expected: Chain | None
) -> None:
    """Adds a chain, unless it is one of those that are left out."""
    hook = ""
    if lines and lines[0].startswith("type "):
        hook, lines = lines[0], lines[1:]
    seconds = learning_seconds(name)
    if seconds:
        if len(lines) != 1 or not lines[0].startswith(_REMEMBERS) or f" timeout {seconds}s " not in lines[0]:
            found[container(family, "chain", name)] = tuple(lines)
        return
    balancing = compiler.balancing(family, name)
    wanted = balancing if expected is None else expected.rules
    known = {text.digest(rule): rule for rule in wanted or ()}
    rules = tuple(_rule(line, known) for line in lines)
    if balancing is not None and rules == balancing and not hook:
        return
    if expected is not None and not _same_hook(hook, expected.hook):
        rules = (f"hooked in as: {hook}", *rules)
    found[container(family, "chain", name)] = rules


def _rule(line: str, known: dict[str, str]) -> str:
    comment = _COMMENT.search(line)
    return known.get(comment.group(1), line) if comment else line


def _same_hook(listed: str, wanted: str) -> bool:
    found, expected = _HOOK.match(listed), _HOOK.match(wanted)
    if found is None or expected is None:
        return found is expected
    return found.groups() == expected.groups() and "policy drop" not in listed


class _Entry(NamedTuple):
    """A client and where it was sent. A node port is remembered under the address that the client used."""

    key: str
    frontend: str
    node_port: str
    backend: str

    def learned(self, family: int, program: Program) -> bool:
        """Is it from an endpoint that its frontend has?"""
        names = (f"{family}/learn/{self.frontend}", f"{family}/nodeport_learn/{self.node_port}")
        return any(f"{name} . {self.backend}" in program for name in names)


def _remembered(lines: Iterable[str], family: int) -> Iterator[_Entry]:
    for element in _elements(lines):
        # 198.18.1.20 . 10.96.0.1 . 6 . 80 timeout 600s expires 599s996ms : 10.128.0.1 . 8080
        key, _colon, value = (_canonical(element) if family == 6 else element).partition(" : ")
        words = [word.split(" ", 1)[0] for word in key.split(" . ")]
        yield _Entry(" . ".join(words), " . ".join(words[1:]), " . ".join(words[2:]), value)


def remembered(listing: str, family: int, whom: Iterable[Forget]) -> list[tuple[str, str]]:
    """The entries of the listed memory that have to go: (key, value)."""
    wanted = {(one.frontend, one.backend) for one in whom if one.family == family}
    return [
        (entry.key, entry.backend)
        for _kind, _name, lines in _blocks(listing)
        for entry in _remembered(lines, family)
        if (entry.frontend, entry.backend) in wanted or (entry.node_port, entry.backend) in wanted
    ]

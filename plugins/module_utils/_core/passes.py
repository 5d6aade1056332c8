# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passes: from snapshots to the program of one mode, in full or only for what changed.

A *program* is what a mode wants on the node, as containers: a name (a chain, or one element of a map) and its content.
A compiler makes it of a service table. Content must depend on nothing but the rules that contribute to the container,
so that an incremental pass, which compiles the changed Services and whatever shares a container with them, ends where a
full pass would.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any, Callable, Dict, NamedTuple, Protocol, Tuple

from . import snapshot as snapshots
from .errors import ObjectError
from .resolve import Decided, NodeView, decide, joined
from .snapshot import Snapshot
from .table import PortRules, ServiceTable

Program = Dict[str, Any]
Changes = Dict[str, Tuple[Any, Any]]

# Past this many changed Services, or pieces of text to look for, a full pass is as quick.
MOST_CHANGED = 500
MOST_PIECES = 250


class Compiler(Protocol):
    """The pure half of a mode. ``version`` changes whenever the same rules would give another program."""

    version: int

    def compile(self, rules: Iterable[PortRules]) -> Program:
        """Container -> content (comparable with ``==``). Sees all rules that contribute to a container, or none of them
        changed."""

    def contributors(self, containers: Iterable[str]) -> Iterable[bytes | re.Pattern[bytes]]:
        """What to look for in snapshot lines: every Service that contributes to one of these containers, before or
        after, has one of these pieces (or a match of one of these patterns) in its line. What shares a frontend's
        address or node port is found without."""


class Pass(NamedTuple):
    """What a pass found. ``new``: the containers that are wanted, in an incremental pass only those that differ;
    ``old``: what an incremental pass takes them to hold now. ``before``, ``after``: the tables of the Services looked
    at."""

    full: bool
    old: Program
    new: Program
    before: ServiceTable
    after: ServiceTable
    refused: tuple[ObjectError, ...]

    def changes(self, current: Program | None) -> Changes:
        """Container -> (what it holds, what it is to hold), None where there is none; only those that differ.

        :param current: what the node holds, None if nobody looked: then an incremental pass goes by ``old``.
        """
        held = self.old if current is None else current
        names = {**held, **self.new} if self.full else {**self.old, **self.new}
        return {n: (held.get(n), self.new.get(n)) for n in names if held.get(n) != self.new.get(n)}


_NOTHING = ServiceTable((), (), ())

# Does a work with consecutive parts of Service lines -> what came of each part, in their order.
Spread = Callable[[Callable[["Sequence[bytes]"], Any], "Sequence[bytes]"], "list[Any]"]


def in_one(work: Callable[[Sequence[bytes]], Any], lines: Sequence[bytes]) -> list[Any]:
    """The ``Spread`` that has one part."""
    return [work(lines)]


def table(lines: Sequence[bytes], view: NodeView, spread: Spread = in_one) -> tuple[ServiceTable, list[ObjectError]]:
    """-> (the table of the Services of these lines, those that are refused). Several parts take the order of a
    snapshot."""
    parts = spread(partial(_read_and_decide, view), lines)
    return joined([decided for decided, _refused in parts]), [one for _decided, refused in parts for one in refused]


def _read_and_decide(view: NodeView, lines: Sequence[bytes]) -> tuple[Decided, list[ObjectError]]:
    services, refused = snapshots.read_services(lines)
    return decide(services, view), refused


def full(
    new: Snapshot, view: NodeView, compiler: Compiler, old: Snapshot | None = None, spread: Spread = in_one
) -> Pass:
    """Compiles everything; ``old`` only serves to tell people what changes."""
    after, refused = table(new.service_lines(), view, spread)
    before = table(old.service_lines(), view, spread)[0] if old is not None else _NOTHING
    return Pass(True, {}, compiler.compile(after.rules), before, after, tuple(refused))


def incremental(old: Snapshot, new: Snapshot, view: NodeView, compiler: Compiler) -> Pass | None:
    """Compiles what differs between two snapshots and what shares a container or a frontend with it.

    None where a full pass is called for: the own Node's line changed, or too much else.
    """
    if old.node_line(view.name) != new.node_line(view.name):
        return None
    sides = (_Side(old), _Side(new))
    names = {snapshots.name_of(line) for line in set(sides[0].lines) ^ set(sides[1].lines)}
    while len(names) <= MOST_CHANGED:
        (before, _unused), (after, refused) = (side.table(names, view) for side in sides)
        was, is_now = compiler.compile(before.rules), compiler.compile(after.rules)
        changed = {container for container in {**was, **is_now} if was.get(container) != is_now.get(container)}
        pieces = {*compiler.contributors(changed), *_claims(before), *_claims(after)}
        if len(pieces) > MOST_PIECES:
            return None
        # One side is enough: what stands on the other side only is among the names already.
        found = names.union(*map(sides[1].names_with, pieces))
        if found == names:
            return Pass(False, _only(was, changed), _only(is_now, changed), before, after, tuple(refused))
        names = found
    return None


def _only(program: Program, names: set[str]) -> Program:
    return {name: content for name, content in program.items() if name in names}


def _claims(table: ServiceTable) -> Iterable[bytes]:
    """What a Service that claims one of the same frontends has in its line."""
    for entry in table.rules:
        for frontend in entry.frontends:
            yield f'"{frontend.address}"'.encode() if frontend.address else f'"nodePort":{frontend.port}'.encode()


class _Side:
    """The Service lines of one snapshot, to be searched as bytes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.lines = snapshot.service_lines()

    @cached_property
    def text(self) -> bytes:
        return b"\n".join(self.lines)

    def names_with(self, piece: bytes | re.Pattern[bytes]) -> set[str]:
        found = set()
        for place in self._places(piece):
            start = self.text.rfind(b"\n", 0, place) + 1
            found.add(snapshots.name_of(self.text[start:place]))
        return found

    def _places(self, piece: bytes | re.Pattern[bytes]) -> Iterable[int]:
        if isinstance(piece, re.Pattern):
            for match in piece.finditer(self.text):
                yield match.start()
            return
        # Several times faster than a pattern for the same bytes.
        place = self.text.find(piece)
        while place >= 0:
            yield place
            place = self.text.find(piece, place + 1)

    def table(self, names: set[str], view: NodeView) -> tuple[ServiceTable, list[ObjectError]]:
        lines = (snapshots.line_with(self.lines, snapshots.service_head(name)) for name in sorted(names))
        return table([*filter(None, lines)], view)

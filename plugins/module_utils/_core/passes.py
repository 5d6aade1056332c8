# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passes: from snapshots to the program of one mode, in full or only for what changed.

A *program* is what a mode wants on the node, as containers: a name (a chain, or one element of a map) and its content. A
compiler makes it of a service table. Content must depend on nothing but the rules that contribute to the container, so
that an incremental pass, which compiles the changed Services and whatever shares a container with them, ends where a full
pass would.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Dict, NamedTuple, Protocol

from . import snapshot as snapshots
from .errors import ObjectError
from .resolve import NodeView, resolve
from .snapshot import Snapshot
from .table import PortRules, ServiceTable

Program = Dict[str, Any]

# Past this many changed Services a full pass is as quick.
MOST_CHANGED = 500


class Compiler(Protocol):
    """The pure half of a mode. ``version`` changes whenever the same rules would give another program."""

    version: int

    def compile(self, rules: Iterable[PortRules]) -> Program:
        """Container -> content (comparable with ``==``). Sees all rules that contribute to a container, or none of them
        changed."""

    def contributors(self, containers: Iterable[str]) -> Iterable[bytes]:
        """Pieces of text of which at least one stands in the snapshot line of every Service that contributes to one of
        these containers, whether it does so now or could: ``b'"10.96.0.1"'``, ``b'"nodePort":30080'``."""


class Pass(NamedTuple):
    """What a pass found. ``program``: the container contents that are wanted; in an incremental pass only those that
    differ, None for one that goes. ``before`` and ``after``: the tables of the Services that were looked at."""

    full: bool
    program: Program
    before: ServiceTable
    after: ServiceTable
    refused: tuple[ObjectError, ...]


_NOTHING = ServiceTable((), (), ())


def full(new: Snapshot, view: NodeView, compiler: Compiler, old: Snapshot | None = None) -> Pass:
    """Compiles everything; ``old`` only serves to tell people what changes."""
    services, refused = new.services()
    after = resolve(services, view)
    before = resolve(old.services()[0], view) if old is not None else _NOTHING
    return Pass(True, compiler.compile(after.rules), before, after, tuple(refused))


def incremental(old: Snapshot, new: Snapshot, view: NodeView, compiler: Compiler) -> Pass | None:
    """Compiles what differs between two snapshots and what shares a container or a frontend with it.

    None where a full pass is called for: the own Node's line changed, or too much else.
    """
    if old.node_line(view.name) != new.node_line(view.name):
        return None
    sides = (_Side(old), _Side(new))
    names = sides[0].names_not_in(sides[1]) | sides[1].names_not_in(sides[0])
    while len(names) <= MOST_CHANGED:
        (before, _unused), (after, refused) = (side.table(names, view) for side in sides)
        old_program, new_program = compiler.compile(before.rules), compiler.compile(after.rules)
        changed: Program = {
            container: new_program.get(container)
            for container in {**old_program, **new_program}
            if old_program.get(container) != new_program.get(container)
        }
        pieces = {*compiler.contributors(changed), *_claims(before), *_claims(after)}
        found = names.union(*(side.names_with(pieces) for side in sides))
        if found == names:
            return Pass(False, changed, before, after, tuple(refused))
        names = found
    return None


def _claims(table: ServiceTable) -> Iterable[bytes]:
    """What a Service that claims one of the same frontends has in its line."""
    for entry in table.rules:
        for frontend in entry.frontends:
            yield f'"{frontend.address}"'.encode() if frontend.address else f'"nodePort":{frontend.port}'.encode()


class _Side:
    """The Service lines of one snapshot, to be searched as bytes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.lines = [line for line in snapshot.lines if snapshots.is_service(line)]
        self.text = b"\n".join(self.lines)

    def names_not_in(self, other: _Side) -> set[str]:
        return {snapshots.name_of(line) for line in set(self.lines).difference(other.lines)}

    def names_with(self, pieces: set[bytes]) -> set[str]:
        if not pieces:
            return set()
        found = set()
        pattern = re.compile(b"|".join(re.escape(piece) for piece in sorted(pieces)))
        for match in pattern.finditer(self.text):
            start = self.text.rfind(b"\n", 0, match.start()) + 1
            found.add(snapshots.name_of(self.text[start : start + 1000]))
        return found

    def table(self, names: set[str], view: NodeView) -> tuple[ServiceTable, list[ObjectError]]:
        services, refused = snapshots.read_services(line for line in self.lines if snapshots.name_of(line) in names)
        return resolve(services, view), refused

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From changed containers of the ipvs mode to what has to be done, in an order in which no packet takes a wrong way.

What is found by a mark is there before its mark is put on packets; sets know a frontend before its virtual server and
its address are there; what is refused stays so until it is served. In taking away, the sets go first: from then on new
connections are refused, and only then servers and addresses go. What says that a virtual server is ours is there before
it and stays until it is gone. A real server that drains gets its weight 0 behind the sets as well: a virtual server
whose last one has none refuses what still has its mark.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import AbstractSet, NamedTuple

from .ipvs import HOST, MARKED, MASQUERADED, OUTSIDE, POD, STRAY, container
from .ipvs_drain import needed_by
from .ipvs_held import HALVES, as_address
from .ipvs_objects import RETIRE, Operation, Real, Server, line
from .ipvs_rules import ADDRESSES, MARKS, UPPER_BYTE, declarations, set_name
from .passes import Changes
from .settings import Settings

IPSET = "ipset"
IPVS = "IPVS"
DEVICE = "servicenet0"
# The container of the device itself, which goes with the mode, and what is done to it.
HOLDER = f"4/device/{DEVICE}"
MAKE_DEVICE = "make"
REMOVE_DEVICE = "delete"
GOING = ("delete", RETIRE)
NOTHING: frozenset[str] = frozenset()


class Marks:
    """The numbers of marks: one for each entry of a set that holds one, by the name of its container.

    :param known: those in the kernel, without the bit that asks for masquerading; they stay as they are.
    :param taken: numbers of others.
    """

    def __init__(self, settings: Settings, known: Mapping[str, int], taken: Iterable[int] = ()) -> None:
        self.bit = settings.masquerade_bit
        self._numbers = dict(known)
        self._used = {*known.values(), *(number & ~(1 << self.bit) for number in taken)}

    def of(self, name: str, masqueraded: bool = False) -> int:
        """The number of a mark, with the bit for masquerading if asked."""
        if name not in self._numbers:
            chosen = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
            while self._number(chosen) in self._used:
                chosen += 1
            self._numbers[name] = self._number(chosen)
            self._used.add(self._numbers[name])
        return self._numbers[name] | (1 << self.bit if masqueraded else 0)

    def _number(self, chosen: int) -> int:
        return (UPPER_BYTE << 24 | chosen & 0xFFFFFF) & ~(1 << self.bit)


class Part(NamedTuple):
    """Lines for IPSET, IPVS or DEVICE, and those that take them back. ``names``: the container that each is for."""

    where: str
    lines: list[str]
    undo: list[str]
    names: list[str]

    def add(self, forth: str, back: str, name: str) -> None:
        """One line more; they are taken back in the opposite order."""
        self.lines.append(forth)
        self.undo.insert(0, back)
        self.names.append(name)


def _part(where: str) -> Part:
    return Part(where, [], [], [])


class _Parts:
    """The parts in their order."""

    def __init__(self) -> None:
        self.marks = _part(IPSET)
        self.marked = _part(IPVS)
        self.entries = _part(IPSET)
        self.servers = _part(IPVS)
        self.addresses = _part(DEVICE)
        self.withdrawn = _part(IPSET)
        self.removed = _part(IPVS)
        self.left = _part(DEVICE)
        self.forgotten = _part(IPSET)

    def in_order(self) -> list[Part]:
        return [part for part in vars(self).values() if part.lines]


def plan(changes: Changes, marks: Marks, retiring: AbstractSet[str] = NOTHING) -> list[Part]:
    """What makes the changes of servers, entries and addresses, in this order. Sets and chains are others' work.

    :param retiring: the containers of servers that go only if they have no connections.
    """
    made = _Parts()
    operations: list[tuple[Operation, Operation, str]] = []
    for name, (old, new) in changes.items():
        family_text, kind, *key = name.split("/")
        family = int(family_text)
        if kind == "address":
            _address(made, family, name, new is not None)
        elif kind in ("server", "real"):
            gone = RETIRE if name in retiring else "delete"
            operations.append((*_operation(server_of(family, key, marks), kind, key, old, new, gone), name))
    # What limits comes behind what it allows, and goes before it.
    for name in sorted(changes, key=lambda one: ("/set/LIMIT/" in one) == (changes[one][1] is not None)):
        family_text, kind, *key = name.split("/")
        if kind == "set":
            _entry(made, int(family_text), name, key[0], "/".join(key[1:]), changes[name], marks)
    # A virtual server comes before its real servers and goes behind them.
    for forth, back, name in sorted(operations, key=lambda one: (one[0].real is None) == (one[0].verb in GOING)):
        server = forth.server
        drains = forth.real is not None and forth.verb == "edit" and forth.real.weight == 0
        part = made.removed if forth.verb in GOING or drains else made.marked if server.mark else made.servers
        if server.mark and forth.real is None and forth.verb != "edit":
            entry = f"{set_name(server.family, MARKS)} {as_address(server.mark)}"
            if forth.verb == "add":
                made.marks.add(f"add {entry}", f"del {entry}", name)
            else:
                made.forgotten.add(f"del {entry}", f"add {entry}", name)
        part.add(line(forth), line(back), name)
    _unused_marks(made, changes, {(forth.server.family, forth.server.mark) for forth, _back, _name in operations})
    if changes.get(HOLDER, (None, True))[1] is None:
        made.left.add(REMOVE_DEVICE, MAKE_DEVICE, HOLDER)
    return made.in_order()


def _unused_marks(made: _Parts, changes: Changes, used: AbstractSet[tuple[int, int]]) -> None:
    """Marks that a run which was killed left without their servers go, but for those whose servers come now."""
    for name in changes:
        family, kind, *key = name.split("/")
        if kind == "mark" and (int(family), int(key[0], 16)) not in used:
            entry = f"{set_name(int(family), MARKS)} {as_address(int(key[0], 16))}"
            made.forgotten.add(f"del {entry}", f"add {entry}", name)


def sets(changes: Changes, wanted: bool) -> Part:
    """The sets themselves: those that have to be made, or those that have to go."""
    made = _part(IPSET)
    for name, (_old, new) in changes.items():
        family, kind, *key = name.split("/")
        if kind == "sets" and (new is not None) == wanted:
            create, destroy = declarations(int(family))[key[0]], f"destroy {set_name(int(family), key[0])}"
            made.add(*((create, destroy) if wanted else (destroy, create)), name)
    return made


def without_needed(lines: Sequence[str], names: Sequence[str], staying: Collection[str]) -> list[str]:
    """The lines of a part, and a comment in place of those that would take away what virtual servers need that were to
    go and stay after all: the next run finds them, and sees to it.

    :param names: the container that each line is for.
    :param staying: the containers of these servers.
    """
    taking = ("del ", "destroy ", "remove ", REMOVE_DEVICE)
    return ["#" if line.startswith(taking) and needed_by(name, staying) else line for line, name in zip(lines, names)]


def _address(made: _Parts, family: int, name: str, wanted: bool) -> None:
    address = name.split("/")[2]
    entry = f"{set_name(family, ADDRESSES)} {address}"
    if wanted:
        made.entries.add(f"add {entry}", f"del {entry}", name)
        made.addresses.add(f"add {address}", f"remove {address}", name)
    else:
        made.left.add(f"remove {address}", f"add {address}", name)
        made.forgotten.add(f"del {entry}", f"add {entry}", name)


def _entry(
    made: _Parts, family: int, name: str, set_of: str, entry: str, change: tuple[str | None, str | None], marks: Marks
) -> None:
    where = set_name(family, set_of)
    old, new = change
    places = [f"{half},{entry}" for half in HALVES[family]] if set_of.startswith("NP") else [entry]
    for place in places:
        forth, back = (
            f"del {where} {place}" if content is None else f"add {where} {place}{_mark(name, set_of, content, marks)}"
            for content in (new, old)
        )
        (made.withdrawn if new is None else made.entries).add(forth, back, name)


def _mark(name: str, set_of: str, content: str, marks: Marks) -> str:
    if content in (MARKED, MASQUERADED):
        return f" skbmark {marks.of(name, content == MASQUERADED):#x}"
    if content.startswith("mark 0x"):
        return f" skbmark {content[5:]}"
    return " skbmark 0x0/0x0" if set_of == "SPLIT" else ""


def server_of(family: int, key: Sequence[str], marks: Marks) -> Server:
    """The virtual server of a container, by the words of its name behind the kind."""
    role, protocol, address, port = key[:4]
    place = f"{protocol}:{port}"
    if role == STRAY:
        return Server(family, mark=int(port, 16))
    if role == OUTSIDE:
        entry = ("NPOUT", place) if address == "-" else ("SPLIT", f"{address},{place}")
        return Server(family, mark=marks.of(container(family, "set", *entry)))
    if role in (HOST, POD):
        return Server(family, mark=marks.of(container(family, "set", "NP", place), role == HOST))
    return Server(family, protocol.upper(), address, int(port))


def _operation(
    server: Server, kind: str, key: list[str], old: str | int | None, new: str | int | None, gone: str
) -> tuple[Operation, Operation]:
    """What makes one change of a server, and what takes it back."""
    verbs = ("add", "delete") if old is None else (gone, "add") if new is None else ("edit", "edit")
    forth, back = (
        Operation(
            verb,
            server,
            *(_settings(content) if kind == "server" else ("", 0)),
            real=Real(key[4], int(key[5]), int(content or 0)) if kind == "real" else None,
        )
        for verb, content in zip(verbs, (new, old))
    )
    return forth, back


def _settings(content: str | int | None) -> tuple[str, int]:
    """The scheduler and the seconds that a virtual server remembers a client, of its content."""
    scheduler, _space, seconds = str(content or "").partition(" ")
    return scheduler, int(seconds or 0)

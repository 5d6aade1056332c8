# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From changed containers of the ipvs mode to what has to be done, in an order in which no packet takes a wrong way.

What is found by a mark is there before its mark is put on packets; sets know a frontend before its virtual server and
its address are there; what is refused stays so until it is served. In taking away, the sets go first: from then on new
connections are refused, and only then servers and addresses go.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from .ipvs import HOST, MARKED, MASQUERADED, OUTSIDE, POD, container
from .ipvs_objects import Operation, Real, Server
from .ipvs_rules import ADDRESSES, set_name
from .passes import Changes
from .settings import Settings

# The upper byte of our marks.
PREFIX = 0x5E
_EVERYWHERE = {4: ("0.0.0.0/1", "128.0.0.0/1"), 6: ("::/1", "8000::/1")}


class Marks:
    """The numbers of marks: one for each entry of a set that holds one, by the name of its container.

    :param known: those in the kernel, without the bit that asks for masquerading; they stay as they are.
    """

    def __init__(self, settings: Settings, known: Mapping[str, int]) -> None:
        self.bit = settings.masquerade_bit
        self._numbers = dict(known)
        self._used = set(known.values())

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
        return (PREFIX << 24 | chosen & 0xFFFFFF) & ~(1 << self.bit)


class Plan(NamedTuple):
    """What to do, in this order: operations for IPVS, lines for ipset, addresses."""

    marked: list[Operation]
    entries: list[str]
    servers: list[Operation]
    addresses: list[str]
    withdrawn: list[str]
    removed: list[Operation]
    left: list[str]


def plan(changes: Changes, marks: Marks) -> Plan:
    """What makes the changes. A real server of TCP is not removed but gets the weight 0, and so do all of a virtual
    server that goes: their connections go on. Who calls removes them when they are idle.

    ``left``: addresses that no Service has any more; they are needed as long as connections go on.
    """
    made = Plan([], [], [], [], [], [], [])
    for name, (old, new) in changes.items():
        family_text, kind, *key = name.split("/")
        family = int(family_text)
        if kind == "set":
            _entry(made, family, name, key[0], "/".join(key[1:]), new, marks)
        elif kind == "address":
            _address(made, family, key[0], new is not None)
        elif kind in ("server", "real"):
            _server(made, Operation("", _key(family, key, marks)), kind, key, old, new)
    for coming in (made.marked, made.servers):
        coming.sort(key=lambda one: one.real is not None)  # a virtual server before its real servers
    made.removed.sort(key=lambda one: one.real is None)
    return made


def _entry(made: Plan, family: int, name: str, set_of: str, entry: str, new: str | None, marks: Marks) -> None:
    where = set_name(family, set_of)
    places = [f"{half},{entry}" for half in _EVERYWHERE[family]] if set_of.startswith("NP") else [entry]
    for place in places:
        if new is None:
            made.withdrawn.append(f"del {where} {place}")
        elif new in (MARKED, MASQUERADED):
            made.entries.append(f"add {where} {place} skbmark {marks.of(name, new == MASQUERADED):#x}")
        elif set_of == "SPLIT":
            made.entries.append(f"add {where} {place} skbmark 0x0/0x0")
        elif set_of == "LIMIT":
            made.entries.append(f"add {where} {place}")
        else:
            # Before LIMIT, so that nobody is shut out who is allowed.
            made.entries.insert(0, f"add {where} {place}")


def _address(made: Plan, family: int, address: str, wanted: bool) -> None:
    if wanted:
        made.entries.append(f"add {set_name(family, ADDRESSES)} {address}")
        made.addresses.append(address)
    else:
        made.left.append(address)


def _key(family: int, key: list[str], marks: Marks) -> Server:
    role, protocol, address, port = key[:4]
    place = f"{protocol}:{port}"
    if role == OUTSIDE:
        entry = ("NPOUT", place) if address == "-" else ("SPLIT", f"{address},{place}")
        return Server(family, mark=marks.of(container(family, "set", *entry)))
    if role in (HOST, POD):
        return Server(family, mark=marks.of(container(family, "set", "NP", place), role == HOST))
    return Server(family, protocol.upper(), address, int(port))


def _server(
    made: Plan, about: Operation, kind: str, key: list[str], old: object, new: tuple[str, int] | int | None
) -> None:
    real = Real(key[4], int(key[5]), new if isinstance(new, int) else 0) if kind == "real" else None
    drains = key[1] == "tcp"
    operation = about._replace(real=real)
    if isinstance(new, tuple):
        operation = operation._replace(scheduler=new[0], persistent=new[1])
    if new is not None:
        coming = made.marked if about.server.mark else made.servers
        coming.append(operation._replace(verb="add" if old is None else "edit"))
    elif real is None:
        if not drains:
            made.removed.append(operation._replace(verb="delete"))
    else:
        made.removed.append(operation._replace(verb="edit" if drains else "delete"))

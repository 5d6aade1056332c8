# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what a kernel holds to the containers of the ipvs mode, and what of it is ours.

A virtual server is ours if its mark is in our set of marks, its address is on our device, or its address and port are
in a set of frontends. So ownership is in the kernel and survives the loss of every file, and no virtual server of
anybody else is ever seen here.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import AbstractSet, NamedTuple

from . import ipvs_rules
from .ipvs import ANY, FRONTENDS, HOST, MARKED, MASQUERADED, OUTSIDE, POD, SETS, STRAY, container, server_content
from .ipvs_objects import Server, Virtual
from .ipvs_rules import ADDRESSES, MARKS, WITH_MARKS, set_name
from .passes import Program
from .settings import Settings
from .text_iptables import Rules

FAMILIES = (4, 6)
# A set of node ports has each port once for either half of all addresses.
HALVES = {4: ("0.0.0.0/1", "128.0.0.0/1"), 6: ("::/1", "8000::/1")}


class Kernel(NamedTuple):
    """What was read. ``sets``: name -> entry -> mark; ``addresses``: address -> device; ``devices``: those that hold
    our addresses; ``chains``: (family, table) -> chain -> rules."""

    sets: Mapping[str, Mapping[str, int]]
    servers: Mapping[Server, Virtual]
    addresses: Mapping[str, str]
    devices: tuple[str, ...]
    chains: Mapping[tuple[int, str], Mapping[str, Rules]]

    def of(self, family: int, name: str) -> Mapping[str, int]:
        """The entries of one of our sets."""
        return self.sets.get(set_name(family, name), {})


class Held(NamedTuple):
    """``marks``: the container of an entry -> the number of its mark without the bit that asks for masquerading;
    ``taken``: the numbers of all marks that are in use; ``elsewhere``: the node's addresses that others gave it;
    ``servers``: the container of a virtual server -> what the kernel holds there."""

    program: Program
    marks: dict[str, int]
    taken: AbstractSet[int]
    elsewhere: AbstractSet[str]
    servers: Mapping[str, tuple[Server, Virtual]]


def as_address(mark: int) -> str:
    """A mark as an entry of the set of marks."""
    return str(ipaddress.IPv4Address(mark))


def held(kernel: Kernel, settings: Settings) -> Held:
    """The containers of all that is ours."""
    made = _Reading(kernel, 1 << settings.masquerade_bit)
    for family in FAMILIES:
        made.frame(family)
        made.entries(family)
        made.addresses(family)
    made.servers()
    ours = {address for address, device in kernel.addresses.items() if made.is_ours(address, device)}
    taken = {server.mark for server in kernel.servers if server.mark}
    for family in FAMILIES:
        taken.update(made.unused_marks(family))
    return Held(made.program, made.marks, taken, kernel.addresses.keys() - ours, made.held)


class _Reading:
    """Gathers the containers."""

    def __init__(self, kernel: Kernel, bit: int) -> None:
        self.kernel, self.bit = kernel, bit
        self.program: Program = {}
        self.marks: dict[str, int] = {}
        self.held: dict[str, tuple[Server, Virtual]] = {}
        self.vips = {family: kernel.of(family, ADDRESSES) for family in FAMILIES}

    def is_ours(self, address: str, device: str) -> bool:
        """Does a device hold this address for Services? On the loopback, only the set tells ours from others'."""
        return device == self.kernel.devices[0] or (
            device in self.kernel.devices and address in self.vips[6 if ":" in address else 4]
        )

    def frame(self, family: int) -> None:
        for name in ipvs_rules.declarations(family):
            if set_name(family, name) in self.kernel.sets:
                self.program[container(family, "sets", name)] = True
        for table in ipvs_rules.HOOKS:
            for chain, rules in self.kernel.chains.get((family, table), {}).items():
                ours = ipvs_rules.ours(table, chain, rules)
                if ours is not None:
                    self.program[container(family, "chain", table, chain)] = ours

    def entries(self, family: int) -> None:
        for name in SETS:
            found = self.kernel.of(family, name)
            if name.startswith("NP"):
                found = dict(self._joined(family, found))
            for entry, mark in found.items():
                full = container(family, "set", name, entry)
                self.program[full] = self._content(family, full, mark) if name in WITH_MARKS else ""

    @staticmethod
    def _joined(family: int, found: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        """Node ports with the mark that both halves of their entry have, -1 if they haven't."""
        marks: dict[str, dict[str, int]] = {}
        for entry, mark in found.items():
            half, _comma, place = entry.partition(",")
            marks.setdefault(place, {})[half] = mark
        for place, by_half in marks.items():
            both = {by_half.get(half, -1) for half in HALVES[family]}
            yield place, both.pop() if len(both) == 1 else -1

    def _content(self, family: int, full: str, mark: int) -> str:
        """What an entry holds; a mark that is none of ours is told by its number, so that it differs from any."""
        if mark == 0:
            return ""
        if mark < 0 or as_address(mark) not in self.kernel.of(family, MARKS):
            return f"mark {mark:#x}"
        base = mark & ~self.bit
        self.marks[full] = base
        return MARKED if mark == base else MASQUERADED

    def addresses(self, family: int) -> None:
        there = {
            address
            for address, device in self.kernel.addresses.items()
            if (6 if ":" in address else 4) == family and self.is_ours(address, device)
        }
        for address in {*there, *self.vips[family]}:
            whole = address in there and address in self.vips[family]
            self.program[container(family, "address", address)] = whole

    def unused_marks(self, family: int) -> Iterator[int]:
        """The marks that a run which was killed left without their servers."""
        used = {server.mark for server in self.kernel.servers if server.family == family}
        for entry in self.kernel.of(family, MARKS):
            mark = int(ipaddress.IPv4Address(entry))
            if mark not in used:
                self.program[container(family, "mark", f"{mark:#x}")] = "unused"
                yield mark

    def servers(self) -> None:
        places = {(int(name[0]), number): name for name, number in self.marks.items()}
        for server, virtual in self.kernel.servers.items():
            key = self._key(server, places)
            if key is None:
                continue
            content = server_content(virtual.scheduler, virtual.persistent)
            self.program[container(server.family, "server", *key)] = content
            self.held[container(server.family, "server", *key)] = server, virtual
            for real in virtual.reals:
                name = container(server.family, "real", *key, real.address, str(real.port))
                self.program[name] = real.weight

    def _key(self, server: Server, places: Mapping[tuple[int, int], str]) -> tuple[str, ...] | None:
        """The key of a virtual server's containers; None if it is somebody else's."""
        family = server.family
        if not server.mark:
            ours = self.is_ours(server.address, self.kernel.addresses.get(server.address, ""))
            entry = f"{server.address},{server.protocol.lower()}:{server.port}"
            if ours or any(entry in self.kernel.of(family, name) for name in FRONTENDS):
                return ANY, server.protocol.lower(), server.address, str(server.port)
            return None
        if as_address(server.mark) not in self.kernel.of(family, MARKS):
            return None
        asks = bool(server.mark & self.bit)
        _family, _set, name, place = places.get((family, server.mark & ~self.bit), "///").split("/", 3)
        if name == "NP":
            protocol, port = place.split(":")
            return HOST if asks else POD, protocol, "-", port
        if not name or asks:
            return STRAY, "tcp", "-", f"{server.mark:#x}"
        address, _comma, rest = place.rpartition(",")
        protocol, port = rest.split(":")
        return OUTSIDE, protocol, address or "-", port

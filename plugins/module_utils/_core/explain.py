# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where one packet goes: the question, the answer, and what the walkers of all modes have in common.

A walker goes through a program as the kernel would, rule by rule. Where the kernel tosses a coin it goes both ways, so
an answer is not one endpoint but all of them with their chances.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

from .passes import Program
from .table import DROP, REJECT

ENDPOINT = "endpoint"
# No rule of ours takes it: it goes on to the address that it was sent to.
NONE = "none"
MIXED = "mixed"
# A proxy without endpoints accepts the connection and ends it.
CLOSED = "closed"
VERDICTS = (ENDPOINT, REJECT, DROP, NONE, CLOSED)


class Packet(NamedTuple):
    """The first packet of a flow, without a mark.

    ``protocol`` is TCP, UDP or SCTP; ``interface`` is where it comes in, "" if that is not known; ``from_node``: a
    process of this node sends it. ``here`` are the addresses of this node, besides its loopback addresses.
    """

    family: int
    protocol: str
    source: str
    destination: str
    port: int
    interface: str = ""
    from_node: bool = False
    here: frozenset[str] = frozenset()

    def is_here(self, address: str) -> bool:
        """Is it an address of this node?"""
        return address in self.here or is_loopback(address)


class State(NamedTuple):
    """What rules changed of a packet so far: where it is sent to, its mark, and whether it was sent elsewhere."""

    destination: str
    port: int
    mark: int = 0
    translated: bool = False


class Outcome(NamedTuple):
    """One of the ends that a packet may come to. ``address`` and ``port``: of an endpoint, else "" and 0."""

    verdict: str
    address: str
    port: int
    masqueraded: bool
    probability: float


class Met(NamedTuple):
    """A rule or element that the packet meets: the container that it is in, and its text; or a container's content."""

    container: str
    text: str | int


class Answer(NamedTuple):
    """``outcomes``: for a client that is not remembered, sorted; their probabilities add up to 1. ``affinity``: seconds
    for which a client is remembered, 0 if it is not. ``met``: what holds for some part of such packets, in order.
    ``unclear``: rules on the way that are not ours and can't be understood; they are passed over."""

    outcomes: tuple[Outcome, ...]
    affinity: int
    met: tuple[Met, ...]
    unclear: tuple[Met, ...]

    @property
    def verdict(self) -> str:
        """One of VERDICTS, or MIXED."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        return verdicts.pop() if len(verdicts) == 1 else MIXED

    def same_as(self, other: Answer) -> bool:
        """Do the same things happen to the packet, by whatever rules?"""
        mine, others = ({one[:4]: one.probability for one in answer.outcomes} for answer in (self, other))
        alike = mine.keys() == others.keys() and all(abs(mine[key] - others[key]) < 1e-6 for key in mine)
        return alike and self.affinity == other.affinity


class Explainer(Protocol):
    """A mode's walker."""

    def explain(self, program: Program, packet: Packet) -> Answer:
        """What a program that was read, or compiled, does with a packet."""

    def where(self, container: str) -> str:
        """A container's name for people."""


class Trace:
    """Gathers what a walker meets on its way, each once, and where it comes out."""

    def __init__(self) -> None:
        self._met: dict[Met, None] = {}
        self._unclear: dict[Met, None] = {}
        self._outcomes: dict[tuple[str, str, int, bool], float] = {}
        self.affinity = 0

    def meet(self, container: str, text: str | int) -> None:
        """Notes a rule or element that holds."""
        self._met[Met(container, text)] = None

    def wonder(self, container: str, text: str) -> None:
        """Notes a rule that can't be understood."""
        self._unclear[Met(container, text)] = None

    def end(self, verdict: str, state: State, masqueraded: bool, weight: float) -> None:
        """Notes an end, of this part of all packets."""
        address, port = (state.destination, state.port) if verdict == ENDPOINT else ("", 0)
        key = (verdict, address, port, masqueraded and verdict == ENDPOINT)
        self._outcomes[key] = self._outcomes.get(key, 0.0) + weight

    def answer(self) -> Answer:
        """All of it."""
        outcomes = tuple(Outcome(*key, weight) for key, weight in sorted(self._outcomes.items()))
        return Answer(outcomes, self.affinity, tuple(self._met), tuple(self._unclear))


@lru_cache(maxsize=10_000)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return None


def inside(address: str, cidrs: Iterable[str]) -> bool:
    """Is the address in one of these networks, or one of these addresses?"""
    found = ipaddress.ip_address(address)
    return any(network is not None and found in network for network in map(_network, cidrs))


def is_loopback(address: str) -> bool:
    """Is it an address by which every machine means itself?"""
    return address == "::1" or address.startswith("127.")

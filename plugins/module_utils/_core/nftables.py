# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables mode: a service table as elements of a few maps and sets; no chain belongs to a Service.

A new connection's way, in the table of its family:

    prerouting, output (priority -110)   sources that ``restricted`` frontends do not allow are dropped
    prerouting, output (priority -100)   ``service``: frontend -> the chain that balances over K endpoints, or drop;
                                         from outside ``outside_service`` first: what has other endpoints there;
                                         for an address that serves node ports the same by ``nodeport``
      the chain, such as external_sticky_3: marks for masquerading as its first word says, looks for what the client got
                                         before, then picks one of 3 from ``endpoint`` by (frontend, random number)
    input, forward, output               ``rejected`` frontends, and ports that a ClusterIP does not have, are refused
    postrouting, input (priority 90)     ``learn``: what a client of a sticky frontend got is remembered in ``affinity``
    postrouting (priority 100)           masquerades what is marked, and what reaches itself (``hairpin``)

A container is one element (``4/service/10.96.0.1 . 6 . 80``) or one chain (``4/chain/prerouting``). Its content is the
element's or the rules' text. The balancing chains are no containers: they follow from the elements that lead there.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from . import text_nftables as text
from . import versions
from .passes import Program
from .settings import Settings
from .table import BALANCE, CLUSTER_IP, DROP, NODE_PORT, REJECT, Frontend, PortRules, Target

# How a balancing chain marks packets for masquerading.
INTERNAL = "internal"  # of a ClusterIP: with masquerade_all, or if the source is no local Pod
EXTERNAL = "external"  # always
INSIDE = "inside"  # of what has other endpoints for the outside, from the inside: unless the source is a local Pod
OUTSIDE = "outside"  # of the same, from the outside: never

_BALANCING = re.compile(r"(nodeport_)?(internal|external|inside|outside)_(sticky_)?([1-9]\d*)\Z")
_LEARNING = re.compile(r"learn_([1-9]\d*)\Z")


def container(family: int, kind: str, key: str) -> str:
    """The name of an element of a map or set, or of a chain (kind "chain"), or of the table itself (kind "table")."""
    return f"{family}/{kind}/{key}"


def parts(name: str) -> tuple[int, str, str]:
    """-> (family, kind, key)"""
    family, kind, key = name.split("/", 2)
    return int(family), kind, key


class Chain(NamedTuple):
    """``hook`` is "" for a chain that is jumped to."""

    hook: str
    rules: text.Rules


class NftablesCompiler:
    """Compiles to elements. Implements ``passes.Compiler``."""

    version = versions.NFTABLES
    collections = text.COLLECTIONS
    masquerades = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def mark(self) -> str:
        """What the comment of our tables says: whose they are."""
        return str(self.version)

    def compile(self, rules: Iterable[PortRules]) -> Program:
        """All elements: container -> the text that adds it."""
        made = _Elements()
        for entry in rules:
            made.add(entry)
        return made.program

    def contributors(self, containers: Iterable[str]) -> Iterable[bytes]:
        """Services that have an endpoint on this node in common share its hairpin element."""
        for name in containers:
            _family, kind, key = parts(name)
            if kind == "hairpin":
                yield f'"{key.split(" ", 1)[0]}"'.encode()

    # -------------------------------------------------------------------------------------------------- the frame

    def frame(self) -> Program:
        """The containers that do not depend on Services: the tables, and the chains that a packet goes through."""
        program: Program = {}
        for family in self.settings.view.families:
            program[container(family, "table", text.TABLE)] = self.mark
            for name, chain in self.chains(family).items():
                program[container(family, "chain", name)] = chain.rules
        return program

    def chains(self, family: int) -> dict[str, Chain]:
        """The chains of the frame, in an order in which each is there before it is jumped to."""
        word, mark = text.ip(family), self.settings.mark
        unmark, masquerade = mark ^ 0xFFFFFFFF, "masquerade fully-random"
        key, port = text.frontend(family), "meta l4proto . th dport"
        node_port, outside = self._node_port(family), self._not_local(family)
        served = [f"{key} vmap @service"]
        served_outside = [f"{outside} {key} vmap @outside_service".lstrip()]
        refuse = [f"ct state new {key} @rejected reject"]
        if node_port:
            served_outside += [*served, f"{outside} {node_port} {port} vmap @outside_nodeport".lstrip()]
            refuse.append(f"ct state new {node_port} {port} @rejected_nodeport reject")
            served.append(f"{node_port} {port} vmap @nodeport")
        undefined = [f"ct state new {word} daddr @cluster_address reject"]
        cidrs = [c for c in self.settings.service_cidrs if _family(c) == family]
        if cidrs:
            undefined.append(f"ct state new {word} daddr {text.one_of(cidrs)} drop")
        ranges = (f"ct state new {key} @restricted {key} . {word} saddr != @allowed drop",)
        learn = text.learn(family)
        return {
            "recall": Chain("", text.recall(family)),
            "ranges_prerouting": Chain("type filter hook prerouting priority -110;", ranges),
            "ranges_output": Chain("type filter hook output priority -110;", ranges),
            "prerouting": Chain(
                "type nat hook prerouting priority -100;", tuple(dict.fromkeys((*served_outside, *served)))
            ),
            "output": Chain("type nat hook output priority -100;", tuple(served)),
            "refuse_input": Chain("type filter hook input priority 0;", tuple(refuse)),
            "refuse_forward": Chain("type filter hook forward priority 0;", (*refuse, *undefined)),
            "refuse_output": Chain("type filter hook output priority 0;", (*refuse, *undefined)),
            "learn_postrouting": Chain("type filter hook postrouting priority 90;", learn),
            "learn_input": Chain("type filter hook input priority 90;", learn),
            "postrouting": Chain(
                "type nat hook postrouting priority 100;",
                (
                    f"meta mark & 0x{mark:08x} == 0x{mark:08x} meta mark set meta mark & 0x{unmark:08x} {masquerade}",
                    f"ct status dnat {word} saddr . {word} daddr . meta l4proto . th dport @hairpin {masquerade}",
                ),
            ),
        }

    def meanwhile(self, family: int) -> dict[str, Chain]:
        """The chains that drop what no rule has sent to an endpoint, instead of refusing it, while a table takes the
        place of another one: a packet under way may have seen the new one too early and the old one too late."""
        astray = "ct state new ct status & dnat != dnat"
        served = f"{astray} {text.frontend(family)} @meanwhile drop"
        node_port = self._node_port(family)
        served_here = f"{astray} {node_port} meta l4proto . th dport @meanwhile_nodeport drop"
        return {
            "meanwhile_input": Chain(
                "type filter hook input priority -1;", (served, served_here) if node_port else (served,)
            ),
            "meanwhile_forward": Chain("type filter hook forward priority -1;", (served,)),
            "meanwhile_output": Chain("type filter hook output priority -1;", (served,)),
        }

    def balancing(self, family: int, name: str) -> text.Rules | None:
        """The rules of a balancing chain, None if that is no such chain's name."""
        match = _BALANCING.match(name)
        if match is None:
            return None
        node_port, masquerade, sticky, count = match.groups()
        endpoints = ("outside_" if masquerade == OUTSIDE else "") + (node_port or "") + "endpoint"
        recall = ("jump recall",) if sticky else ()
        return (*self._mark(family, masquerade), *recall, *text.choose(family, endpoints, int(count)))

    def _mark(self, family: int, masquerade: str) -> text.Rules:
        mark = f"meta mark set meta mark | 0x{self.settings.mark:08x}"
        unless_local = f"{self._not_local(family)} {mark}".lstrip()
        if masquerade == OUTSIDE or not self.masquerades:
            return ()
        if masquerade == EXTERNAL:
            return (mark,)
        if masquerade == INSIDE:
            return (unless_local,)
        if self.settings.masquerade_all:
            return (mark,)
        return (unless_local,) if self.settings.detector.exists_for(family) else ()

    def _not_local(self, family: int) -> str:
        """A match for all packets but those of local Pods; "" without a detector, which is to say: for all."""
        detector = self.settings.detector
        if detector.interface:
            name = detector.interface[:-1] + "*" if detector.interface.endswith("+") else detector.interface
            return f'iifname != "{name}"'
        cidrs = detector.cidrs_of(family)
        return f"{text.ip(family)} saddr != {text.one_of(_collapsed(cidrs))}" if cidrs else ""

    def _node_port(self, family: int) -> str:
        """A match for the addresses that serve node ports, "" if none does; a loopback address never does."""
        word = text.ip(family)
        match = f"fib daddr type local {word} daddr != {'::1' if family == 6 else '127.0.0.0/8'}"
        if self.settings.nodeport_addresses:
            cidrs = self.settings.node_port_cidrs(family)
            return f"{match} {word} daddr {text.one_of(_collapsed(cidrs))}" if cidrs else match
        primary = [address for address in self.settings.view.node_ips if _family(address) == family]
        return f"{match} {word} daddr {text.one_of(primary)}" if primary else ""


def learning_seconds(name: str) -> int:
    """The timeout of a chain that remembers clients, 0 if that is no such chain's name."""
    match = _LEARNING.match(name)
    return int(match.group(1)) if match else 0


def _family(address: str) -> int:
    return 6 if ":" in address else 4


@lru_cache(maxsize=10_000)
def _collapsed(cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """CIDRs without those inside others, which nftables refuses; an address without its length, as nft lists it."""
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    found: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]
    if networks[0].version == 6:
        found = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    else:
        found = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    return tuple(str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in found)


# ------------------------------------------------------------------------------------------------- elements of Services


class _Elements:
    """Gathers the elements of service ports."""

    def __init__(self) -> None:
        self.program: Program = {}

    def _put(self, family: int, kind: str, key: str, value: str = "") -> None:
        self.program[f"{family}/{kind}/{key}"] = f"{key} : {value}" if value else key

    def add(self, entry: PortRules) -> None:
        protocol = text.NUMBERS[entry.protocol]
        for frontend in entry.frontends:
            if frontend.kind == CLUSTER_IP:
                self._put(entry.family, "cluster_address", frontend.address)
                self._serve(entry, frontend, protocol, INTERNAL, entry.internal)
            elif not entry.external_local:
                self._serve(entry, frontend, protocol, EXTERNAL, entry.external)
            else:
                self._serve(entry, frontend, protocol, INSIDE, entry.cluster)
                self._serve(entry, frontend, protocol, OUTSIDE, entry.external)
            if frontend.source_ranges is not None:
                self._restrict(entry, frontend, protocol, frontend.source_ranges)
        for backend in entry.reachable:
            if backend.local:
                key = f"{backend.address} . {backend.address} . {protocol} . {backend.port}"
                self._put(entry.family, "hairpin", key)

    def _serve(self, entry: PortRules, frontend: Frontend, protocol: str, masquerade: str, target: Target) -> None:
        """One frontend for one class of source."""
        family, node_port = entry.family, "nodeport" if frontend.kind == NODE_PORT else ""
        key = f"{protocol} . {frontend.port}" if node_port else f"{frontend.address} . {protocol} . {frontend.port}"
        before = "outside_" if masquerade == OUTSIDE else ""
        kind = before + (node_port or "service")
        if target.verdict == REJECT:
            self._put(family, "rejected_nodeport" if node_port else "rejected", key)
        elif target.verdict == DROP:
            self._put(family, kind, key, "drop")
        elif target.verdict == BALANCE:
            endpoints = before + ("nodeport_endpoint" if node_port else "endpoint")
            endpoints += f"_{entry.protocol.lower()}"
            where = f"{frontend.port}" if node_port else f"{frontend.address} . {frontend.port}"
            for index, backend in enumerate(target.backends):
                self._put(family, endpoints, f"{where} . {index}", f"{backend.address} . {backend.port}")
            chain = f"{masquerade}_{'sticky_' if entry.affinity else ''}{len(target.backends)}"
            self._put(family, kind, key, f"goto {'nodeport_' if node_port else ''}{chain}")
            if entry.affinity:
                learn = "nodeport_learn" if node_port else "learn"
                for backend in target.backends:
                    what = f"{key} . {backend.address} . {backend.port}"
                    self._put(family, learn, what, f"goto learn_{entry.affinity}")

    def _restrict(self, entry: PortRules, frontend: Frontend, protocol: str, ranges: tuple[str, ...]) -> None:
        key = f"{frontend.address} . {protocol} . {frontend.port}"
        self._put(entry.family, "restricted", key)
        if frontend.admits_own_address:
            ranges = (*ranges, frontend.address)
        for cidr in _collapsed(ranges):
            self._put(entry.family, "allowed", f"{key} . {cidr}")

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The iptables mode: a service table as chains.

A packet's way in table nat (the filter table repeats the dispatch for what is rejected or dropped):

    PREROUTING, OUTPUT -> SERVICENET        marks what is to be masqueraded unless a frontend says otherwise
      -> SERVICENET-IP-5 -> SERVICENET-IP-25   by the low 4, then 8 bits of the destination: at most 256 leaves
           small services are balanced right there, others in SERVICENET-B-*
           SERVICENET-X-*  the way in from outside, SERVICENET-F-* the source ranges before it
           SERVICENET-V-*  an address with many frontends, by ranges of ports
      -> SERVICENET-NODEPORTS -> SERVICENET-NP-*   by ranges of ports
    POSTROUTING -> SERVICENET-POSTROUTING   masquerades what is marked, and what reaches itself

The low bits spread addresses evenly however they were allocated, and an address alone decides which leaf it is in.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

from . import text_iptables as text
from . import versions
from .passes import Program
from .settings import Settings, is_loopback
from .table import BALANCE, CLUSTER_IP, DROP, LOAD_BALANCER, REJECT, Backend, Frontend, PortRules, Target
from .text_iptables import Rules

# A service with one frontend and no more endpoints than this is balanced in its leaf.
MOST_INLINE = 4
# Endpoints are chosen through a tree of this width.
CHOICES = 16
# An address with more frontends than this gets a chain of its own, which splits them by port.
MOST_PORTS_INLINE = 32
# Node ports a leaf, and leaves a node of the tree above.
PORTS_A_LEAF = 32
PORTS_A_BRANCH = 512

TABLES = ("nat", "filter")
# The mode ipvs has chains of its own beside these.
_OURS = re.compile(r"SERVICENET(-(?!IPVS-)|\Z)")
_OUR_JUMP = re.compile(r"-[jg] SERVICENET(-(?!IPVS-)|\Z)")
HOOKS = {
    "nat": {
        "PREROUTING": "SERVICENET",
        "OUTPUT": "SERVICENET",
        "POSTROUTING": "SERVICENET-POSTROUTING",
    },
    "filter": {
        "INPUT": "SERVICENET-INPUT",
        "FORWARD": "SERVICENET-FORWARD",
        "OUTPUT": "SERVICENET-OUTPUT",
    },
}
_NODE_PORT_LEAF = re.compile(r"SERVICENET-NP-(tcp|udp|sctp)-(\d+)\Z")
_FRAME = re.compile(r"SERVICENET(-(INPUT|FORWARD|OUTPUT|POSTROUTING|MARK|NODEPORTS|IP-[0-9a-f]|NPS-[a-z]+-\d+))?\Z")
_ADDRESS_LEAF = re.compile(r"SERVICENET-IP-([0-9a-f]{2})\Z")


def container(family: int, table: str, chain: str) -> str:
    """The name of a chain among the containers of a program; a built-in chain stands for our jumps in it."""
    return f"{family}/{table}/{chain}"


def parts(name: str) -> tuple[int, str, str]:
    """-> (family, table, chain)"""
    family, table, chain = name.split("/", 2)
    return int(family), table, chain


def ours(table: str, chain: str, rules: Rules) -> Rules | None:
    """What of a chain in the kernel is ours: all of our own chains, our jumps in a built-in one, None of the others."""
    if chain in HOOKS[table]:
        return tuple(rule for rule in rules if _OUR_JUMP.search(rule)) or None
    return rules if _OURS.match(chain) else None


def in_frame(name: str) -> bool:
    """Does ``IptablesCompiler.frame`` make this container?"""
    _family, table, chain = parts(name)
    return chain in HOOKS[table] or _FRAME.match(chain) is not None


def is_leaf(name: str) -> bool:
    """Does the frame lead to this container? Which of these there are is all that the frame depends on."""
    chain = parts(name)[2]
    return _ADDRESS_LEAF.match(chain) is not None or _NODE_PORT_LEAF.match(chain) is not None


class IptablesCompiler:
    """Compiles to chains: container -> its rules. Implements ``passes.Compiler``."""

    version = versions.IPTABLES

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    # ------------------------------------------------------------------------------------------- from the table

    def compile(self, rules: Iterable[PortRules]) -> Program:
        """All chains that depend on Services."""
        made = _Chains(self.settings)
        for entry in rules:
            made.add(entry)
        return made.program()

    def contributors(self, containers: Iterable[str]) -> Iterable[re.Pattern[bytes]]:
        """What the line of a Service that has a frontend in one of these leaves must hold."""
        for name in containers:
            family, _table, chain = parts(name)
            leaf, ports = _ADDRESS_LEAF.match(chain), _NODE_PORT_LEAF.match(chain)
            if leaf:
                yield _addresses_ending_in(family, int(leaf.group(1), 16))
            elif ports:
                low = int(ports.group(2))
                numbers = "|".join(str(number) for number in range(low, low + PORTS_A_LEAF))
                yield re.compile(rf'"nodePort":(?:{numbers})\b'.encode())

    # ---------------------------------------------------------------------------------------- what holds it together

    def frame(self, names: Collection[str]) -> Program:
        """The chains that depend on which others there are, and the jumps into ours."""
        program: Program = {}
        for family in self.settings.view.families:
            for table in TABLES:
                chains = sorted(chain for f, t, chain in map(parts, names) if (f, t) == (family, table))
                roots = _Dispatch(family, table, program)
                for chain in chains:
                    roots.add(chain)
                dispatch = (*roots.address_roots(), *self._node_ports(family, roots.node_port_roots()))
                self._fixed(family, table, dispatch, program)
        return program

    def _node_ports(self, family: int, roots: Rules) -> Rules:
        """The rules that send what is for a node port to its tree."""
        local = "-m addrtype --dst-type LOCAL -j SERVICENET-NODEPORTS"
        if not roots:
            return ()
        cidrs = self.settings.node_port_cidrs(family)
        if cidrs:
            unserved = family == 6 or not self.settings.localhost_nodeports
            return tuple(f"-d {cidr} {local}" for cidr in cidrs if not (unserved and is_loopback(cidr)))
        if family == 6:
            return (f"! -d ::1/128 {local}",)
        return (local,) if self.settings.localhost_nodeports else (f"! -d 127.0.0.0/8 {local}",)

    def _fixed(self, family: int, table: str, dispatch: Rules, program: Program) -> None:
        def put(chain: str, *rules: str) -> None:
            program[container(family, table, chain)] = rules

        mark = self.settings.mark
        marked = f"-m mark --mark 0x{mark:x}/0x{mark:x}"
        if table == "nat":
            put("SERVICENET", *self._mark_first(family, put), *dispatch, text.clear_mark(mark))
            put(
                "SERVICENET-POSTROUTING",
                f"-m conntrack --ctstate DNAT {text.reaches_itself(family)} -j MASQUERADE --random-fully",
                f"-m mark ! --mark 0x{mark:x}/0x{mark:x} -j RETURN",
                text.clear_mark(mark),
                "-m conntrack --ctstate DNAT -j MASQUERADE --random-fully",
            )
        else:
            new = ("-m conntrack --ctstate NEW -j SERVICENET",) if dispatch else ()
            guard: Rules = ()
            if family == 4 and self.settings.serves_loopback():
                # route_localnet is on for the node ports of 127.0.0.1: nobody else may reach the node's loopback by it.
                guard = ("! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",)
            put("SERVICENET", *dispatch)
            put("SERVICENET-INPUT", *new, *guard)
            put(
                "SERVICENET-FORWARD",
                *new,
                *(("-m conntrack --ctstate INVALID -j DROP",) if self.settings.drop_invalid else ()),
                f"{marked} -j ACCEPT",
                "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            )
            put("SERVICENET-OUTPUT", *new)
        for hook, chain in HOOKS[table].items():
            put(hook, f"-j {chain}")

    def _mark_first(self, family: int, put: Callable[..., None]) -> Rules:
        """Marks what a ClusterIP wants masqueraded; what no frontend takes is unmarked behind the dispatch."""
        settings = self.settings
        mark = text.set_mark(settings.mark)
        if settings.masquerade_all:
            return (mark,)
        if not settings.detector.exists_for(family):
            return ()
        if settings.detector.interface:
            return (f"! -i {settings.detector.interface} {mark}",)
        cidrs = settings.detector.cidrs_of(family)
        if len(cidrs) == 1:
            return (f"! -s {cidrs[0]} {mark}",)
        put("SERVICENET-MARK", *(f"-s {cidr} -j RETURN" for cidr in cidrs), mark)
        return ("-j SERVICENET-MARK",)


# ------------------------------------------------------------------------------------------------- chains of Services


class _Chains:
    """Gathers the chains of service ports."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.chains: dict[str, list[str]] = {}
        # (family, table, leaf) -> address or "" -> [(protocol, port, rules)]
        self.leaves: dict[tuple[int, str, str], dict[str, list[tuple[str, int, list[str]]]]] = {}

    def program(self) -> Program:
        for (family, table, leaf), by_address in self.leaves.items():
            rules: list[str] = []
            for address in sorted(by_address):
                frontends = by_address[address]
                if len(frontends) > MOST_PORTS_INLINE and address:
                    rules.append(f"-d {text.host(address)} -g {self._by_port(family, table, address, frontends)}")
                else:
                    rules += [rule for _protocol, _port, own in frontends for rule in own]
            self.chains[container(family, table, leaf)] = rules
        return {name: tuple(rules) for name, rules in self.chains.items()}

    def add(self, entry: PortRules) -> None:
        outward = [f for f in entry.frontends if f.kind != CLUSTER_IP]
        inward = [f for f in entry.frontends if f.kind == CLUSTER_IP]
        single = not outward
        for frontend in inward:
            self._add_filter(entry, frontend, entry.internal)
            if entry.internal.verdict == BALANCE:
                self._place(entry, "nat", frontend, self._balanced(entry, frontend, entry.internal, single))
        if not outward:
            return
        for frontend in outward:
            self._add_filter(entry, frontend, entry.external)
        if entry.cluster.verdict == BALANCE:
            entrance = self._entrance(entry)
            for frontend in outward:
                target = self._ranges(entry, frontend, entrance) if frontend.source_ranges is not None else entrance
                self._place(entry, "nat", frontend, [self._match(entry, frontend) + f" -g {target}"])

    # ---- the parts

    @staticmethod
    def _match(entry: PortRules, frontend: Frontend) -> str:
        if frontend.address:
            return text.frontend(frontend.address, entry.protocol, frontend.port)
        return text.destination_port(entry.protocol, str(frontend.port))

    def _place(self, entry: PortRules, table: str, frontend: Frontend, rules: list[str]) -> None:
        if frontend.address:
            leaf = f"SERVICENET-IP-{low_byte(frontend.address):02x}"
        else:
            low = frontend.port - frontend.port % PORTS_A_LEAF
            leaf = f"SERVICENET-NP-{entry.protocol.lower()}-{low}"
        by_address = self.leaves.setdefault((entry.family, table, leaf), {})
        by_address.setdefault(frontend.address, []).append((entry.protocol, frontend.port, rules))

    def _by_port(self, family: int, table: str, address: str, frontends: list[tuple[str, int, list[str]]]) -> str:
        """A chain for an address with many frontends: by protocol and ranges of ports, each of one more chain."""
        chain = f"SERVICENET-V-{_hash(address)}"
        ranges: dict[tuple[str, int], list[str]] = {}
        for protocol, port, rules in sorted(frontends):
            ranges.setdefault((protocol, port - port % PORTS_A_LEAF), []).extend(rules)
        branches = []
        for (protocol, low), rules in ranges.items():
            branch = f"SERVICENET-V-{_hash(address, protocol, str(low))}"
            self.chains[container(family, table, branch)] = rules
            ports = f"{low}:{low + PORTS_A_LEAF - 1}"
            branches.append(f"{text.destination_port(protocol, ports)} -g {branch}")
        self.chains[container(family, table, chain)] = branches
        return chain

    def _add_filter(self, entry: PortRules, frontend: Frontend, target: Target) -> None:
        match = self._match(entry, frontend)
        if target.verdict == REJECT:
            rule = f"{match} {text.reject(entry.family)}"
        elif target.verdict == DROP or (frontend.kind == LOAD_BALANCER and frontend.source_ranges is not None):
            # Only what was not sent to a backend still has this destination here.
            rule = f"{match} -j DROP"
        else:
            return
        self._place(entry, "filter", frontend, [rule])

    def _balanced(self, entry: PortRules, frontend: Frontend, target: Target, single: bool) -> list[str]:
        """The rules of a ClusterIP's leaf: the choice itself, or the way to its chain."""
        match = self._match(entry, frontend)
        if single and len(target.backends) <= MOST_INLINE and not entry.affinity:
            targets = [text.dnat(b.address, b.port) for b in target.backends]
            return list(text.choices(match + " ", targets))
        return [f"{match} -g {self._backends(entry, target)}"]

    def _backends(self, entry: PortRules, target: Target) -> str:
        """The chain that balances over a target: its name tells the endpoints of the cluster from those of the node."""
        role = "cluster" if target == entry.cluster else "node"
        chain = f"SERVICENET-B-{_hash(entry.name, entry.protocol, role)}"
        name = container(entry.family, "nat", chain)
        if name not in self.chains:
            rules = [
                f"-p {entry.protocol.lower()} {text.remembered(entry.family, _memory(entry, b), entry.affinity)}"
                f"{text.dnat(b.address, b.port)}"
                for b in target.backends
                if entry.affinity
            ]
            self.chains[name] = rules
            rules += self._choose(entry, role, target.backends)
        return chain

    def _choose(self, entry: PortRules, role: str, backends: tuple[Backend, ...]) -> list[str]:
        if len(backends) <= CHOICES:
            targets = []
            for b in backends:
                memory = text.remember(entry.family, _memory(entry, b)) if entry.affinity else ""
                targets.append(memory + text.dnat(b.address, b.port))
            return list(text.choices(f"-p {entry.protocol.lower()} ", targets))
        size = CHOICES
        while size * CHOICES < len(backends):
            size *= CHOICES
        rules, left = [], len(backends)
        for start in range(0, len(backends), size):
            group = backends[start : start + size]
            chain = f"SERVICENET-C-{_hash(entry.name, entry.protocol, role, str(start), str(size))}"
            self.chains[container(entry.family, "nat", chain)] = self._choose(entry, f"{role}-{start}", group)
            rules.append(f"{text.share(len(group), left)}-g {chain}")
            left -= len(group)
        return rules

    def _entrance(self, entry: PortRules) -> str:
        """The chain for what comes by a node port, an external or a load balancer's address."""
        chain = f"SERVICENET-X-{_hash(entry.name, entry.protocol)}"
        to_cluster = f"-g {self._backends(entry, entry.cluster)}"
        mark = self.settings.mark
        if not entry.external_local:
            rules = [text.set_mark(mark), to_cluster]
        else:
            from_node = "-m addrtype --src-type LOCAL"
            detector = self.settings.detector
            rules = [text.clear_mark(mark)]
            rules += [f"-s {cidr} {to_cluster}" for cidr in detector.cidrs_of(entry.family)]
            if detector.interface:
                rules.append(f"-i {detector.interface} {to_cluster}")
            rules += [f"{from_node} {text.set_mark(mark)}", f"{from_node} {to_cluster}"]
            if entry.external.verdict == BALANCE:
                rules.append(f"-g {self._backends(entry, entry.external)}")
        self.chains[container(entry.family, "nat", chain)] = rules
        return chain

    def _ranges(self, entry: PortRules, frontend: Frontend, entrance: str) -> str:
        """The chain that lets the source ranges through to the entrance; the filter table drops the others."""
        chain = f"SERVICENET-F-{_hash(entry.name, entry.protocol, frontend.address)}"
        sources = list(frontend.source_ranges or ())
        if frontend.admits_own_address:
            sources.append(text.host(frontend.address))
        self.chains[container(entry.family, "nat", chain)] = [
            f"-s {source} -g {entrance}" if not source.endswith("/0") else f"-g {entrance}" for source in sources
        ]
        return chain


class _Dispatch:
    """The inner chains above the leaves that exist."""

    def __init__(self, family: int, table: str, program: Program) -> None:
        self.family, self.table, self.program = family, table, program
        self.by_nibble: dict[int, list[int]] = {}
        self.by_range: dict[tuple[str, int], list[int]] = {}

    def add(self, chain: str) -> None:
        leaf, ports = _ADDRESS_LEAF.match(chain), _NODE_PORT_LEAF.match(chain)
        if leaf:
            value = int(leaf.group(1), 16)
            self.by_nibble.setdefault(value & 15, []).append(value)
        elif ports:
            low = int(ports.group(2))
            self.by_range.setdefault((ports.group(1), low - low % PORTS_A_BRANCH), []).append(low)

    def address_roots(self) -> Rules:
        roots = []
        for nibble in sorted(self.by_nibble):
            chain = f"SERVICENET-IP-{nibble:x}"
            self.program[container(self.family, self.table, chain)] = tuple(
                f"{text.low_bits(self.family, value & 240, 240)} -g SERVICENET-IP-{value:02x}"
                for value in sorted(self.by_nibble[nibble])
            )
            # A jump, not a goto: an address that is the node's own may go on to the node ports.
            roots.append(f"{text.low_bits(self.family, nibble, 15)} -j {chain}")
        return tuple(roots)

    def node_port_roots(self) -> Rules:
        roots = []
        for (protocol, low), leaves in sorted(self.by_range.items()):
            chain = f"SERVICENET-NPS-{protocol}-{low}"
            branches = []
            for leaf in sorted(leaves):
                ports = text.destination_port(protocol, f"{leaf}:{leaf + PORTS_A_LEAF - 1}")
                branches.append(f"{ports} -g SERVICENET-NP-{protocol}-{leaf}")
            self.program[container(self.family, self.table, chain)] = tuple(branches)
            roots.append(f"{text.destination_port(protocol, f'{low}:{low + PORTS_A_BRANCH - 1}')} -g {chain}")
        if roots:
            self.program[container(self.family, self.table, "SERVICENET-NODEPORTS")] = tuple(roots)
        return tuple(roots)


@lru_cache(maxsize=100_000)
def low_byte(address: str) -> int:
    """The last 8 bits of an address: its leaf."""
    if ":" in address:
        return int(ipaddress.IPv6Address(address)) & 255
    return int(address.rsplit(".", 1)[1])


def _addresses_ending_in(family: int, value: int) -> re.Pattern[bytes]:
    """Finds a virtual IP with these last 8 bits in a Service line; endpoints are not looked at."""
    if family == 4:
        end = rf"\.{value}"
    elif value < 16:
        # The last group as it is printed, without leading zeros; the colon before it keeps IPv4 addresses out.
        end = rf":(?:{value:x}|[0-9a-f]{{1,2}}0{value:x})" if value else ":(?::|0|[0-9a-f]{1,2}00)"
    else:
        end = rf":[0-9a-f]{{0,2}}{value:02x}"
    return re.compile(rf'"(?:clusterIPs|externalIPs|ingress)":\[[^\]]*{end}"'.encode())


def _hash(*words: str) -> str:
    """Letters and digits for a chain's name, as many as one has room for: nobody shall find a Service with the same."""
    return base64.b32encode(hashlib.sha256("\0".join(words).encode()).digest())[:15].decode()


def _memory(entry: PortRules, backend: Backend) -> str:
    """The name of the list that remembers the clients of a backend of a service port."""
    return f"SERVICENET-{_hash(entry.name, entry.protocol, backend.address, str(backend.port))}"

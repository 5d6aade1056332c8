# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ipvs mode: a service table as virtual servers, real servers, addresses of the node, and entries of a few ipsets.

A container is one of each:

    4/set/INT/10.96.0.1,tcp:80            an entry of a set, see ``SETS``
    4/server/any/tcp/10.96.0.1/80         a virtual server: its scheduler and the seconds that a client is remembered
    4/real/any/tcp/10.96.0.1/80/10.128.0.1/8080    one of its real servers: its weight
    4/address/10.96.0.1                   an address that the node has to hold

The third word of a virtual server says whom it serves. ``any``: whoever sends to its address. The others are found by a
firewall mark that rules put on packets: ``outside``, where what comes from outside has other endpoints than what comes
from the node; and for node ports, which have no address of their own, ``host`` for what is masqueraded and ``pod`` for
what is not (a mark is compared as a whole, so the bit that asks for masquerading makes it another one). A server of
ours that is none of these is a ``stray``, by the number of its mark.

Which number a mark has is decided where the kernel's are known; nothing here depends on it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .ipvs_options import ServiceOptions, options_of
from .passes import Program
from .settings import Settings
from .table import BALANCE, CLUSTER_IP, DROP, REJECT, Frontend, PortRules, Target

VERSION = 1

ANY = "any"
OUTSIDE = "outside"
HOST = "host"
POD = "pod"
STRAY = "stray"
# The scheduler that sends a client to the same endpoint always, without remembering it.
BY_SOURCE = "sh"

# What an entry of a set holds besides itself: a mark, that of a server that masquerades, or nothing.
MARKED = "marked"
MASQUERADED = "marked, masqueraded"

# Sets of a family: the type of their entries and what they hold. Those of node ports (NP...) have no address.
SETS = {
    "INT": "hash:ip,port",  # the ports of ClusterIPs
    "EXT": "hash:ip,port",  # of other addresses: always masqueraded
    "SPLIT": "hash:ip,port",  # of those with policy Local: masqueraded from the node, marked from outside
    "REJECT": "hash:ip,port",
    "DROP": "hash:ip,port",
    "DROPOUT": "hash:ip,port",  # dropped if it comes from outside
    "LIMIT": "hash:ip,port",  # only for sources in ALLOW
    "ALLOW": "hash:ip,port,net",
    "NP": "hash:net,port",
    "NPOUT": "hash:net,port",  # a mark for what comes from outside
    "NPREJECT": "hash:net,port",
    "NPDROPOUT": "hash:net,port",
}
# Those of them that have the ports of all addresses of Services.
FRONTENDS = ("INT", "EXT", "SPLIT")


class IpvsOptions(NamedTuple):
    """``scheduler``: of Services that name no other. ``local_fallback``: what a policy Local would drop, since the node
    has no endpoint, goes to those of the cluster, as in kube-proxy's own ipvs mode."""

    scheduler: str = "rr"
    local_fallback: bool = False


_DEFAULTS = IpvsOptions()


def container(family: int, kind: str, *key: str) -> str:
    """The name of a container; ``kind`` is set, server, real or address."""
    return "/".join((str(family), kind, *key))


def server_content(scheduler: str, seconds: int) -> str:
    """The content of a virtual server; ``seconds``: how long a client is remembered."""
    return f"{scheduler} {seconds}"


class IpvsCompiler:
    """Compiles to servers, addresses and entries of sets. Implements ``passes.Compiler``."""

    version = VERSION

    def __init__(self, settings: Settings, options: IpvsOptions = _DEFAULTS) -> None:
        self.settings = settings
        self.options = options

    def compile(self, rules: Iterable[PortRules]) -> Program:
        """All containers that depend on Services."""
        made = _Made(self.options)
        for entry in rules:
            made.add(entry)
        return made.program

    def contributors(self, _containers: Iterable[str]) -> Iterable[bytes]:
        """None: only an address may belong to several Services, and those are found by it."""
        return ()


class _Made:
    """Gathers the containers of service ports."""

    def __init__(self, options: IpvsOptions) -> None:
        self.options = options
        self.program: Program = {}
        self.asked = ServiceOptions(options.scheduler)

    def add(self, entry: PortRules) -> None:
        cluster = entry.cluster
        self.asked = options_of(entry.service, dict(entry.annotations), self.options.scheduler)
        internal, external = self._wanted(entry.internal, cluster), self._wanted(entry.external, cluster)
        for frontend in entry.frontends:
            if not frontend.address:
                self._node_port(entry, frontend, external)
                continue
            self.program[container(entry.family, "address", frontend.address)] = True
            if frontend.kind == CLUSTER_IP:
                self._put(entry, "INT", frontend)
                self._serve(entry, frontend, ANY, internal)
            elif not entry.external_local:
                self._put(entry, "EXT", frontend)
                self._serve(entry, frontend, ANY, external)
            else:
                self._split(entry, frontend, external)
            if frontend.source_ranges is not None:
                self._limit(entry, frontend, frontend.source_ranges)

    def _wanted(self, target: Target, cluster: Target) -> Target:
        return cluster if target.verdict == DROP and self.options.local_fallback else target

    # ---- the kinds of frontends

    def _split(self, entry: PortRules, frontend: Frontend, outside: Target) -> None:
        """An address of a Service with externalTrafficPolicy Local."""
        self._serve(entry, frontend, ANY, entry.cluster)
        apart = outside.verdict == BALANCE and outside != entry.cluster
        self._put(entry, "SPLIT", frontend, MARKED if apart else "")
        if apart:
            self._server(entry, frontend, OUTSIDE, outside)
        elif outside.verdict == DROP:
            self._put(entry, "DROPOUT", frontend)

    def _node_port(self, entry: PortRules, frontend: Frontend, outside: Target) -> None:
        if entry.cluster.verdict == REJECT:
            self._put(entry, "NPREJECT", frontend)
            return
        self._server(entry, frontend, HOST, entry.cluster)
        if not entry.external_local:
            self._put(entry, "NP", frontend, MASQUERADED)
            return
        self._server(entry, frontend, POD, entry.cluster)
        self._put(entry, "NP", frontend, MARKED)
        if outside.verdict == DROP:
            self._put(entry, "NPDROPOUT", frontend)
        elif outside != entry.cluster:
            self._server(entry, frontend, OUTSIDE, outside)
            self._put(entry, "NPOUT", frontend, MARKED)

    # ---- the parts

    def _put(self, entry: PortRules, name: str, frontend: Frontend, content: str = "") -> None:
        self.program[container(entry.family, "set", name, _place(entry, frontend))] = content

    def _serve(self, entry: PortRules, frontend: Frontend, role: str, target: Target) -> None:
        if target.verdict == BALANCE:
            self._server(entry, frontend, role, target)
        else:
            self._put(entry, "REJECT" if target.verdict == REJECT else "DROP", frontend)

    def _server(self, entry: PortRules, frontend: Frontend, role: str, target: Target) -> None:
        key = (role, entry.protocol.lower(), frontend.address or "-", str(frontend.port))
        content = server_content(self.asked.scheduler, entry.affinity)
        if role != ANY and entry.affinity:
            # Where the kernel remembers the client of a marked server, it does not translate the port.
            content = server_content(BY_SOURCE, 0)
        self.program[container(entry.family, "server", *key)] = content
        for backend in target.backends:
            name = container(entry.family, "real", *key, backend.address, str(backend.port))
            self.program[name] = self.asked.weight(backend)

    def _limit(self, entry: PortRules, frontend: Frontend, ranges: tuple[str, ...]) -> None:
        self._put(entry, "LIMIT", frontend)
        own = (frontend.address,) if frontend.admits_own_address else ()
        for source in (*own, *(half for cidr in ranges for half in _halves(cidr))):
            name = container(entry.family, "set", "ALLOW", f"{_place(entry, frontend)},{source}")
            self.program[name] = ""


def _place(entry: PortRules, frontend: Frontend) -> str:
    port = f"{entry.protocol.lower()}:{frontend.port}"
    return f"{frontend.address},{port}" if frontend.address else port


def _halves(cidr: str) -> tuple[str, ...]:
    """A CIDR as ipset lists it. It has none of length 0, but two of length 1 are the same; and an address has no
    length."""
    address, _slash, length = cidr.partition("/")
    if length == "0":
        return ("::/1", "8000::/1") if ":" in address else ("0.0.0.0/1", "128.0.0.0/1")
    return (address,) if length in ("", "128" if ":" in address else "32") else (cidr,)

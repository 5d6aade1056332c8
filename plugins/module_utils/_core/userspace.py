# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The userspace mode: every backend set of a service port is held by a proxy on a port of the node, and the rules of
the nftables mode send packets there instead of to endpoints.

So frontends, classes of sources, source ranges and refusals are those of the nftables mode; what is added is a chain
that drops what reaches a proxy's port without having been captured. The proxy's half of a program:

    ``proxy/4/tcp/cluster/shop/web:http``   the blocks of one proxy in the configuration of nginx
    ``reserved/23456``                      its port, kept from the ephemeral range
    ``nginx/head``, ``nginx/live``          limits and defaults; that the node's nginx has loaded all of it

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Callable, Iterable

from . import text_nftables as text
from . import text_nginx
from .nftables import Chain, NftablesCompiler, container
from .passes import Program
from .settings import Settings
from .table import BALANCE, DROP, REJECT, Backend, PortRules, Target
from .text_nginx import PROXY, RESERVED, ProxyOptions

VERSION = 1
# What nginx can relay; a frontend of another protocol is refused, unless a policy drops what comes there.
PROTOCOLS = ("TCP", "UDP")
_COLLECTIONS = {**text.COLLECTIONS, "proxy_port": text.Collection("inet_proto . inet_service")}
_REJECTED = Target(REJECT, ())

PortOf = Callable[[str], int]


class UserspaceCompiler(NftablesCompiler):
    """Compiles to elements, and to proxies. Implements ``passes.Compiler``.

    :param port_of: the port of a backend set by its key; the same for the same key throughout.
    """

    version = VERSION
    collections = _COLLECTIONS
    # Packets end on the node.
    masquerades = False

    def __init__(self, settings: Settings, options: ProxyOptions, port_of: PortOf) -> None:
        super().__init__(settings)
        self.options, self._port_of = options, port_of

    @property
    def mark(self) -> str:
        """Tells our tables from those of the nftables mode, which have the same names."""
        return f"userspace {self.version}"

    def compile(self, rules: Iterable[PortRules]) -> Program:
        """All elements and proxies."""
        rules = list(rules)
        program = super().compile(self.tracked(rules))
        for entry in rules:
            for key, target in self._sets(entry):
                port = self._port_of(key)
                sticky = bool(entry.affinity)
                block = text_nginx.proxy(key, entry.family, entry.protocol, port, target, sticky, self.options)
                program[PROXY + key] = block
                program[f"{RESERVED}{port}"] = "reserved"
                guarded = f"{text.NUMBERS[entry.protocol]} . {port}"
                program[container(entry.family, "proxy_port", guarded)] = guarded
        return program

    def contributors(self, containers: Iterable[str]) -> Iterable[bytes]:
        """A proxy belongs to one Service alone."""
        return super().contributors(name for name in containers if name[0] in "46")

    def tracked(self, rules: Iterable[PortRules]) -> list[PortRules]:
        """The rules with the proxies as their only backends, as packets and connection tracking see them."""
        return [self._captured(entry) for entry in rules]

    def _captured(self, entry: PortRules) -> PortRules:
        internal, cluster, external = (
            self._proxied(entry, target) for target in (entry.internal, entry.cluster, entry.external)
        )
        reachable = tuple(sorted({*internal.backends, *cluster.backends, *external.backends}))
        return entry._replace(affinity=0, internal=internal, cluster=cluster, external=external, reachable=reachable)

    def _proxied(self, entry: PortRules, target: Target) -> Target:
        if target.verdict == DROP:
            return target
        address = self._address(entry.family)
        if entry.protocol not in PROTOCOLS or not address:
            return _REJECTED
        if target.verdict != BALANCE and not (target.verdict == REJECT and self.options.accept_without_endpoints):
            return target
        return Target(BALANCE, (Backend(address, self._port_of(_key(entry, target)), False),))

    def _address(self, family: int) -> str:
        """Where the rules send packets: an address of the node, since a redirection fails on a link without one."""
        return next((a for a in self.settings.view.node_ips if (":" in a) == (family == 6)), "")

    def _sets(self, entry: PortRules) -> list[tuple[str, Target]]:
        """The backend sets of a service port that some packet goes to, each with its key."""
        captured = self._captured(entry)
        outward = any(f.address == "" or f.kind != "cluster_ip" for f in entry.frontends)
        used = [(entry.internal, captured.internal)]
        if outward:
            used += [(entry.cluster, captured.cluster), (entry.external, captured.external)]
        return list({_key(entry, was): was for was, now in used if now.verdict == BALANCE}.items())

    def chains(self, family: int) -> dict[str, Chain]:
        """Those of the nftables mode, without masquerading and memory, since the proxy is the client of the endpoints
        and remembers them itself; and the one that guards the proxies' ports."""
        chains = super().chains(family)
        for name in ("postrouting", "learn_postrouting", "learn_input"):
            del chains[name]
        return {
            **chains,
            "guard_input": Chain(
                "type filter hook input priority -5;",
                ("meta l4proto . th dport @proxy_port ct status & dnat != dnat drop",),
            ),
        }


def _key(entry: PortRules, target: Target) -> str:
    role = "cluster" if target == entry.cluster else "node"
    return f"{entry.family}/{entry.protocol.lower()}/{role}/{entry.name}"

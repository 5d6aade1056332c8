# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight works on: facts of a node, options, and its report.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
from typing import AbstractSet, Iterable, Iterator, NamedTuple

from .preflight_routes import Route
from .table import NODE_PORT, PortRules

NAMES_SHOWN = 3


class Interface(NamedTuple):
    """A network device. ``kind`` is the kernel's ("" for hardware); ``ports``: other devices are attached to it.

    ``addresses`` with their prefix length, as "198.18.0.1/24".
    """

    name: str
    kind: str
    up: bool
    ports: bool
    addresses: tuple[str, ...]


class Listener(NamedTuple):
    """A socket that waits on a node port; ``owner`` is "name (process N)", or "" if it can't be told."""

    protocol: str
    address: str
    port: int
    owner: str


class NodeFacts(NamedTuple):
    """What preflight knows of a node.

    ``routes``: family -> routes. ``sysctls``: name with slashes -> value, without those that the kernel hasn't got.
    ``read_only``: settings that this process may not change. ``kube_proxy``, ``forward_drops``: what was found, each as
    a noun phrase. ``missing_features``: what the kernel or the tool lacks. ``tool_problems``: sentences. ``kernel``:
    the first two numbers of its version.
    """

    interfaces: tuple[Interface, ...]
    routes: dict[int, tuple[Route, ...]]
    listeners: tuple[Listener, ...]
    sysctls: dict[str, str]
    read_only: frozenset[str]
    cpus: int
    kube_proxy: tuple[str, ...]
    forward_drops: tuple[str, ...]
    missing_features: tuple[str, ...]
    tool_problems: tuple[str, ...]
    kernel: tuple[int, int] = (0, 0)


class PreflightOptions(NamedTuple):
    """What is wanted.

    The ``conntrack_`` options have the meaning and the defaults of kube-proxy's; 0 leaves the kernel's value. Other
    than there, the size is only ever raised.

    The ``ipvs_`` options are for the mode ipvs; its timeouts are in seconds, and 0 leaves the kernel's.

    :param mode: ``iptables``, ``nftables``, ``ipvs`` or ``userspace``.
    :param set_sysctls: settings are changed; otherwise each wrong one is a warning.
    :param localhost_nodeports: node ports answer on 127.0.0.1.
    :param accepts_forwarding: the mode's own rules accept forwarded Service traffic in the FORWARD chain.
    """

    mode: str
    families: tuple[int, ...] = (4, 6)
    set_sysctls: bool = True
    beside_kube_proxy: bool = False
    localhost_nodeports: bool = False
    accepts_forwarding: bool = False
    bridge_interface: str = ""
    pod_cidrs: tuple[str, ...] = ()
    conntrack_max_per_core: int = 32768
    conntrack_min: int = 131072
    conntrack_tcp_established_timeout: int = 86400
    conntrack_tcp_close_wait_timeout: int = 3600
    conntrack_tcp_be_liberal: bool = False
    conntrack_udp_timeout: int = 0
    conntrack_udp_stream_timeout: int = 0
    ipvs_strict_arp: bool = False
    ipvs_tcp_timeout: int = 0
    ipvs_tcpfin_timeout: int = 0
    ipvs_udp_timeout: int = 0


class SysctlChange(NamedTuple):
    """A setting to change, in the order of the report. ``old`` is "" if the kernel hasn't loaded it yet."""

    name: str
    old: str
    new: str


class Report(NamedTuple):
    """``errors`` and ``warnings`` are sentences that say what to do; ``changes`` are to be made before the rules."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    changes: tuple[SysctlChange, ...]


def listed(names: Iterable[str]) -> str:
    """ "a, b, c and 17 more", each name once."""
    distinct = sorted(set(names))
    if len(distinct) <= NAMES_SHOWN:
        return ", ".join(distinct)
    return f"{', '.join(distinct[:NAMES_SHOWN])} and {len(distinct) - NAMES_SHOWN} more"


def services(names: Iterable[str]) -> str:
    """The same with the word Service before it."""
    distinct = set(names)
    return f"Service{'s' if len(distinct) > 1 else ''} {listed(distinct)}"


def node_ports(rules: Iterable[PortRules]) -> frozenset[tuple[str, int]]:
    """(protocol, port) of every node port."""
    return frozenset(
        (rule.protocol, frontend.port) for rule in rules for frontend in rule.frontends if frontend.kind == NODE_PORT
    )


def with_node_ports(rules: Iterable[PortRules], ports: AbstractSet[tuple[str, int]]) -> Iterator[str]:
    """The Services that have one of these node ports."""
    return (rule.service for rule in rules if not ports.isdisjoint(node_ports([rule])))


def pod_bridges(facts: NodeFacts, options: PreflightOptions) -> list[str]:
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in options.pod_cidrs]
    return [
        interface.name
        for interface in facts.interfaces
        if interface.kind == "bridge"
        and interface.ports
        and (
            interface.name == options.bridge_interface
            or any(ipaddress.ip_interface(address).ip in net for address in interface.addresses for net in networks)
        )
    ]

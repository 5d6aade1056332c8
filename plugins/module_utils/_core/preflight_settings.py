# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kernel settings a node needs for its Services.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

from .preflight_model import NodeFacts, PreflightOptions, listed, node_ports, pod_bridges, services, with_node_ports
from .table import PortRules

IP_FORWARD = "net/ipv4/ip_forward"
IP6_FORWARD = "net/ipv6/conf/all/forwarding"
PORT_RANGE = "net/ipv4/ip_local_port_range"
RESERVED_PORTS = "net/ipv4/ip_local_reserved_ports"
ROUTE_LOCALNET = "net/ipv4/conf/all/route_localnet"
BRIDGE_CALLS = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}

CONNTRACK = "net/netfilter/nf_conntrack_"
CONNTRACK_MAX = CONNTRACK + "max"
CONNTRACK_COUNT = CONNTRACK + "count"
CONNTRACK_BUCKETS = CONNTRACK + "buckets"
NOT_KEPT = "Connection tracking doesn't keep entries as long as wanted"
ENTRIES_PER_BUCKET = 4

VS = "net/ipv4/vs/"
VS_CONNTRACK = VS + "conntrack"
VS_CONN_REUSE = VS + "conn_reuse_mode"
VS_NO_DESTINATION = VS + "expire_nodest_conn"
VS_TEMPLATE = VS + "expire_quiescent_template"
# Kernels that let a connection from a port that was just in use wait for a second if they choose its endpoint anew.
SLOW_REUSE = ((4, 1), (5, 9))
ARP_IGNORE = "net/ipv4/conf/all/arp_ignore"
ARP_ANNOUNCE = "net/ipv4/conf/all/arp_announce"
IPVS_TIMEOUTS = ("tcp", "tcpfin", "udp")

FROM_ROUTER_ADVERTISEMENT = 9

# What is read of a node; the settings of single devices come on top.
ALL = (
    IP_FORWARD,
    IP6_FORWARD,
    PORT_RANGE,
    RESERVED_PORTS,
    ROUTE_LOCALNET,
    *BRIDGE_CALLS.values(),
    "net/ipv4/conf/all/rp_filter",
    CONNTRACK_MAX,
    CONNTRACK_COUNT,
    CONNTRACK_BUCKETS,
    CONNTRACK + "tcp_timeout_established",
    CONNTRACK + "tcp_timeout_close_wait",
    CONNTRACK + "udp_timeout",
    CONNTRACK + "udp_timeout_stream",
    CONNTRACK + "tcp_be_liberal",
)
# What is read besides for the mode ipvs.
IPVS = (
    VS_CONNTRACK,
    VS_CONN_REUSE,
    VS_NO_DESTINATION,
    VS_TEMPLATE,
    ARP_IGNORE,
    ARP_ANNOUNCE,
    *(f"ipvs/{name}" for name in IPVS_TIMEOUTS),
)


class Wish(NamedTuple):
    """A setting that should have a value; ``why`` is the beginning of a sentence that ends in "set it"."""

    name: str
    value: str
    why: str


def wishes(facts: NodeFacts, rules: Sequence[PortRules], options: PreflightOptions) -> list[Wish]:
    """The settings that the Services need, in the order in which they have to be made; most of them stand already."""
    return [
        *_forwarding(facts, options),
        *_bridge_calls(facts, options),
        *_reserved(facts, rules),
        *_conntrack(facts, options),
        *(_ipvs(facts, options) if options.mode == "ipvs" else ()),
    ]


def _forwarding(facts: NodeFacts, options: PreflightOptions) -> list[Wish]:
    """In userspace mode the node itself talks to the endpoints, so nothing has to be forwarded."""
    wishes: list[Wish] = []
    if options.mode != "userspace":
        if 4 in options.families and IP_FORWARD in facts.sysctls:
            wishes.append(Wish(IP_FORWARD, "1", "This node doesn't forward IPv4, so Pods don't reach Services"))
        if 6 in options.families and facts.sysctls.get(IP6_FORWARD, "1") != "1":
            wishes += _keep_default_route(facts)
            wishes.append(Wish(IP6_FORWARD, "1", "This node doesn't forward IPv6, so Pods don't reach Services"))
    if options.localhost_nodeports and 4 in options.families and ROUTE_LOCALNET in facts.sysctls:
        wishes.append(Wish(ROUTE_LOCALNET, "1", "Node ports can't be reached at 127.0.0.1"))
    return wishes


def _keep_default_route(facts: NodeFacts) -> list[Wish]:
    """A node that forwards ignores router advertisements, and loses the route they gave it, unless accept_ra is 2."""
    learned = {route.interface for route in facts.routes.get(6, ()) if route.protocol == FROM_ROUTER_ADVERTISEMENT}
    return [
        Wish(
            f"net/ipv6/conf/{name}/accept_ra",
            "2",
            f"{name} has its IPv6 default route from router advertisements, and would lose it once the node forwards",
        )
        for name in sorted(learned)
        if facts.sysctls.get(f"net/ipv6/conf/{name}/accept_ra") == "1"
    ]


def _bridge_calls(facts: NodeFacts, options: PreflightOptions) -> list[Wish]:
    bridges = pod_bridges(facts, options)
    why = f"Answers between Pods at the bridge {listed(bridges)} pass by the rules"
    return [
        Wish(BRIDGE_CALLS[family], "1", why)
        for family in options.families
        if bridges and BRIDGE_CALLS[family] in facts.sysctls
    ]


def parse_ports(text: str) -> set[int]:
    """The ports in a list such as "80,100-102", as the kernel prints it."""
    found: set[int] = set()
    for part in text.split(","):
        first, _dash, last = part.strip().partition("-")
        if first.isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def format_ports(ports: Iterable[int]) -> str:
    """The shortest such list."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and runs[-1][1] == port - 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _reserved(facts: NodeFacts, rules: Sequence[PortRules]) -> list[Wish]:
    """A node port must not become the own port of a client on the node: its answers would go to the Service."""
    bounds = facts.sysctls.get(PORT_RANGE, "").split()
    if len(bounds) != 2:
        return []
    low, high = int(bounds[0]), int(bounds[1])
    inside = {(protocol, port) for protocol, port in node_ports(rules) if low <= port <= high}
    if not inside:
        return []
    reserved = parse_ports(facts.sysctls.get(RESERVED_PORTS, ""))
    missing = frozenset((protocol, port) for protocol, port in inside if port not in reserved)
    if not missing:
        return []
    why = (
        f"Node ports of {services(with_node_ports(rules, missing))} ({listed(str(port) for _p, port in missing)}) lie"
        f" in the range {low}-{high} from which this node takes the ports of its own connections"
    )
    return [Wish(RESERVED_PORTS, format_ports(reserved | {port for _protocol, port in missing}), why)]


def _conntrack(facts: NodeFacts, options: PreflightOptions) -> list[Wish]:
    found: list[Wish] = []
    per_core = options.conntrack_max_per_core
    size = max(per_core * facts.cpus, options.conntrack_min) if per_core else 0
    if int(facts.sysctls.get(CONNTRACK_MAX, size)) < size:
        found.append(Wish(CONNTRACK_MAX, str(size), "Connection tracking has too little room"))
        buckets = size // ENTRIES_PER_BUCKET
        if int(facts.sysctls.get(CONNTRACK_BUCKETS, buckets)) < buckets:
            found.append(Wish(CONNTRACK_BUCKETS, str(buckets), "Connection tracking has too few buckets to be quick"))
    for leaf, value, why in (
        ("tcp_timeout_established", options.conntrack_tcp_established_timeout, NOT_KEPT),
        ("tcp_timeout_close_wait", options.conntrack_tcp_close_wait_timeout, NOT_KEPT),
        ("udp_timeout", options.conntrack_udp_timeout, NOT_KEPT),
        ("udp_timeout_stream", options.conntrack_udp_stream_timeout, NOT_KEPT),
        ("tcp_be_liberal", int(options.conntrack_tcp_be_liberal), "Packets out of the TCP window count as invalid"),
    ):
        name = f"{CONNTRACK}{leaf}"
        # Before connection tracking is loaded it has no settings; after that, a missing one is not supported.
        if value and (name in facts.sysctls or CONNTRACK_MAX not in facts.sysctls):
            found.append(Wish(name, str(value), why))
    return found


def _ipvs(facts: NodeFacts, options: PreflightOptions) -> list[Wish]:
    """The settings that kube-proxy makes in this mode. IPVS that is not loaded yet has none; the run loads it."""
    found = [
        Wish(VS_CONNTRACK, "1", "What IPVS forwards is not tracked, so it is not masqueraded"),
        Wish(VS_NO_DESTINATION, "1", "Connections to endpoints that are gone hang until they time out"),
        Wish(VS_TEMPLATE, "1", "Clients with affinity go on to an endpoint that drains"),
    ]
    if SLOW_REUSE[0] <= facts.kernel < SLOW_REUSE[1]:
        found.append(Wish(VS_CONN_REUSE, "0", "New connections from a port that was just in use wait for a second"))
    if options.ipvs_strict_arp:
        why = "The node answers for the addresses of Services on every network"
        found += [Wish(ARP_IGNORE, "1", why), Wish(ARP_ANNOUNCE, "2", why)]
    for name in IPVS_TIMEOUTS:
        seconds = getattr(options, f"ipvs_{name}_timeout")
        if seconds:
            found.append(Wish(f"ipvs/{name}", str(seconds), "IPVS has another timeout than wanted"))
    return found

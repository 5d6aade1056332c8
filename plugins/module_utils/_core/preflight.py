# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a node for the Services that are to be programmed on it, and which kernel settings put it right.

Facts of the node and the service table go in, sentences and settings come out. Services are only looked at one by one
where a problem was found; until then sets are compared.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Sequence

from .preflight_model import (
    NodeFacts,
    PreflightOptions,
    Report,
    SysctlChange,
    listed,
    node_ports,
    pod_bridges,
    services,
    with_node_ports,
)
from .preflight_routes import unroutable
from .preflight_settings import BRIDGE_CALLS, CONNTRACK_COUNT, CONNTRACK_MAX, wishes
from .table import CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER, PortRules

OUR_DEVICES = "servicenet"
# These hold addresses of Services on purpose: NodeLocal DNSCache that of the cluster's DNS, kube-proxy's ipvs mode all.
HOLDERS = ("nodelocaldns", "kube-ipvs0")
KIND_NAMES = {CLUSTER_IP: "ClusterIP", LOAD_BALANCER: "LoadBalancer IP", EXTERNAL_IP: "external IP"}

CONNTRACK_FULL_PERCENT = 90
FORWARD_CHAIN = "chain FORWARD of "
STRICT_RP_FILTER = "1"


def problems(facts: NodeFacts, rules: Sequence[PortRules], options: PreflightOptions) -> Report:
    """Everything that is wrong with the node for these rules."""
    errors = list(facts.tool_problems)
    warnings: list[str] = []
    if facts.kube_proxy and not options.beside_kube_proxy:
        errors.append(
            f"kube-proxy is at work on this node, or left its rules ({listed(facts.kube_proxy)}): stop it and run"
            " kube-proxy --cleanup, have what it left removed with remove_kube_proxy, or allow to stand beside it with"
            " beside_kube_proxy."
        )
    if facts.missing_features:
        errors.append(
            f"The kernel or the tool lacks {listed(facts.missing_features)}, which the mode {options.mode} needs: load"
            " or install the modules (on some distributions they are in a package of extra kernel modules), or choose"
            " another mode."
        )
    warnings += _own_addresses(facts, rules)
    warnings += _taken_ports(facts, rules, options)
    warnings += _no_routes(facts, rules, options)
    warnings += _forwarding_dropped(facts, options)
    warnings += _bridges(facts, options)
    warnings += _reverse_path(facts)
    warnings += _full_table(facts)
    changes: list[SysctlChange] = []
    for wish in wishes(facts, rules, options):
        if facts.sysctls.get(wish.name) == wish.value:
            continue
        if options.set_sysctls and wish.name not in facts.read_only:
            changes.append(SysctlChange(wish.name, facts.sysctls.get(wish.name, ""), wish.value))
        else:
            reason = "it can't be set from here" if options.set_sysctls else "set_sysctls is off"
            warnings.append(f"{wish.why}: set {wish.name} to {wish.value} ({reason}).")
    return Report(tuple(errors), tuple(warnings), tuple(changes))


# ---- addresses and ports that are taken


def _own_addresses(facts: NodeFacts, rules: Sequence[PortRules]) -> list[str]:
    held = {
        address.partition("/")[0]: interface.name
        for interface in facts.interfaces
        if not interface.name.startswith(OUR_DEVICES) and interface.name not in HOLDERS
        for address in interface.addresses
    }
    used = {frontend.address for rule in rules for frontend in rule.frontends}
    found: list[str] = []
    for address in sorted(used & held.keys()):
        users = [(rule.service, one.kind) for rule in rules for one in rule.frontends if one.address == address]
        found.append(
            f"The {listed(KIND_NAMES[kind] for _service, kind in users)} {address} of"
            f" {services(service for service, _kind in users)} is also an address of this node ({held[address]}), whose"
            " own programs are no longer reached at the ports of the Service: give one of the two another address."
        )
    return found


def _taken_ports(facts: NodeFacts, rules: Sequence[PortRules], options: PreflightOptions) -> list[str]:
    wanted = node_ports(rules)
    found: dict[tuple[str, int], set[str]] = {}
    for listener in facts.listeners:
        loopback = listener.address.startswith("127.") or listener.address == "::1"
        by_kube_proxy = options.beside_kube_proxy and listener.owner.startswith("kube-proxy ")
        taken = (listener.protocol, listener.port) in wanted and not by_kube_proxy
        if taken and (options.localhost_nodeports or not loopback):
            found.setdefault((listener.protocol, listener.port), set()).add(listener.owner or "a process")
    sentences: list[str] = []
    for (protocol, port), holders in sorted(found.items()):
        sentences.append(
            f"The node port {port}/{protocol} of {services(with_node_ports(rules, {(protocol, port)}))} is in use by"
            f" {listed(holders)}, which no longer gets what arrives there: end it, or choose another node port."
        )
    return sentences


# ---- routes and forwarding


def _no_routes(facts: NodeFacts, rules: Sequence[PortRules], options: PreflightOptions) -> list[str]:
    found: list[str] = []
    for family in options.families:
        routes = facts.routes.get(family, ())
        mine = [rule for rule in rules if rule.family == family]
        lost = unroutable(routes, {one.address for rule in mine for one in rule.frontends if one.address}, family)
        if lost and options.mode != "ipvs":  # which makes them addresses of the node
            users = (rule.service for rule in mine if any(one.address in lost for one in rule.frontends))
            found.append(
                f"No route leads to {listed(lost)} of {services(users)}, so this node fails to connect before any rule"
                " is asked: add a default route, or one for the range of the Services to any device."
            )
        pods = unroutable(routes, {one.address for rule in mine for one in rule.reachable}, family)
        if pods:
            users = (rule.service for rule in mine if any(one.address in pods for one in rule.reachable))
            found.append(
                f"No route leads to {listed(pods)}, endpoints of {services(users)}: set up the Pod network on this"
                " node, or add a route for its range."
            )
    return found


def _forwarding_dropped(facts: NodeFacts, options: PreflightOptions) -> list[str]:
    # What is accepted in the chain FORWARD is still dropped by the chain of another table.
    drops = [one for one in facts.forward_drops if not (options.accepts_forwarding and one.startswith(FORWARD_CHAIN))]
    if not drops or options.mode == "userspace":
        return []
    sentence = (
        f"Forwarded packets that no rule accepts are dropped ({listed(drops)}), as Docker and firewalld"
        " set it up: accept those from and to the Pod network there, or put its devices into firewalld's trusted zone."
    )
    return [sentence]


def _bridges(facts: NodeFacts, options: PreflightOptions) -> list[str]:
    bridges = pod_bridges(facts, options)
    if not bridges or all(name in facts.sysctls for name in BRIDGE_CALLS.values()):
        return []
    sentence = (
        f"Pods are attached to the bridge {listed(bridges)}, but br_netfilter is not loaded, so what they answer each"
        " other passes by the rules: run modprobe br_netfilter, and name it in /etc/modules-load.d."
    )
    return [sentence]


def _reverse_path(facts: NodeFacts) -> list[str]:
    """Strict reverse path filtering only hurts where a packet can come back another way: with several uplinks."""
    uplinks = [
        interface.name
        for interface in facts.interfaces
        if interface.up
        and interface.kind in ("", "bond", "team", "vlan")
        and interface.name != "lo"
        and any("." in address and not address.startswith("169.254.") for address in interface.addresses)
    ]
    everywhere = facts.sysctls.get("net/ipv4/conf/all/rp_filter", "0")
    strict = [
        name
        for name in uplinks
        if max(everywhere, facts.sysctls.get(f"net/ipv4/conf/{name}/rp_filter", "0")) == STRICT_RP_FILTER
    ]
    if len(uplinks) < 2 or not strict:
        return []
    sentence = (
        f"This node has several uplinks and filters strictly by the reverse path on {listed(strict)}: a client whose"
        " way back leads through another one doesn't reach Services. Set net/ipv4/conf/DEVICE/rp_filter to 2 there."
    )
    return [sentence]


# ---- connection tracking


def _full_table(facts: NodeFacts) -> list[str]:
    size, count = (int(facts.sysctls.get(name, "0")) for name in (CONNTRACK_MAX, CONNTRACK_COUNT))
    if not size or count * 100 < size * CONNTRACK_FULL_PERCENT:
        return []
    sentence = (
        f"Connection tracking is nearly full ({count} of {size} entries), and when it is, new connections are dropped:"
        " raise conntrack_max_per_core or conntrack_min."
    )
    return [sentence]

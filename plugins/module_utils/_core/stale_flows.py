# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which UDP flows of connection tracking have to be forgotten, since they lead where the service table no longer does.

NAT rules see only the first packet of a flow; connection tracking repeats their choice for all later ones. A TCP client
notices that its peer is gone and connects again. A UDP client that keeps sending keeps its flow alive, and its packets
go to a dead endpoint for as long as it does. So after new rules are in force, what ``stale`` returns is deleted.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import AbstractSet, Container, Iterable, Mapping, NamedTuple, Tuple

from .table import NODE_PORT, PortRules

Endpoint = Tuple[str, int]
ANY_ADDRESS = ""
DEFAULT_ZONE = 0


class Flow(NamedTuple):
    """A UDP flow: where the client (``orig_src``) sent its packets, and who answers them (``reply_src``).

    Addresses are canonical text. ``zone`` is the conntrack zone, 0 unless another program divides the table.
    """

    orig_src: str
    orig_sport: int
    orig_dst: str
    orig_dport: int
    reply_src: str
    reply_sport: int
    zone: int


class UdpFrontends(NamedTuple):
    """``frontends``: (address, port) -> its current backends; ``node_ports``: the same for a port of the node."""

    frontends: dict[Endpoint, frozenset[Endpoint]]
    node_ports: dict[int, frozenset[Endpoint]]


def udp_frontends(rules: Iterable[PortRules], family: int) -> UdpFrontends:
    """The UDP frontends of one family and all backends that flows to them may point at, from whatever source."""
    found = UdpFrontends({}, {})
    nothing: frozenset[Endpoint] = frozenset()
    for rule in rules:
        if rule.protocol != "UDP" or rule.family != family:
            continue
        backends = frozenset((backend.address, backend.port) for backend in rule.reachable)
        for frontend in rule.frontends:
            if frontend.kind == NODE_PORT:
                found.node_ports[frontend.port] = found.node_ports.get(frontend.port, nothing) | backends
            else:
                key = (frontend.address, frontend.port)
                found.frontends[key] = found.frontends.get(key, nothing) | backends
    return found


def stale(
    flows: Iterable[Flow],
    frontends: Mapping[Endpoint, frozenset[Endpoint]],
    node_ports: Mapping[int, frozenset[Endpoint]],
    node_addresses: Container[str],
    gone_frontends: AbstractSet[Endpoint] = frozenset(),
    gone_node_ports: AbstractSet[int] = frozenset(),
) -> list[Flow]:
    """The flows to delete, in the order they come.

    A flow is ours if the client sent it to a frontend, or to a node port at an address of this node
    (``node_addresses``; the same port of another machine is none of our business). Then:

    * Who answers is a current backend: it stays. Backends are compared with their port. A backend with the address
      ``ANY_ADDRESS`` stands for this port at any address (a proxy on the node).
    * Who answers is somebody else: it goes. That holds as well if the frontend has no backends now.
    * The address that the client sent to answers itself, so the flow was never translated: it began before the
      frontend existed, and would pass by the Service for ever. It goes, so that the next packet meets the rules,
      whether they balance, reject or drop. But it stays in a zone that another program set up: there, one packet may
      pass several zones, and only one of them translates.

    Frontends that were ours and no longer are (``gone_...``) count as having no backends, with one difference: a flow
    that was never translated is not ours, for the address may be that of a real machine or of a process on this node.
    """
    found: list[Flow] = []
    for flow in flows:
        source, port = flow.orig_dst, flow.orig_dport
        backends = frontends.get((source, port))
        if backends is None and port in node_ports and source in node_addresses:
            backends = node_ports[port]
        answers = (flow.reply_src, flow.reply_sport)
        untranslated = answers == (source, port)
        if backends is not None:
            if answers in backends or (ANY_ADDRESS, flow.reply_sport) in backends:
                continue
            if not untranslated or flow.zone == DEFAULT_ZONE:
                found.append(flow)
        elif not untranslated and (
            (source, port) in gone_frontends or (port in gone_node_ports and source in node_addresses)
        ):
            found.append(flow)
    return found

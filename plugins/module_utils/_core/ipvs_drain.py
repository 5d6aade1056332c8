# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Graceful termination in the ipvs mode: what becomes of real servers that nobody wants any more.

A real server of TCP first gets the weight 0: it has its connections still and takes no new one. It goes when it has
none left, or when a limit is over. UDP and SCTP are not waited for, as in kube-proxy. A virtual server that nobody
wants goes with the last of its real servers. A real server of ours with the weight 0 is always one that drains, since
no wanted one has it.

Other than in kube-proxy, a real server without connections gets the weight 0 first as well: between looking and
deleting there may come one, and it would be cut. Who wants it gone in the same run reads again and decides again.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import AbstractSet, Any, Dict, NamedTuple

from .ipvs_objects import Operation, Real, Server, Virtual

NOTHING: frozenset[Server] = frozenset()


class Draining(NamedTuple):
    """A real server of a virtual server that drains."""

    server: Server
    address: str
    port: int


# Who drains since when, in seconds of a clock that starts with the kernel and never goes back.
Since = Dict[Draining, int]


class Decision(NamedTuple):
    """``operations`` in their order, [] if there is nothing to do. ``since``: what to remember for the next time.
    ``staying``: virtual servers that nobody wants and that stay for their connections."""

    operations: list[Operation]
    since: Since
    staying: frozenset[Server]


def decide(
    held: Mapping[Server, Virtual],
    wanted: Mapping[Server, AbstractSet[tuple[str, int]]],
    since: Mapping[Draining, int],
    now: int,
    limit: int,
    at_once: AbstractSet[Server] = NOTHING,
) -> Decision:
    """What to do about real and virtual servers that nobody wants; wanted ones are left alone.

    :param held: our virtual servers in the kernel, and no others, with the connections of their real servers.
    :param wanted: the virtual servers that stay, each with the (address, port) of its real servers.
    :param since: what the last decision returned.
    :param now: the time, in the clock of ``since``.
    :param limit: seconds after which connections are cut; 0 waits for none.
    :param at_once: virtual servers with a mark that are not of TCP. A mark does not tell the protocol, so all others
        are taken for TCP.
    """
    made = _Made(since, now, limit)
    for server in sorted(held):
        keep = wanted.get(server)
        leaving = [real for real in sorted(held[server].reals) if keep is None or real[:2] not in keep]
        immediately = limit <= 0 or server.protocol in ("UDP", "SCTP") or server in at_once
        gone = [real for real in leaving if made.leave(server, real, immediately)]
        if keep is None and len(gone) == len(leaving):
            made.servers.append(Operation("delete", server))  # takes its real servers along
        else:
            made.reals += [Operation("delete", server, real=Real(real.address, real.port, 0)) for real in gone]
            if keep is None:
                made.staying.add(server)
    return Decision([*made.drained, *made.reals, *made.servers], made.remembered, frozenset(made.staying))


class _Made:
    """Gathers a decision."""

    def __init__(self, since: Mapping[Draining, int], now: int, limit: int) -> None:
        self.since, self.time, self.limit = since, now, limit
        self.drained: list[Operation] = []
        self.reals: list[Operation] = []
        self.servers: list[Operation] = []
        self.remembered: Since = {}
        self.staying: set[Server] = set()

    def leave(self, server: Server, real: Real, immediately: bool) -> bool:
        """Is the real server to go now?"""
        if immediately:
            return True
        key = Draining(server, real.address, real.port)
        if real.weight:
            self.drained.append(Operation("edit", server, real=Real(real.address, real.port, 0)))
            self.remembered[key] = self.time
            return False
        # One that is not remembered was left by a run that was killed: its time begins now.
        begin = min(self.since.get(key, self.time), self.time)
        if not real.active + real.inactive or self.time - begin >= self.limit:
            return True
        self.remembered[key] = begin
        return False


def revived(operations: Iterable[Operation], held: Mapping[Server, Virtual]) -> list[Operation]:
    """The operations, with "edit" in the place of "add" for what the kernel holds already: an endpoint or a Service
    that comes back while it drains keeps its connections."""
    return [_onto(operation, held) if operation.verb == "add" else operation for operation in operations]


def _onto(operation: Operation, held: Mapping[Server, Virtual]) -> Operation:
    virtual = held.get(operation.server)
    if virtual is None:
        return operation
    real = operation.real
    there = real is None or any(one[:2] == real[:2] for one in virtual.reals)
    return operation._replace(verb="edit") if there else operation


def releasable(addresses: Iterable[str], staying: AbstractSet[Server]) -> list[str]:
    """Those of the addresses that no staying virtual server needs any more; sorted.

    A mark does not tell an address, so while such a server stays, all addresses of its family do.
    """
    families = {server.family for server in staying if server.mark}
    needed = {server.address for server in staying}
    return sorted(
        address for address in addresses if address not in needed and (6 if ":" in address else 4) not in families
    )


# ---- as plain data, for a state file


def dumped(since: Mapping[Draining, int]) -> list[list[Any]]:
    """What ``loaded`` reads again: a row for each, sorted."""
    return [[*key.server, key.address, key.port, begin] for key, begin in sorted(since.items())]


def loaded(rows: object) -> Since:
    """What was dumped; {} if it was not."""
    found: Since = {}
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, list) or [type(value) for value in row] != [int, str, str, int, int, str, int, int]:
            return {}
        found[Draining(Server(*row[:5]), row[5], row[6])] = row[7]
    return found

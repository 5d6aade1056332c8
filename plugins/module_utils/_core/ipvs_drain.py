# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Graceful termination in the ipvs mode: what becomes of real servers that nobody wants any more.

A real server of TCP first gets the weight 0: it has its connections still and takes no new one. It goes when it has
none left, or when a limit is over. UDP and SCTP are not waited for, as in kube-proxy. A virtual server that nobody
wants stays as long as one of its real servers does, without session affinity, and so does its address. A real server of
ours with the weight 0 is always one that drains, since no wanted one has it.

One without connections goes in the same run, but other than in kube-proxy it gets the weight 0 first and is looked at
again: a connection may have come since, and would be cut.

Since when one drains is a container as well, for it has to be remembered:

    4/drain/TCP/10.96.0.1/80/0x0/10.128.0.1/8080    seconds of a clock that starts with the kernel and never goes back

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from .ipvs import FRONTENDS, server_content
from .ipvs_objects import Real, Server, Virtual
from .passes import Changes, Program


class Limit(NamedTuple):
    """``time``: that of the clock; ``seconds``: how long connections may go on, 0 waits for none."""

    time: int
    seconds: int


def drain_name(server: Server, real: Real) -> str:
    """The container that says since when a real server drains."""
    key = (server.family, "drain", server.protocol, server.address, server.port, hex(server.mark))
    return "/".join(map(str, (*key, real.address, real.port)))


def graceful(changes: Changes, held: Mapping[str, tuple[Server, Virtual]], since: Program, limit: Limit) -> Changes:
    """The changes without those that would cut connections, and with the weight 0 in their place.

    :param changes: all changes, as if nobody had connections.
    :param held: the containers of our virtual servers, each with what the kernel holds there.
    :param since: the containers of those that drain, as remembered.
    """
    # A full pass wants nothing of what is remembered, which is decided here.
    made = {name: change for name, change in changes.items() if "/drain/" not in name}
    draining: Program = {}
    staying: list[str] = []
    for container, (server, virtual) in held.items():
        stays = False
        for name, real in _reals(container, virtual):
            if name not in changes or changes[name][1] is not None:
                continue
            key = drain_name(server, real)
            begin = limit.time if real.weight else min(since.get(key, limit.time), limit.time)
            if not (_drains(container, limit) and real.active + real.inactive and limit.time - begin < limit.seconds):
                continue
            draining[key], stays = begin, True
            if real.weight:
                made[name] = (real.weight, 0)
            else:
                del made[name]
        if stays and container in changes and changes[container][1] is None:
            del made[container]
            staying.append(container)
            if virtual.persistent:
                # A client that it remembers would be let in anew.
                made[container] = (changes[container][0], server_content(virtual.scheduler, 0))
    for name in [name for name in made if "/address/" in name and made[name][1] is None]:
        if needed_by(name, staying):
            del made[name]
    for name in {**since, **draining}:
        if since.get(name) != draining.get(name):
            made[name] = (since.get(name), draining.get(name))
    return made


def _reals(container: str, virtual: Virtual) -> Iterator[tuple[str, Real]]:
    """The containers of the real servers of a virtual server."""
    family, _server, rest = container.split("/", 2)
    return ((f"{family}/real/{rest}/{real.address}/{real.port}", real) for real in virtual.reals)


def _drains(container: str, limit: Limit) -> bool:
    """Are connections to servers of this kind waited for?"""
    return container.split("/")[3] == "tcp" and limit.seconds > 0


def retiring(changes: Changes, limit: Limit) -> frozenset[str]:
    """The containers of servers that go only if they still have no connection when it is their turn.

    A real server that takes no new connections can just go.
    """
    return frozenset(
        name
        for name, (old, new) in changes.items()
        if new is None and name.split("/")[1] in ("server", "real") and old and _drains(name, limit)
    )


def needed_by(name: str, staying: Collection[str]) -> bool:
    """Do these virtual servers need a container as long as they stay? What says that they are ours, and addresses.

    A mark does not tell an address; where nothing else does, all addresses of the family stay. Whatever else is sent to
    them would reach the node's own servers, so the filter stays and refuses it, with the sets that it names.
    """
    family, kind, *key = name.split("/")
    if kind == "device":
        return bool(staying)
    of_family = [server.split("/")[4] for server in staying if server.split("/")[0] == family]
    if kind == "address":
        return key[0] in of_family or "-" in of_family
    if kind == "sets" or (kind == "chain" and key[0] == "filter"):
        return bool(of_family)
    return name in staying


def lingering(program: Program) -> Program:
    """What of a program only drains, or may be there for what drains: nothing of it is drift."""
    weights: dict[str, list[int]] = {}
    for name, content in program.items():
        family, kind, *key = name.split("/")
        if kind == "real":
            weights.setdefault("/".join((family, "server", *key[:4])), []).append(content)
    servers = {name for name, found in weights.items() if not any(found)}
    kinds = {"drain"}
    if any(0 in found for found in weights.values()):
        kinds.add("address")
    return {
        name: content
        for name, content in program.items()
        if name in servers or name.split("/")[1] in kinds or ("/real/" in name and content == 0)
    }


def with_leftovers(changes: Changes, program: Program) -> Changes:
    """The changes, with those that take away what drains: a pass that looks at some Services only does not see it.

    :param program: what the node holds.
    """
    candidates = {name: content for name, content in lingering(program).items() if name not in changes}
    if not candidates:
        return changes
    after = {**program, **{name: new for name, (_old, new) in changes.items()}}
    wanted: set[str] = set()
    for name, content in after.items():
        family, kind, *key = name.split("/")
        if kind == "real" and content:
            wanted.add("/".join((family, "server", *key[:4])))
        elif kind == "set" and key[0] in FRONTENDS and content is not None:
            wanted.add(f"{family}/address/{key[1].split(',')[0]}")
    gone = [name for name in candidates if name not in wanted and "/drain/" not in name]
    return {**changes, **{name: (program[name], None) for name in gone}}

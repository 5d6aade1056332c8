# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Virtual servers and real servers, as the kernel holds them, and changes to them.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Server(NamedTuple):
    """The key of a virtual server: an address and port; or a firewall mark, and then all but the family is empty."""

    family: int
    protocol: str = ""
    address: str = ""
    port: int = 0
    mark: int = 0


class Real(NamedTuple):
    """A real server; ``active`` and ``inactive`` are its connections."""

    address: str
    port: int
    weight: int = 1
    active: int = 0
    inactive: int = 0


class Virtual(NamedTuple):
    """A virtual server as the kernel holds it. ``persistent``: seconds that a client is remembered, 0 is not at all."""

    scheduler: str
    persistent: int
    reals: tuple[Real, ...] = ()


# To delete what has no connections, see ``_node/ipvs_retire``.
RETIRE = "retire"


class Operation(NamedTuple):
    """One change. ``verb`` is add, edit, delete or RETIRE; with ``real`` it is about a real server of ``server``."""

    verb: str
    server: Server
    scheduler: str = ""
    persistent: int = 0
    real: Real | None = None

    @property
    def about(self) -> tuple[Server, tuple[str, int] | None]:
        """The virtual server, or its real server, that it changes."""
        return self.server, None if self.real is None else (self.real.address, self.real.port)


def line(operation: Operation) -> str:
    """An operation as a line of text."""
    return json.dumps(operation)


def operation(text: str) -> Operation:
    """The operation that ``line`` wrote."""
    verb, server, scheduler, persistent, real = json.loads(text)
    return Operation(verb, Server(*server), scheduler, persistent, None if real is None else Real(*real))


def taken_back(lines: Sequence[str], undo: Sequence[str], done: Iterable[Operation] | None = None) -> list[Operation]:
    """The operations that take back lines of a step.

    :param undo: its lines that do so, in the opposite order.
    :param done: what of the lines was done, None for all. Nothing else may be taken back: what was refused may be
        somebody else's.
    """
    about = None if done is None else {one.about for one in done}
    found = []
    for forth, back in zip(map(operation, reversed(lines)), map(operation, undo)):
        if about is None or forth.about in about:
            found.append(back)
            if forth.verb == RETIRE:  # it may have stayed, with another weight
                found.append(back._replace(verb="edit"))
    return found

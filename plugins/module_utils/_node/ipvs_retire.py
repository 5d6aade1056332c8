# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations of IPVS with one that the kernel does not have: to retire.

A real server that retires gets the weight 0 and goes if it has no connection then; else it stays with that weight. A
virtual server that retires goes if it has no real server any more. So no connection is cut that came after one looked.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._core.ipvs_objects import RETIRE, Operation, Real, Server
from .ipvs import OperationError


class Kernel(Protocol):
    """What ``ipvs.Ipvs`` does."""

    def apply(self, operations: Sequence[Operation]) -> None:
        """Does the operations in their order."""

    def reals(self, server: Server) -> list[Real]:
        """The real servers of a virtual server."""


def carry_out(ipvs: Kernel, operations: Sequence[Operation]) -> list[Server]:
    """Does the operations; those that retire come last -> the virtual servers that did not go.

    :raises OperationError: as ``Ipvs.apply``.
    """
    done: list[Operation] = []

    def apply(some: Sequence[Operation]) -> None:
        try:
            ipvs.apply(some)
        except OperationError as error:
            error.done = (*done, *error.done)
            raise
        done.extend(some)

    apply([one for one in operations if one.verb != RETIRE])
    retiring = [one for one in operations if one.verb == RETIRE]
    reals = [one for one in retiring if one.real is not None]
    apply([one._replace(verb="edit") for one in reals])
    idle = {
        (server, real[:2])
        for server in sorted({one.server for one in reals})
        for real in ipvs.reals(server)
        if not real.active + real.inactive
    }
    gone = [one for one in reals if one.real is not None and (one.server, one.real[:2]) in idle]
    apply([one._replace(verb="delete") for one in gone])
    servers = [one for one in retiring if one.real is None]
    staying = [one.server for one in servers if ipvs.reals(one.server)]
    apply([one._replace(verb="delete") for one in servers if one.server not in staying])
    return staying

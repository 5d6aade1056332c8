# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node really does with a frontend, read back from its rules: the same for every mode.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .table import ServiceTable


class LiveFrontend(NamedTuple):
    """A frontend in force. ``address`` is "" for a node port. ``backends``: (address, port) of every backend that some
    packet may be sent to, whatever its source. ``refused``: ``reject`` or ``drop`` for what is sent to none, or ""."""

    family: int
    address: str
    protocol: str
    port: int
    backends: tuple[tuple[str, int], ...]
    refused: str


def named(found: Iterable[LiveFrontend], table: ServiceTable) -> list[dict[str, Any]]:
    """The frontends as plain data, sorted, with the service port that has each by the table ("" if none has)."""
    owners = {
        (entry.family, frontend.address, entry.protocol, frontend.port): entry.name
        for entry in table.rules
        for frontend in entry.frontends
    }
    return [
        {
            "service": owners.get((live.family, live.address, live.protocol, live.port), ""),
            "address": live.address or "node port",
            "port": live.port,
            "protocol": live.protocol.lower(),
            "ip_family": f"ipv{live.family}",
            "backends": [{"address": address, "port": port} for address, port in live.backends],
            "refused": live.refused,
        }
        for live in sorted(found)
    ]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in force on a node, as far as its small server needs it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import json
from typing import NamedTuple

from .._core import snapshot as snapshots
from .._core.errors import ServicenetError
from .._core.resolve import resolve
from .._core.table import DROP, HealthCheck
from .._modes import MAKERS
from .._node import addresses, files
from .._options import completed
from .._services import last_run, settings


class Applied(NamedTuple):
    """``health_checks`` by port. ``cidrs``: where they are served, () everywhere. ``leaving``: the own Node is about
    to go. ``undeliverable``: service ports with endpoints, none of them local, by traffic policy."""

    mode: str = ""
    health_checks: tuple[HealthCheck, ...] = ()
    cidrs: tuple[str, ...] = ()
    leaving: bool = False
    internal_undeliverable: int = 0
    external_undeliverable: int = 0


def stamp(state_dir: str) -> tuple[tuple[int, int], ...]:
    """Differs whenever another state may be in force."""
    names = (f"{state_dir}/{name}.{suffix}" for name in MAKERS for suffix in ("json", "jsonl.gz"))
    return tuple(map(files.stamp, names))


def load(state_dir: str) -> Applied:
    """The state in force; an empty one if there is none, or none that can be read."""
    name, record = last_run(state_dir, list(MAKERS))
    if not name:
        return Applied()
    try:
        snapshot = snapshots.load(files.read_bytes(f"{state_dir}/{name}.jsonl.gz") or b"")
        made = settings(completed(record["options"]), snapshot)
        table = resolve(snapshot.services()[0], made.view)
        node = snapshot.node(made.view.name)
    except (ServicenetError, json.JSONDecodeError):
        return Applied()
    return Applied(
        name,
        table.health_checks,
        made.nodeport_addresses,
        node is not None and node.leaving,
        sum(rules.internal.verdict == DROP for rules in table.rules),
        sum(rules.external.verdict == DROP for rules in table.rules),
    )


def hosts(cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses of this node in these CIDRs; ("",) for all of them if there are no CIDRs."""
    if not cidrs:
        return ("",)
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    found = {
        text.partition("/")[0]
        for device in addresses.interfaces()
        for text in device.addresses
        if any(ipaddress.ip_address(text.partition("/")[0]) in network for network in networks)
    }
    return tuple(sorted(found))

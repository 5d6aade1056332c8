# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has connection tracking forget the UDP flows that lead where no rule does any more.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time

from .._core import stale_flows
from .._core.table import ServiceTable
from . import addresses, conntrack

# How long endpoints that are gone have to answer the datagrams that they were sent before.
ANSWER_SECONDS = 0.1


def forget(before: ServiceTable, after: ServiceTable) -> None:
    """One pass over the flows, whatever changed.

    :raises NetlinkError: the kernel does not let its flows be seen.
    """
    stale: list[stale_flows.Flow] = []
    here = {text.split("/")[0] for device in addresses.interfaces() for text in device.addresses}
    for family in (4, 6):
        old, now = (stale_flows.udp_frontends(table.rules, family) for table in (before, after))
        if any((old.frontends, old.node_ports, now.frontends, now.node_ports)):
            gone = old.frontends.keys() - now.frontends.keys()
            gone_ports = old.node_ports.keys() - now.node_ports.keys()
            flows = conntrack.udp_flows(family)
            stale += stale_flows.stale(flows, now.frontends, now.node_ports, here, gone, gone_ports)
    if stale:
        # An answer that is on its way needs its flow to find the client.
        time.sleep(ANSWER_SECONDS)
        conntrack.delete(stale)

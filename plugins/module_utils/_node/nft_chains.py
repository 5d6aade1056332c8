# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which chains a table of nftables has: asked one by one, since a list would be of all chains of all programs.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import socket
from typing import Iterable

from .._core.errors import NetlinkError
from .netlink import NETLINK_NETFILTER, Netlink, attribute, nfgenmsg

NFT_MSG_GETCHAIN = (10 << 8) | 4
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME = 1, 3
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def existing(family: int, table: str, chains: Iterable[str]) -> set[str]:
    """Those of these chains that are there; none of them if the kernel doesn't say."""
    names = list(chains)
    if not names:
        return set()
    head = nfgenmsg(FAMILIES[family]) + attribute(NFTA_CHAIN_TABLE, table.encode() + b"\0")
    bodies = [head + attribute(NFTA_CHAIN_NAME, name.encode() + b"\0") for name in names]
    try:
        with Netlink(NETLINK_NETFILTER, "tell which chains there are") as netlink:
            codes = netlink.each(NFT_MSG_GETCHAIN, bodies)
    except NetlinkError:
        return set()
    return {name for name, code in zip(names, codes) if code == 0}

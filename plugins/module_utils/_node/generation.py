# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The token that tells whether anybody changed nftables since a run: while it stands, nothing has to be listed.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from .._core.errors import NetlinkError
from .files import read_bytes
from .netlink import NETLINK_NETFILTER, Netlink, attributes, nfgenmsg

NFT_MSG_GETGEN = (10 << 8) | 16
NFTA_GEN_ID = 1
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NO_NFTABLES = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EPERM)


def nf_tables_generation() -> int | None:
    """The generation of nftables in this network namespace: every commit of any program moves it, also iptables-nft's.

    None if the kernel has no nftables, or doesn't say. iptables-legacy does not move it.

    :raises NetlinkError: the kernel failed in a way that is no plain "not here".
    """
    try:
        with Netlink(NETLINK_NETFILTER, "tell the generation of nftables") as netlink:
            answer = netlink.ask(NFT_MSG_GETGEN, nfgenmsg(socket.AF_UNSPEC))
    except NetlinkError as error:
        if error.code in NO_NFTABLES:
            return None
        raise
    value = attributes(answer, 4).get(NFTA_GEN_ID)
    return int(struct.unpack(">I", value)[0]) if value is not None and len(value) == 4 else None


def boot_id() -> str:
    """The identity of this boot of the kernel, or an empty string."""
    return (read_bytes(BOOT_ID) or b"").decode("ascii", "replace").strip()


def token() -> str:
    """Boot, network namespace and generation in one string to compare with the one of the last run.

    An empty string if the kernel doesn't tell: it never proves anything, so the caller has to read back. The number of
    a namespace's inode is used again after its end, so the kernel's cookie of the namespace stands beside it.
    """
    generation = nf_tables_generation()
    if generation is None:
        return ""
    with Netlink(NETLINK_NETFILTER, "tell the network namespace") as netlink:
        cookie = netlink.cookie()
    return f"{token_of_boot()}{os.stat('/proc/self/ns/net').st_ino}.{cookie}:{generation}"


def token_of_boot() -> str:
    """What stands in the place of a token where the kernel tells none: it equals none that it ever tells."""
    return f"{boot_id()}:"


def is_of_this_boot(text: str) -> bool:
    """Was this token told by the kernel that runs now?"""
    return text.startswith(token_of_boot())

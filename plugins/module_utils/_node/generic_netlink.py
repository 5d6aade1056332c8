# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generic netlink: the families of the kernel that have their number only while it runs, by their name.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import struct

from .netlink import Netlink, attribute, attributes

NETLINK_GENERIC = 16
GENL_ID_CTRL = 0x10
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2

HEADER = struct.Struct("=BBH")
FAMILY_ID = struct.Struct("=H")


def request(command: int, version: int, body: bytes = b"") -> bytes:
    """The body of a message: its command, and its attributes."""
    return HEADER.pack(command, version, 0) + body


def answered(data: bytes) -> dict[int, bytes]:
    """The attributes of an answer."""
    return attributes(data, HEADER.size)


def family(netlink: Netlink, name: str) -> int:
    """The number of a family, which is the type of its messages.

    :raises NetlinkError: the kernel has none of that name (``code`` is ENOENT).
    """
    wanted = attribute(CTRL_ATTR_FAMILY_NAME, name.encode() + b"\0")
    answer = answered(netlink.ask(GENL_ID_CTRL, request(CTRL_CMD_GETFAMILY, 1, wanted)))
    return int(FAMILY_ID.unpack(answer[CTRL_ATTR_FAMILY_ID])[0])

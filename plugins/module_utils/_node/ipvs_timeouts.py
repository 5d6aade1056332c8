# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timeouts of IPVS, which are no sysctls but are treated like them: read and set by name, in seconds.

``ipvs/tcp`` is for TCP connections, ``ipvs/tcpfin`` for those that were closed on one side, ``ipvs/udp`` for UDP. They
belong to the network namespace.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import os
import struct

from .._core.errors import NetlinkError, ServicenetError
from . import generic_netlink as generic
from .netlink import Netlink, attribute

FAMILY_NAME = "IPVS"
FAMILY_VERSION = 1
SET_CONFIG, GET_CONFIG = 12, 13
# The name -> the attribute that holds it.
NAMES = {"ipvs/tcp": 4, "ipvs/tcpfin": 5, "ipvs/udp": 6}
SECONDS = struct.Struct("=I")


def read(name: str) -> str | None:
    """The value, or None if the kernel has no IPVS."""
    try:
        with Netlink(generic.NETLINK_GENERIC, "tell the timeouts of IPVS") as netlink:
            kind = generic.family(netlink, FAMILY_NAME)
            held = generic.answered(netlink.ask(kind, generic.request(GET_CONFIG, FAMILY_VERSION)))
    except NetlinkError as error:
        if error.code == errno.ENOENT:
            return None
        raise
    return str(SECONDS.unpack(held[NAMES[name]])[0])


def write(name: str, value: str) -> None:
    """:raises ServicenetError: the kernel has no IPVS or doesn't take the value."""
    wanted = attribute(NAMES[name], SECONDS.pack(int(value)))
    try:
        with Netlink(generic.NETLINK_GENERIC, f"set {name}") as netlink:
            kind = generic.family(netlink, FAMILY_NAME)
            (code,) = netlink.each(kind, [generic.request(SET_CONFIG, FAMILY_VERSION, wanted)])
    except NetlinkError as error:
        code = error.code
    if code:
        raise ServicenetError(f"The timeout {name} can't be set to {value} seconds: {_meaning(code)}.")


def _meaning(code: int) -> str:
    return "IPVS is not loaded" if code == errno.ENOENT else os.strerror(code)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses of Services on this node: on a dummy device of ours, or on the loopback where the kernel has none.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import Iterable, Sequence

from .._core.errors import NetlinkError
from . import addresses
from .netlink import NETLINK_ROUTE, NLM_F_ACK, NLM_F_REQUEST, Netlink, attribute, nested, refused

DEVICE = "servicenet0"
LOOPBACK = "lo"
KIND = b"dummy"

NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_NEWADDR = 20
RTM_DELADDR = 21
IFLA_IFNAME = 3
IFLA_LINKINFO = 18
IFLA_INFO_KIND = 1
IFF_UP = 1
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_CACHEINFO = 6
IFA_F_NODAD = 0x02
# So the node takes none of them as the source of what it sends elsewhere; IPv6 has them not preferred instead.
SCOPE_HOST = 254
CACHEINFO = struct.Struct("=IIII")
FOR_EVER = 0xFFFFFFFF
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
BATCH = 200
NO_DUMMY = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


def make_device() -> str:
    """The device that holds the addresses, made and up; the loopback if the kernel has no dummy devices.

    :raises NetlinkError: the kernel refused for another reason.
    """
    name = attribute(IFLA_IFNAME, DEVICE.encode() + b"\0")
    kind = nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, KIND))
    body = LINK.pack(socket.AF_UNSPEC, 0, 0, IFF_UP, IFF_UP) + name + kind
    with Netlink(NETLINK_ROUTE, f"make the device {DEVICE}") as netlink:
        (code,) = netlink.each(RTM_NEWLINK, [body], NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    if code in NO_DUMMY:
        return LOOPBACK
    if code not in (0, errno.EEXIST):
        raise refused(f"make the device {DEVICE}", code)
    return DEVICE


def has_device() -> bool:
    """Is our device there?"""
    return any(interface.name == DEVICE for interface in addresses.interfaces())


def remove_device() -> None:
    """Takes the device away with all its addresses; none is there is fine."""
    body = LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(IFLA_IFNAME, DEVICE.encode() + b"\0")
    with Netlink(NETLINK_ROUTE, f"remove the device {DEVICE}") as netlink:
        (code,) = netlink.each(RTM_DELLINK, [body])
    if code not in (0, errno.ENODEV):
        raise refused(f"remove the device {DEVICE}", code)


def held() -> dict[str, str]:
    """Address -> the device of this node that holds it, ours if several do."""
    found: dict[str, str] = {}
    for interface in addresses.interfaces():
        for text in interface.addresses:
            if found.get(text.split("/")[0]) != DEVICE:
                found[text.split("/")[0]] = interface.name
    return found


def add(device: str, wanted: Iterable[str]) -> None:
    """Puts addresses on the device; one that is there is fine."""
    _change(RTM_NEWADDR, device, list(wanted), (0, errno.EEXIST))


def remove(device: str, wanted: Iterable[str]) -> None:
    """Takes addresses from the device; one that is not there is fine."""
    _change(RTM_DELADDR, device, list(wanted), (0, errno.EADDRNOTAVAIL))


def _change(request: int, device: str, wanted: Sequence[str], fine: tuple[int, ...]) -> None:
    if not wanted:
        return
    index = socket.if_nametoindex(device)
    verb = "add to" if request == RTM_NEWADDR else "remove from"
    flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_CREATE | NLM_F_EXCL if request == RTM_NEWADDR else 0)
    with Netlink(NETLINK_ROUTE, f"change the addresses of {device}") as netlink:
        for first in range(0, len(wanted), BATCH):
            part = wanted[first : first + BATCH]
            codes = netlink.each(request, [_body(address, index) for address in part], flags)
            for address, code in zip(part, codes):
                if code not in fine:
                    raise NetlinkError(f"{verb} {device} the address {address}", code, str(refused("", code)))


def _body(address: str, index: int) -> bytes:
    parsed = ipaddress.ip_address(address)
    packed = attribute(IFA_LOCAL, parsed.packed) + attribute(IFA_ADDRESS, parsed.packed)
    if parsed.version == 4:
        return ADDRESS.pack(socket.AF_INET, 32, 0, SCOPE_HOST, index) + packed
    lifetime = attribute(IFA_CACHEINFO, CACHEINFO.pack(0, FOR_EVER, 0, 0))
    return ADDRESS.pack(socket.AF_INET6, 128, IFA_F_NODAD, 0, index) + packed + lifetime

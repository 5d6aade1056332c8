# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices, addresses and routes of this network namespace, through netlink.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from .._core.errors import ServicenetError
from .._core.preflight_model import Interface
from .._core.preflight_routes import Route
from .files import read_bytes
from .netlink import NETLINK_ROUTE, Netlink, attributes

IPV6_ADDRESSES = "/proc/net/if_inet6"

RTM_GETLINK = 18
RTM_GETADDR = 22
RTM_GETROUTE = 26

IFLA_IFNAME = 3
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_INFO_KIND = 1
IFF_UP = 1

IFA_ADDRESS = 1
IFA_LOCAL = 2

RTA_DST = 1
RTA_OIF = 4
RTM_F_CLONED = 0x200

LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
ROUTE = struct.Struct("=BBBBBBBBI")
INDEX = struct.Struct("=I")

FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}


class _Link(NamedTuple):
    name: str
    kind: str
    up: bool
    master: int


def _links(netlink: Netlink) -> dict[int, _Link]:
    links: dict[int, _Link] = {}
    for data, start, end in netlink.dump(RTM_GETLINK, LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        _family, _type, index, flags, _change = LINK.unpack_from(data, start)
        found = attributes(data, start + LINK.size, end)
        name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        kind = (
            attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
        )
        master = INDEX.unpack(found[IFLA_MASTER])[0] if IFLA_MASTER in found else 0
        links[index] = _Link(name, kind, bool(flags & IFF_UP), master)
    return links


def has_ipv6() -> bool:
    """Does the kernel have IPv6 at all? It may be built or booted without."""
    return read_bytes(IPV6_ADDRESSES) is not None


def interfaces() -> tuple[Interface, ...]:
    """All devices with their addresses (canonical text, with the prefix length), sorted by name.

    :raises NetlinkError: the kernel doesn't tell.
    """
    with Netlink(NETLINK_ROUTE, "list the devices and addresses") as netlink:
        links = _links(netlink)
        addresses: dict[int, list[str]] = {index: [] for index in links}
        for data, start, end in netlink.dump(RTM_GETADDR, ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            family, prefix, _flags, _scope, index = ADDRESS.unpack_from(data, start)
            found = attributes(data, start + ADDRESS.size, end)
            # On a point-to-point device IFA_ADDRESS is the other end.
            packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
            if family in FAMILIES and packed is not None:
                addresses.setdefault(index, []).append(f"{ipaddress.ip_address(packed)}/{prefix}")
    masters = {link.master for link in links.values()}
    return tuple(
        sorted(
            Interface(link.name, link.kind, link.up, index in masters, tuple(sorted(addresses[index])))
            for index, link in links.items()
        )
    )


def source_towards(destination: str, port: int) -> str:
    """The address that a process of this node has where it talks to another; nothing is sent.

    :raises ServicenetError: the node has no way there.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((destination, port))
        except OSError as error:
            raise ServicenetError(f"This node has no route to {destination}: {error.strerror}.") from error
        return str(asking.getsockname()[0])


def routes(family: int) -> tuple[Route, ...]:
    """The routes of all tables of a family; the kernel's cache is left out.

    :raises NetlinkError: the kernel doesn't tell.
    """
    af = socket.AF_INET if family == 4 else socket.AF_INET6
    size = 4 if family == 4 else 16
    found: list[Route] = []
    with Netlink(NETLINK_ROUTE, "list the routes") as netlink:
        names = {index: link.name for index, link in _links(netlink).items()}
        for data, start, end in netlink.dump(RTM_GETROUTE, ROUTE.pack(af, 0, 0, 0, 0, 0, 0, 0, 0)):
            one, length, _src, _tos, _table, protocol, _scope, kind, flags = ROUTE.unpack_from(data, start)
            if one != af or flags & RTM_F_CLONED:
                continue
            more = attributes(data, start + ROUTE.size, end)
            packed = more.get(RTA_DST, bytes(size))
            device = names.get(INDEX.unpack(more[RTA_OIF])[0], "") if RTA_OIF in more else ""
            found.append(Route(int.from_bytes(packed, "big"), length, kind, protocol, device))
    return tuple(found)

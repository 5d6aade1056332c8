# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets of this network namespace: those that wait for packets, with the processes that hold them, and connections.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Collection, Container, Iterable, NamedTuple, Sequence

from .._core.errors import NetlinkError
from .files import read_bytes
from .netlink import NETLINK_SOCK_DIAG, Netlink
from .processes import command, open_files, processes

SOCK_DIAG_BY_FAMILY = 20
REQUEST = struct.Struct("=BBBxI48x")
# Of the answer: port and address of this end; further on the inode.
OWN_END = struct.Struct(">4xHxx16s")
INODE = struct.Struct("=68xI")


class _Kind(NamedTuple):
    """One kind of sockets. ``waiting``: the state in which they wait. TCP listens, UDP is not connected."""

    protocol: str
    table: str
    family: int
    number: int
    waiting: int


# TCP's states in which two ends are there: all but TIME_WAIT, CLOSE and LISTEN, see tcp_states.h.
CONNECTED = (1, 2, 3, 4, 5, 8, 9, 11)
EVERY_STATE = range(1, 13)

KINDS = (
    _Kind("TCP", "tcp", socket.AF_INET, socket.IPPROTO_TCP, 10),
    _Kind("TCP", "tcp6", socket.AF_INET6, socket.IPPROTO_TCP, 10),
    _Kind("UDP", "udp", socket.AF_INET, socket.IPPROTO_UDP, 7),
    _Kind("UDP", "udp6", socket.AF_INET6, socket.IPPROTO_UDP, 7),
)


class Socket(NamedTuple):
    """``protocol`` TCP or UDP; ``address`` is canonical text, ``::`` and ``0.0.0.0`` mean any."""

    protocol: str
    address: str
    port: int
    inode: int


def sockets(wanted: Collection[tuple[str, int]]) -> list[Socket]:
    """The waiting sockets among ``wanted`` (protocol, port) pairs."""
    found: list[Socket] = []
    for kind in KINDS:
        if any(protocol == kind.protocol for protocol, _port in wanted):
            found += [one for one in _listed(kind, (kind.waiting,)) if (one.protocol, one.port) in wanted]
    return found


def with_ports(wanted: Container[int]) -> list[Socket]:
    """All sockets that have one of these ports. Nobody can wait where one is connected, or was until a minute ago."""
    return [one for kind in KINDS for one in _listed(kind, EVERY_STATE) if one.port in wanted]


def connections() -> set[int]:
    """The inodes of the TCP sockets that have another end, or are about to."""
    return {one.inode for kind in KINDS if kind.protocol == "TCP" for one in _listed(kind, CONNECTED)}


def _listed(kind: _Kind, states: Sequence[int]) -> list[Socket]:
    """The sockets in these states, from whichever of the two the kernel has."""
    try:
        return _ask(kind, states)
    except NetlinkError:
        return _read(kind, states)


def _ask(kind: _Kind, states: Sequence[int]) -> list[Socket]:
    """Through netlink the kernel looks at the sockets in these states only, however many others there are."""
    found: list[Socket] = []
    size = 4 if kind.family == socket.AF_INET else 16
    with Netlink(NETLINK_SOCK_DIAG, "list the sockets that wait") as netlink:
        request = REQUEST.pack(kind.family, kind.number, 0, sum(1 << state for state in states))
        for data, start, _end in netlink.dump(SOCK_DIAG_BY_FAMILY, request):
            port, packed = OWN_END.unpack_from(data, start)
            address = str(ipaddress.ip_address(packed[:size]))
            found.append(Socket(kind.protocol, address, port, INODE.unpack_from(data, start)[0]))
    return found


def _read(kind: _Kind, states: Sequence[int]) -> list[Socket]:
    """The same from the tables that every kernel has."""
    found: list[Socket] = []
    text = (read_bytes(f"/proc/thread-self/net/{kind.table}") or b"").decode("ascii", "replace")
    for line in text.split("\n")[1:]:
        fields = line.split(None, 10)
        if len(fields) >= 10 and int(fields[3], 16) in states:
            address, _colon, port = fields[1].partition(":")
            found.append(Socket(kind.protocol, _address(address), int(port, 16), int(fields[9])))
    return found


def _address(text: str) -> str:
    """The tables show addresses as 32-bit words in the order of the host."""
    words = [struct.pack("=I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def owners(inodes: Iterable[int]) -> dict[int, str]:
    """Socket inode -> "name (process N)" of one process that holds it; those that can't be found are left out.

    Looks at every open file of every process, so it is for the few sockets that a problem is about.
    """
    left = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for pid in processes():
        if not left:
            break
        for target in open_files(pid):
            inode = left.pop(target, None)
            if inode is not None:
                found[inode] = f"{command(pid)} (process {pid})"
    return found

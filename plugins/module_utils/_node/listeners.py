# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets that wait for packets in this network namespace, and the processes that hold them.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
from typing import Container, Iterable, NamedTuple

from .files import read_bytes

# The state in which a socket waits: LISTEN for TCP; for UDP, which has no connections, "not connected".
TABLES = (("TCP", "tcp", "0A"), ("TCP", "tcp6", "0A"), ("UDP", "udp", "07"), ("UDP", "udp6", "07"))


class Socket(NamedTuple):
    """``protocol`` TCP or UDP; ``address`` is canonical text, ``::`` and ``0.0.0.0`` mean any."""

    protocol: str
    address: str
    port: int
    inode: int


def _address(text: str) -> str:
    """The kernel prints addresses as 32-bit words in the order of the host."""
    words = [struct.pack("=I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def sockets(wanted: Container[tuple[str, int]]) -> list[Socket]:
    """The waiting sockets among ``wanted`` (protocol, port) pairs."""
    found: list[Socket] = []
    for protocol, table, waiting in TABLES:
        text = (read_bytes(f"/proc/thread-self/net/{table}") or b"").decode("ascii", "replace")
        for line in text.split("\n")[1:]:
            fields = line.split(None, 10)
            if len(fields) < 10 or fields[3] != waiting:
                continue
            address, _colon, port = fields[1].partition(":")
            if (protocol, int(port, 16)) in wanted:
                found.append(Socket(protocol, _address(address), int(port, 16), int(fields[9])))
    return found


def owners(inodes: Iterable[int]) -> dict[int, str]:
    """Socket inode -> "name (process N)" of one process that holds it; those that can't be found are left out.

    Looks at every open file of every process, so it is for the few sockets that a problem is about.
    """
    left = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for pid in processes():
        if not left:
            break
        for target in _open_files(pid):
            inode = left.pop(target, None)
            if inode is not None:
                found[inode] = f"{command(pid)} (process {pid})"
    return found


def processes() -> list[int]:
    """The ids of all processes that can be seen."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def command(pid: int) -> str:
    """The name of a process, cut to 15 characters by the kernel; "" if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
        return stream.read().strip()
    return ""


def _open_files(pid: int) -> list[str]:
    directory = f"/proc/{pid}/fd"
    targets: list[str] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                targets.append(os.readlink(f"{directory}/{name}"))
    return targets

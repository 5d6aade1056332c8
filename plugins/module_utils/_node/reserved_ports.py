# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports that the kernel keeps from the ephemeral range (net.ipv4.ip_local_reserved_ports): only ours come and go.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._core.errors import ServicenetError

PATH = "/proc/sys/net/ipv4/ip_local_reserved_ports"
# The kernel takes a page at a time; later pieces of one open file are added to the first.
PIECE = 4000
# It shows what fits into the first reading and nothing after it; every other port takes 200 KB.
LONGEST = 1 << 18


def read() -> set[int]:
    """All reserved ports; none if the kernel has no such setting."""
    try:
        with open(PATH, "rb", buffering=0) as stream:
            text = stream.read(LONGEST).decode("ascii").strip()
    except OSError:
        return set()
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _dash, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def pieces(ports: Iterable[int]) -> list[str]:
    """The texts to write one after the other, with ranges where numbers follow each other."""
    ranges: list[list[int]] = []
    for port in sorted(ports):
        if ranges and ranges[-1][1] == port - 1:
            ranges[-1][1] = port
        else:
            ranges.append([port, port])
    made = [""]
    for low, high in ranges:
        text = str(low) if low == high else f"{low}-{high}"
        if made[-1] and len(made[-1]) + len(text) >= PIECE:
            made.append("")
        made[-1] += f",{text}" if made[-1] else text
    return made


def write(ports: Iterable[int]) -> None:
    """Makes these the reserved ports.

    :raises ServicenetError: the kernel does not take them.
    """
    try:
        with open(PATH, "wb", buffering=0) as stream:
            stream.writelines(f"{piece}\n".encode("ascii") for piece in pieces(ports))
    except OSError as error:
        raise ServicenetError(f"The ports of proxies can't be reserved in {PATH}: {error.strerror}.") from error

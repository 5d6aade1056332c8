# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much SCTP as it takes to see where a packet goes: INIT and INIT ACK over raw IPv4 sockets.

A kernel may lack the protocol; conntrack and NAT treat these packets as a real association all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable

from patience import within

IPPROTO_SCTP = 132
IP_PKTINFO, IP_RECVERR = 8, 11
INIT, INIT_ACK = 1, 2


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        rest = byte
        for _bit in range(8):
            rest = (rest >> 1) ^ 0x82F63B78 if rest & 1 else rest >> 1
        table.append(rest)
    return table


CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The checksum of SCTP."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def packet(of: int, to: int, tag: int, chunk: bytes) -> bytes:
    """An SCTP packet of one chunk, from port `of` to port `to`."""
    head = struct.pack("!HHI", of, to, tag)
    return head + struct.pack("<I", crc32c(head + b"\0\0\0\0" + chunk)) + chunk


def init(kind: int, tag: int, cookie: bytes = b"") -> bytes:
    """An INIT or INIT ACK chunk; what the server answers travels as the state cookie of the INIT ACK."""
    body = struct.pack("!IIHHI", tag, 65535, 1, 1, 1)
    if cookie:
        body += struct.pack("!HH", 7, 4 + len(cookie)) + cookie + b"\0" * (-len(cookie) % 4)
    return struct.pack("!BBH", kind, 0, 4 + len(body)) + body


def random_tag() -> int:
    """A verification tag; 0 has a meaning of its own."""
    return random.getrandbits(32) | 1


class Server:
    """Answers INIT to one of `ports` with `answer(port, peer)`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ports: list[int], answer: Callable[[int, str], bytes]) -> None:
        self.ports, self.answer = set(ports), answer
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_SCTP)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        loop.add_reader(self.sock, self.readable)

    def readable(self) -> None:
        """One packet came in."""
        try:
            data, ancillary, _flags, peer = self.sock.recvmsg(2048, 256)
        except OSError:
            return
        data = data[(data[0] & 15) * 4 :]
        if len(data) < 32 or data[12] != INIT:
            return
        source_port, port = struct.unpack("!HH", data[:4])
        tag = struct.unpack("!I", data[16:20])[0]
        if port not in self.ports:
            return
        reply_from = [
            (level, kind, struct.pack("=I4s4s", 0, info[8:12], b"\0" * 4))
            for level, kind, info in ancillary
            if kind == IP_PKTINFO
        ]
        chunk = init(INIT_ACK, random_tag(), self.answer(port, peer[0]))
        with contextlib.suppress(OSError):
            self.sock.sendmsg([packet(port, source_port, tag, chunk)], reply_from, 0, (peer[0], 0))


async def probe(address: str, port: int, source: str, timeout: float) -> bytes:
    """One new association -> what the server answered; TimeoutError or OSError if none did."""
    source_port = random.randrange(20000, 30000)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_SCTP) as sock:
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.connect((address, 0))
        with contextlib.suppress(PermissionError):  # a rule of this host; the wait below tells a reject from a drop
            sock.send(packet(source_port, port, 0, init(INIT, random_tag())))
        return await within(timeout, _answer(sock, source_port, port))


async def _answer(sock: socket.socket, source_port: int, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(sock, 2048)
        except OSError:
            if is_told_of(sock, source_port, port):
                raise
            continue
        data = data[(data[0] & 15) * 4 :]
        if len(data) > 36 and data[12] == INIT_ACK and struct.unpack("!HH", data[:4]) == (port, source_port):
            size = struct.unpack("!H", data[34:36])[0]
            return data[36 : 32 + size]


def is_told_of(sock: socket.socket, source_port: int, port: int) -> bool:
    """Is one of the errors that came about this flow? A raw socket is told of all flows between its two addresses."""
    while True:
        try:
            sent = sock.recvmsg(64, 512, socket.MSG_ERRQUEUE)[0]
        except BlockingIOError:
            return False
        if struct.unpack("!HH", sent[:4]) == (source_port, port):
            return True

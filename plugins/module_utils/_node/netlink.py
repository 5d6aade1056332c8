# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raw netlink for the few questions where a tool would cost a process, or would have to be installed first.

Attributes are parsed into dictionaries of ``type -> bytes``; what carries an attribute twice is not used here.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from types import TracebackType
from typing import Iterator, Sequence

from .._core.errors import NetlinkError

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x01
NLM_F_ACK = 0x04
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
ERRNO = struct.Struct("=i")

BUFFER = 1 << 18
RECEIVE_QUEUE = 1 << 22
TIMEOUT_SECONDS = 30.0
# How often a table that changes meanwhile is asked for, and how much longer to wait before each time: 2 seconds in all.
DUMPS = 20
PAUSE_SECONDS = 0.01


def refused(what: str, code: int) -> NetlinkError:
    """The error for an errno, with its meaning."""
    return NetlinkError(what, code, os.strerror(code))


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding."""
    size = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(size, kind) + payload + bytes(-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def attributes(data: bytes, start: int = 0, end: int | None = None) -> dict[int, bytes]:
    """The attributes of ``data[start:end]``; a truncated one ends the list."""
    found: dict[int, bytes] = {}
    stop = len(data) if end is None else end
    while start + 4 <= stop:
        size, kind = ATTRIBUTE.unpack_from(data, start)
        if size < 4 or start + size > stop:
            break
        found[kind & NLA_TYPE_MASK] = data[start + 4 : start + size]
        start += (size + 3) & ~3
    return found


def nfgenmsg(family: int) -> bytes:
    """The header that every message of the netfilter subsystems begins with."""
    return struct.pack("=BBH", family, 0, 0)


class Netlink:
    """A netlink socket of this process' network namespace. Use it as a context manager.

    :param what: what is being done, as in "The kernel refused to ..."; for the errors.
    """

    def __init__(self, protocol: int, what: str) -> None:
        self._what = what
        self._sequence = 0
        self._interrupted = False
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        except OSError as error:
            raise refused(what, error.errno or errno.EIO) from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_QUEUE)
            self._socket.settimeout(TIMEOUT_SECONDS)
            self._socket.bind((0, 0))
        except OSError as error:
            self._socket.close()
            raise refused(what, error.errno or errno.EIO) from error

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def cookie(self) -> int:
        """The kernel's number of this network namespace, never used twice in one boot; 0 on kernels before 5.14."""
        so_netns_cookie = 71
        try:
            return int(struct.unpack("=Q", self._socket.getsockopt(socket.SOL_SOCKET, so_netns_cookie, 8))[0])
        except OSError:
            return 0

    def ask(self, kind: int, body: bytes) -> bytes:
        """The body of the one answer to a request.

        :raises NetlinkError: the kernel answered with an error.
        """
        self._send([(kind, body)], NLM_F_REQUEST)
        for answer, data, start, end in self._messages():
            if answer == NLMSG_ERROR:
                raise refused(self._what, -int(ERRNO.unpack_from(data, start)[0]))
            return data[start:end]
        raise refused(self._what, errno.EPROTO)

    def dump(self, kind: int, body: bytes) -> list[tuple[bytes, int, int]]:
        """The entries of a table: the buffer that holds one, and where its body begins and ends there.

        What changes while the kernel lists it can lack entries that were there all the time; so it is listed again.

        :raises NetlinkError: the kernel refused, or the table changed every time.
        """
        for attempt in range(DUMPS):
            time.sleep(attempt * PAUSE_SECONDS)
            self._interrupted = False
            entries = list(self.stream(kind, body))
            if not self._interrupted:
                return entries
        raise NetlinkError(self._what, errno.EINTR, f"they changed during each of {DUMPS} listings")

    def stream(self, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        """The same entry by entry, for a table that is big and never stands still: entries may be missing.

        :raises NetlinkError: the kernel refused.
        """
        self._send([(kind, body)], NLM_F_REQUEST | NLM_F_DUMP)
        for answer, data, start, end in self._messages():
            if answer == NLMSG_DONE:
                code = ERRNO.unpack_from(data, start)[0] if end - start >= 4 else 0
                if code < 0:
                    raise refused(self._what, -int(code))
                return
            if answer == NLMSG_ERROR:
                raise refused(self._what, -int(ERRNO.unpack_from(data, start)[0]))
            yield data, start, end

    def each(self, kind: int, bodies: Sequence[bytes], flags: int = NLM_F_REQUEST | NLM_F_ACK) -> list[int]:
        """Send one request per body in one go; the errno of each answer (0 is success), in order."""
        self._send([(kind, body) for body in bodies], flags)
        codes: list[int] = []
        if bodies:
            for answer, data, start, _end in self._messages():
                if answer == NLMSG_ERROR:
                    codes.append(-int(ERRNO.unpack_from(data, start)[0]))
                if len(codes) == len(bodies):
                    break
        return codes

    def _send(self, requests: Sequence[tuple[int, bytes]], flags: int) -> None:
        message = bytearray()
        for kind, body in requests:
            self._sequence += 1
            message += HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0)
            message += body + bytes(-len(body) % 4)
        try:
            self._socket.send(message)
        except OSError as error:
            raise refused(self._what, error.errno or errno.EIO) from error

    def _messages(self) -> Iterator[tuple[int, bytes, int, int]]:
        """Messages as they arrive: type, the buffer, begin and end of the body."""
        while True:
            try:
                data = self._socket.recv(BUFFER)
            except socket.timeout as error:
                raise refused(self._what, errno.ETIMEDOUT) from error
            except OSError as error:
                raise refused(self._what, error.errno or errno.EIO) from error
            offset, stop = 0, len(data)
            while offset + HEADER.size <= stop:
                size, kind, flags, _sequence, _port = HEADER.unpack_from(data, offset)
                if size < HEADER.size or offset + size > stop:
                    raise refused(self._what, errno.EPROTO)
                if flags & NLM_F_DUMP_INTR:
                    self._interrupted = True
                yield kind, data, offset + HEADER.size, offset + size
                offset += (size + 3) & ~3

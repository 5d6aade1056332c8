# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPVS in the kernel through generic netlink: what it holds, and operations, many in one go.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import os
import socket
import struct
from typing import Iterator, Sequence

from .._core.errors import NetlinkError
from .._core.ipvs_objects import Operation, Real, Server, Virtual
from . import generic_netlink as generic
from .ipvs_timeouts import FAMILY_NAME, FAMILY_VERSION
from .netlink import NLM_F_ACK, NLM_F_REQUEST, Netlink, attribute, attributes, nested

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
CMD_ATTR_SERVICE, CMD_ATTR_DEST = 1, 2
SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED, SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK = range(1, 10)
DEST_ADDR, DEST_PORT, DEST_METHOD, DEST_WEIGHT, DEST_UPPER, DEST_LOWER, DEST_ACTIVE, DEST_INACTIVE = range(1, 9)
DEST_FAMILY = 11
PERSISTENT = 0x1
# Schedulers that go by the client's address, and the flag that has them pass over real servers of the weight 0.
HASHING = ("sh", "mh")
FALLBACK = 0x8
# The kernel shows more flags than may be set: the mask names those that are ours to set.
FLAGS_MASK = 0xFFFFFFFF
METHOD_MASK = 0x7

SHORT = struct.Struct("=H")
NETWORK_SHORT = struct.Struct(">H")
LONG = struct.Struct("=I")
FLAGS = struct.Struct("=II")
# Requests that are sent before their answers are read: the socket's buffers hold no more.
BATCH = 200

AF = {4: socket.AF_INET, 6: socket.AF_INET6}
FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed.ljust(16, b"\0")


def _text(packed: bytes, family: int) -> str:
    return str(ipaddress.ip_address(packed[: 4 if family == 4 else 16]))


def _key(server: Server) -> list[bytes]:
    parts = [attribute(SVC_AF, SHORT.pack(AF[server.family]))]
    if server.mark:
        return [*parts, attribute(SVC_FWMARK, LONG.pack(server.mark))]
    return [
        *parts,
        attribute(SVC_PROTOCOL, SHORT.pack(PROTOCOLS[server.protocol])),
        attribute(SVC_ADDR, _packed(server.address)),
        attribute(SVC_PORT, NETWORK_SHORT.pack(server.port)),
    ]


def _settings(operation: Operation) -> list[bytes]:
    family = operation.server.family
    # The kernel takes the mask of IPv4 in network order, and the length of IPv6's prefix as a number.
    netmask = b"\xff" * 4 if family == 4 else LONG.pack(128)
    flags = (PERSISTENT if operation.persistent else 0) | (FALLBACK if operation.scheduler in HASHING else 0)
    return [
        attribute(SVC_SCHED, operation.scheduler.encode() + b"\0"),
        attribute(SVC_FLAGS, FLAGS.pack(flags, FLAGS_MASK)),
        attribute(SVC_TIMEOUT, LONG.pack(operation.persistent)),
        attribute(SVC_NETMASK, netmask),
    ]


def _real(real: Real, family: int, whole: bool) -> bytes:
    parts = [
        attribute(DEST_ADDR, _packed(real.address)),
        attribute(DEST_PORT, NETWORK_SHORT.pack(real.port)),
        attribute(DEST_FAMILY, SHORT.pack(AF[family])),
    ]
    if whole:
        parts += [attribute(DEST_METHOD, LONG.pack(0)), attribute(DEST_WEIGHT, LONG.pack(real.weight))]
        parts += [attribute(DEST_UPPER, LONG.pack(0)), attribute(DEST_LOWER, LONG.pack(0))]
    return nested(CMD_ATTR_DEST, *parts)


def _body(operation: Operation) -> bytes:
    """The body of the request for an operation."""
    verbs = ("add", "edit", "delete")
    whole = operation.verb != "delete"
    if operation.real is None:
        command = (NEW_SERVICE, SET_SERVICE, DEL_SERVICE)[verbs.index(operation.verb)]
        settings = _settings(operation) if whole else []
        return _request(command, nested(CMD_ATTR_SERVICE, *_key(operation.server), *settings))
    command = (NEW_DEST, SET_DEST, DEL_DEST)[verbs.index(operation.verb)]
    real = _real(operation.real, operation.server.family, whole)
    return _request(command, nested(CMD_ATTR_SERVICE, *_key(operation.server)) + real)


def _request(command: int, body: bytes = b"") -> bytes:
    return generic.request(command, FAMILY_VERSION, body)


class OperationError(NetlinkError):
    """The kernel refused an operation. ``done`` are those of the same call that it did not refuse."""

    def __init__(self, operation: Operation, code: int, done: Sequence[Operation]) -> None:
        super().__init__(f"{operation.verb} {shown(operation)}", code, _meaning(code))
        self.operation = operation
        self.done = tuple(done)


class Ipvs:
    """IPVS of this network namespace. Use it as a context manager.

    :raises NetlinkError: the kernel has no IPVS (``code`` is ENOENT), or doesn't let this process see it.
    """

    def __init__(self) -> None:
        self._netlink = Netlink(generic.NETLINK_GENERIC, "change or list virtual servers (IPVS)")
        self._kind = generic.family(self._netlink, FAMILY_NAME)

    def __enter__(self) -> Ipvs:
        return self

    def __exit__(self, *error: object) -> None:
        self._netlink.__exit__(None, None, None)

    def read(self) -> dict[Server, Virtual]:
        """All virtual servers, of whoever, with their real servers in the order of their addresses."""
        return {server: virtual._replace(reals=tuple(self.reals(server))) for server, virtual in self._virtual()}

    def has_scheduler(self, name: str) -> bool:
        """Does the kernel have this scheduler, or load it now? A kernel whose IPVS has no IPv6 is said to.

        Nothing is made: the virtual server that is asked for has a prefix length that cannot be, and the kernel looks
        at the scheduler first.

        :raises NetlinkError: it does not say.
        """
        parts = [
            attribute(SVC_SCHED, name.encode() + b"\0"),
            attribute(SVC_FLAGS, FLAGS.pack(0, FLAGS_MASK)),
            attribute(SVC_TIMEOUT, LONG.pack(0)),
            attribute(SVC_NETMASK, LONG.pack(0)),
        ]
        code = errno.EEXIST
        mark = 0
        while code == errno.EEXIST:  # somebody has a virtual server with this mark
            mark += 1
            asked = nested(CMD_ATTR_SERVICE, *_key(Server(6, mark=mark)), *parts)
            (code,) = self._netlink.each(self._kind, [_request(NEW_SERVICE, asked)])
        if code not in (errno.ENOENT, errno.EINVAL, errno.EAFNOSUPPORT):
            raise NetlinkError(f"tell whether it has the scheduler {name}", code, os.strerror(code))
        return code != errno.ENOENT

    def _virtual(self) -> list[tuple[Server, Virtual]]:
        found = []
        for entry in self._dump(_request(GET_SERVICE), CMD_ATTR_SERVICE):
            family = FAMILIES[SHORT.unpack(entry[SVC_AF])[0]]
            if SVC_FWMARK in entry:
                server = Server(family, mark=LONG.unpack(entry[SVC_FWMARK])[0])
            else:
                protocol = int(SHORT.unpack(entry[SVC_PROTOCOL])[0])
                port = NETWORK_SHORT.unpack(entry[SVC_PORT])[0]
                name = PROTOCOL_NAMES.get(protocol, str(protocol))
                server = Server(family, name, _text(entry[SVC_ADDR], family), port)
            flags = FLAGS.unpack(entry[SVC_FLAGS])[0]
            seconds = LONG.unpack(entry[SVC_TIMEOUT])[0] if flags & PERSISTENT else 0
            found.append((server, Virtual(entry[SVC_SCHED].rstrip(b"\0").decode("ascii", "replace"), seconds)))
        return found

    def reals(self, server: Server) -> list[Real]:
        """The real servers of a virtual server, in the order of their addresses."""
        return sorted(self._reals(server))

    def _reals(self, server: Server) -> Iterator[Real]:
        asked = _request(GET_DEST, nested(CMD_ATTR_SERVICE, *_key(server)))
        for entry in self._dump(asked, CMD_ATTR_DEST):
            family = FAMILIES[SHORT.unpack(entry[DEST_FAMILY])[0]] if DEST_FAMILY in entry else server.family
            numbers = (LONG.unpack(entry[kind])[0] for kind in (DEST_WEIGHT, DEST_ACTIVE, DEST_INACTIVE))
            port = NETWORK_SHORT.unpack(entry[DEST_PORT])[0]
            yield Real(_text(entry[DEST_ADDR], family), port, *numbers)

    def _dump(self, asked: bytes, kind: int) -> list[dict[int, bytes]]:
        entries = []
        for data, start, end in self._netlink.dump(self._kind, asked):
            entries.append(attributes(attributes(data, start + generic.HEADER.size, end)[kind]))
        return entries

    def apply(self, operations: Sequence[Operation]) -> None:
        """Does the operations in their order. Each is atomic; all of them together are not.

        :raises OperationError: one was refused. Those before it are done, those behind it may be; but real servers only
            if all virtual servers before them are.
        """
        done: list[Operation] = []
        for part in _parts(operations):
            codes = self.attempt(part)
            done += [operation for operation, code in zip(part, codes) if not code]
            for operation, code in zip(part, codes):
                if code:
                    raise OperationError(operation, code, done)

    def attempt(self, operations: Sequence[Operation]) -> list[int]:
        """Does the operations, as many at once as fit -> the errno of each, 0 for success."""
        codes: list[int] = []
        for part in _parts(operations):
            codes += self._netlink.each(self._kind, [_body(one) for one in part], NLM_F_REQUEST | NLM_F_ACK)
        return codes


def _parts(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    """Operations that are sent in one go, either of virtual servers or of real servers."""
    for _kind, some in itertools.groupby(operations, key=lambda one: one.real is None):
        alike = list(some)
        yield from (alike[first : first + BATCH] for first in range(0, len(alike), BATCH))


def shown(operation: Operation) -> str:
    """What an operation is about, for people."""
    server = operation.server
    where = f"mark {server.mark:#x}" if server.mark else f"{server.protocol} {_endpoint(server.address, server.port)}"
    if operation.real is None:
        return f"the virtual server {where}" + (f" ({operation.scheduler})" if operation.scheduler else "")
    return f"the real server {_endpoint(operation.real.address, operation.real.port)} of {where}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _meaning(code: int) -> str:
    if code == errno.ENOENT:
        return "there is no such server, or the kernel has no module for its scheduler"
    if code == errno.EEXIST:
        return "somebody else has one there"
    return os.strerror(code)

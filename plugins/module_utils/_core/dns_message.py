# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DNS messages (RFC 1035): writing a question, reading an answer.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

from .dns_records import Record
from .errors import ServicenetError

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
MAX_MESSAGE = 65535

_NAMES = {number: name for name, number in TYPES.items()}
_HEADER = struct.Struct("!6H")
_OPT = 41
_UDP_SIZE = 1232
_RECURSION_DESIRED = 0x0100
_TRUNCATED = 0x0200
_AUTHORITATIVE = 0x0400
_MAX_JUMPS = 64


class MessageError(ServicenetError):
    """What came is no DNS message."""


class Message(NamedTuple):
    """An answer; ``rcode`` is a word such as NXDOMAIN. Names in it keep the case in which they came."""

    identity: int
    rcode: str
    truncated: bool
    authoritative: bool
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]


def question(identity: int, name: str, kind: str) -> bytes:
    """A question with EDNS for a name, which is taken as absolute; raises ``MessageError`` for one that is none."""
    try:
        labels = [label.encode("idna" if not label.isascii() else "ascii") for label in name.rstrip(".").split(".")]
    except UnicodeError:
        raise MessageError(f"{name[:80]!r} is not a DNS name.") from None
    if name.rstrip(".") and not all(0 < len(label) < 64 for label in labels):
        raise MessageError(f"{name[:80]!r} is not a DNS name.")
    wire = b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0"
    if len(wire) > 255:
        raise MessageError(f"{name[:80]!r} is longer than a DNS name can be.")
    head = _HEADER.pack(identity, _RECURSION_DESIRED, 1, 0, 0, 1)
    edns = b"\0" + struct.pack("!HHIH", _OPT, _UDP_SIZE, 0, 0)
    return head + wire + struct.pack("!HH", TYPES[kind], 1) + edns


def read(data: bytes) -> Message:
    """Reads an answer; raises ``MessageError``."""
    try:
        identity, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
        position = _HEADER.size
        for _question in range(questions):
            position = _name(data, position)[1] + 4
        sections = []
        for count in (answers, authorities, additionals):
            records, position = _records(data, position, count)
            sections.append(records)
    except (struct.error, IndexError, ValueError) as wrong:
        raise MessageError(f"The answer is not a DNS message: {wrong}.") from None
    rcode = RCODES.get(flags & 15, str(flags & 15))
    return Message(identity, rcode, bool(flags & _TRUNCATED), bool(flags & _AUTHORITATIVE), *sections)


def _records(data: bytes, position: int, count: int) -> tuple[tuple[Record, ...], int]:
    found = []
    for _record in range(count):
        owner, position = _name(data, position)
        kind, _class, ttl, length = struct.unpack_from("!HHIH", data, position)
        position += 10
        if position + length > len(data):
            raise ValueError("it is cut off")
        if kind != _OPT:
            found.append(Record(owner, _NAMES.get(kind, f"TYPE{kind}"), _data(data, position, length, kind), ttl))
        position += length
    return tuple(found), position


def _data(data: bytes, position: int, length: int, kind: int) -> str:
    raw = data[position : position + length]
    if kind in (TYPES["A"], TYPES["AAAA"]):
        return str(ipaddress.ip_address(raw))
    if kind in (TYPES["NS"], TYPES["CNAME"], TYPES["PTR"]):
        return _name(data, position)[0]
    if kind == TYPES["SRV"]:
        numbers = struct.unpack_from("!3H", data, position)
        return " ".join([*map(str, numbers), _name(data, position + 6)[0]])
    if kind == TYPES["SOA"]:
        server, after = _name(data, position)
        contact, after = _name(data, after)
        return " ".join([server, contact, *map(str, struct.unpack_from("!5I", data, after))])
    if kind == TYPES["TXT"]:
        return " ".join(f'"{text}"' for text in _strings(raw))
    return raw.hex()


def _strings(raw: bytes) -> list[str]:
    found = []
    while raw:
        found.append(raw[1 : 1 + raw[0]].decode("latin-1"))
        raw = raw[1 + raw[0] :]
    return found


def _name(data: bytes, position: int) -> tuple[str, int]:
    """-> (absolute name, position behind it)"""
    labels = []
    behind = 0
    jumps = 0
    while data[position]:
        length = data[position]
        if length >= 0xC0:
            behind = behind or position + 2
            position = ((length & 0x3F) << 8) | data[position + 1]
            jumps += 1
            if jumps > _MAX_JUMPS:
                raise ValueError("a name in it leads round in a circle")
        else:
            labels.append(data[position + 1 : position + 1 + length].decode("latin-1"))
            position += 1 + length
    return ".".join(labels) + ".", behind or position + 1

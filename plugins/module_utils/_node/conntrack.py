# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection tracking through netlink: list the UDP flows of a family, delete some of them. No tool is needed.

Nearly every entry of a dump has the same layout, so its fields are read at fixed places after a look at the headers;
only what looks different is parsed attribute by attribute. 100,000 entries take some tenths of a second.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import Iterable, Iterator

from .._core.errors import NetlinkError
from .._core.stale_flows import DEFAULT_ZONE, Flow
from .netlink import (
    ATTRIBUTE,
    NETLINK_NETFILTER,
    NLA_F_NESTED,
    NLA_TYPE_MASK,
    Netlink,
    attribute,
    attributes,
    nested,
    nfgenmsg,
    refused,
)

IPCTNL_MSG_CT_GET = (1 << 8) | 1
IPCTNL_MSG_CT_DELETE = (1 << 8) | 2

CTA_TUPLE_ORIG = 1
CTA_TUPLE_REPLY = 2
CTA_ZONE = 18
CTA_FILTER = 25

CTA_TUPLE_IP = 1
CTA_TUPLE_PROTO = 2

CTA_PROTO_NUM = 1
CTA_PROTO_SRC_PORT = 2
CTA_PROTO_DST_PORT = 3

CTA_FILTER_ORIG_FLAGS = 1
CTA_FILTER_REPLY_FLAGS = 2
FILTER_PROTO_NUM = 1 << 3

UDP = bytes((socket.IPPROTO_UDP,))
PORT = struct.Struct(">H")
FLAGS = struct.Struct("=I")
DELETIONS_AT_ONCE = 200


class _Layout:
    """Where the usual entry of one family has its fields, as offsets from the header of CTA_TUPLE_ORIG."""

    def __init__(self, family: int) -> None:
        self.af = socket.AF_INET if family == 4 else socket.AF_INET6
        size = 4 if family == 4 else 16
        self.ip_src, self.ip_dst = (1, 2) if family == 4 else (3, 4)
        ip_size = 4 + 2 * (4 + size)
        proto_size = 4 + 3 * 8
        self.tuple_size = 4 + ip_size + proto_size
        self.proto = 4 + ip_size
        # A tuple up to its source address, and from its protocol's header up to the number of the protocol.
        address_head = ATTRIBUTE.pack(ip_size, CTA_TUPLE_IP | NLA_F_NESTED) + ATTRIBUTE.pack(4 + size, self.ip_src)
        self.orig_head = ATTRIBUTE.pack(self.tuple_size, CTA_TUPLE_ORIG | NLA_F_NESTED) + address_head
        self.reply_head = ATTRIBUTE.pack(self.tuple_size, CTA_TUPLE_REPLY | NLA_F_NESTED) + address_head
        self.proto_head = (
            ATTRIBUTE.pack(proto_size, CTA_TUPLE_PROTO | NLA_F_NESTED) + ATTRIBUTE.pack(5, CTA_PROTO_NUM) + UDP
        )
        one = f"12x {size}s 4x {size}s 12x 4x H 2x 4x H 2x"
        self.fields = struct.Struct(f">{one} {one}")


LAYOUTS = {4: _Layout(4), 6: _Layout(6)}


def _text(packed: bytes) -> str:
    return socket.inet_ntoa(packed) if len(packed) == 4 else str(ipaddress.IPv6Address(packed))


def udp_flows(family: int) -> Iterator[Flow]:
    """All UDP flows of a family (4 or 6) in this network namespace.

    :raises NetlinkError: the kernel has no connection tracking, or doesn't let us see it.
    """
    try:
        yield from _dump(family, in_kernel=True)
    except NetlinkError as error:
        # Before Linux 5.8 a dump can't be narrowed to a protocol; the refusal comes before the first entry.
        if error.code not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        yield from _dump(family, in_kernel=False)


def _dump(family: int, in_kernel: bool) -> Iterator[Flow]:
    layout = LAYOUTS[family]
    body = nfgenmsg(layout.af)
    if in_kernel:
        body += nested(CTA_TUPLE_ORIG, nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, UDP)))
        body += nested(
            CTA_FILTER,
            attribute(CTA_FILTER_ORIG_FLAGS, FLAGS.pack(FILTER_PROTO_NUM)),
            attribute(CTA_FILTER_REPLY_FLAGS, FLAGS.pack(0)),
        )
    orig_head, reply_head, proto_head = layout.orig_head, layout.reply_head, layout.proto_head
    size, unpack = layout.tuple_size, layout.fields.unpack_from
    head_size, proto, proto_end = len(orig_head), layout.proto, layout.proto + len(proto_head)
    texts: dict[bytes, str] = {}
    with Netlink(NETLINK_NETFILTER, "list connection tracking") as netlink:
        for data, start, end in netlink.stream(IPCTNL_MSG_CT_GET, body):
            orig = start + 4
            reply = orig + size
            if (
                data[orig : orig + head_size] == orig_head
                and data[orig + proto : orig + proto_end] == proto_head
                and data[reply : reply + head_size] == reply_head
            ):
                src, dst, sport, dport, answers, _to, answers_port, _to_port = unpack(data, orig)
                zone = _zone_at(data, reply + size, end)
            else:
                parsed = _parse(layout, attributes(data, orig, end))
                if parsed is None:
                    continue
                src, sport, dst, dport, answers, answers_port, zone = parsed
            for packed in (src, dst, answers):
                if packed not in texts:
                    texts[packed] = _text(packed)
            yield Flow(texts[src], sport, texts[dst], dport, texts[answers], answers_port, zone)


def _zone_at(data: bytes, start: int, end: int) -> int:
    """The zone stands right behind the tuples if it is not the default one."""
    if start + 6 <= end:
        size, kind = ATTRIBUTE.unpack_from(data, start)
        if kind & NLA_TYPE_MASK == CTA_ZONE and size == 6:
            return int(PORT.unpack_from(data, start + 4)[0])
    return DEFAULT_ZONE


def _parse(layout: _Layout, entry: dict[int, bytes]) -> tuple[bytes, int, bytes, int, bytes, int, int] | None:
    """Any entry, attribute by attribute; None if it isn't a UDP flow of the family."""
    orig = _parse_tuple(layout, entry.get(CTA_TUPLE_ORIG, b""))
    reply = _parse_tuple(layout, entry.get(CTA_TUPLE_REPLY, b""))
    if orig is None or reply is None:
        return None
    zone = PORT.unpack(entry[CTA_ZONE])[0] if CTA_ZONE in entry else DEFAULT_ZONE
    return orig[0], orig[1], orig[2], orig[3], reply[0], reply[1], zone


def _parse_tuple(layout: _Layout, data: bytes) -> tuple[bytes, int, bytes, int] | None:
    parts = attributes(data)
    address = attributes(parts.get(CTA_TUPLE_IP, b""))
    proto = attributes(parts.get(CTA_TUPLE_PROTO, b""))
    if proto.get(CTA_PROTO_NUM) != UDP or layout.ip_src not in address or layout.ip_dst not in address:
        return None
    sport, dport = (PORT.unpack(proto[kind])[0] for kind in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT))
    return address[layout.ip_src], sport, address[layout.ip_dst], dport


def _deletion(flow: Flow) -> bytes:
    layout = LAYOUTS[6 if ":" in flow.orig_dst else 4]
    body = nfgenmsg(layout.af) + nested(
        CTA_TUPLE_ORIG,
        nested(
            CTA_TUPLE_IP,
            attribute(layout.ip_src, socket.inet_pton(layout.af, flow.orig_src)),
            attribute(layout.ip_dst, socket.inet_pton(layout.af, flow.orig_dst)),
        ),
        nested(
            CTA_TUPLE_PROTO,
            attribute(CTA_PROTO_NUM, UDP),
            attribute(CTA_PROTO_SRC_PORT, PORT.pack(flow.orig_sport)),
            attribute(CTA_PROTO_DST_PORT, PORT.pack(flow.orig_dport)),
        ),
    )
    return body if flow.zone == DEFAULT_ZONE else body + attribute(CTA_ZONE, PORT.pack(flow.zone))


def delete(flows: Iterable[Flow]) -> int:
    """Forget flows; the number of those that were still there.

    :raises NetlinkError: the kernel refused one for another reason than that it had ended by itself; all others are
        forgotten.
    """
    bodies = [_deletion(flow) for flow in flows]
    deleted = failed = 0
    if not bodies:
        return deleted
    with Netlink(NETLINK_NETFILTER, "delete an entry of connection tracking") as netlink:
        for first in range(0, len(bodies), DELETIONS_AT_ONCE):
            for code in netlink.each(IPCTNL_MSG_CT_DELETE, bodies[first : first + DELETIONS_AT_ONCE]):
                if code == 0:
                    deleted += 1
                elif code != errno.ENOENT:
                    failed = code
    if failed:
        raise refused("delete an entry of connection tracking", failed)
    return deleted

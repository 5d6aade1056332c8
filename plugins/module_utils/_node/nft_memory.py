# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one rule that nft can't write everywhere, written to the kernel directly: what remembers a client's endpoint.

    update @affinity { ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst timeout 600s :
                       ip daddr . th dport }

nft 1.0.6 aborts on it for IPv6, and no version takes it for all protocols at once. The kernel does, and nft lists it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import socket
import struct

from .netlink import (
    ERRNO,
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Netlink,
    attribute,
    nested,
    nfgenmsg,
    refused,
)

NFNL_MSG_BATCH_BEGIN = 16
NFNL_MSG_BATCH_END = 17
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWRULE = (NFNL_SUBSYS_NFTABLES << 8) | 6
NFT_MSG_DELRULE = (NFNL_SUBSYS_NFTABLES << 8) | 8
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 1, 2
NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN = 1, 2, 3, 4
NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 1, 2
NFTA_META_DREG, NFTA_META_KEY, NFT_META_L4PROTO = 1, 2, 16
NFTA_CT_DREG, NFTA_CT_KEY, NFTA_CT_DIRECTION = 1, 2, 3
NFT_CT_PROTO_DST, NFT_CT_DST_IP, NFT_CT_DST_IP6 = 12, 20, 22
NFTA_DYNSET_SET_NAME, NFTA_DYNSET_OP, NFTA_DYNSET_SREG_KEY, NFTA_DYNSET_SREG_DATA, NFTA_DYNSET_TIMEOUT = 1, 3, 4, 5, 6
NFT_DYNSET_OP_UPDATE = 1
NFT_REG32_00 = 8

# family -> (protocol family, bytes of an address, offset of the source and of the destination in the header)
FAMILIES = {4: (socket.AF_INET, 4, 12, 16), 6: (socket.AF_INET6, 16, 8, 24)}
DESTINATION_PORT_OFFSET = 2


def remember(family: int, table: str, chain: str, affinity: str, seconds: int) -> None:
    """Makes a chain hold this rule and nothing else, in one transaction; chain and map are there already.

    :param affinity: the name of the map.
    :raises NetlinkError: the kernel refused it.
    """
    protocol_family = FAMILIES[family][0]
    where = nfgenmsg(protocol_family) + _text(NFTA_RULE_TABLE, table) + _text(NFTA_RULE_CHAIN, chain)
    rule = where + nested(NFTA_RULE_EXPRESSIONS, *_expressions(family, affinity, seconds))
    batch = _Batch(NETLINK_NETFILTER, f"add the rule that remembers clients to chain {chain}")
    with batch:
        batch.commit([(NFT_MSG_DELRULE, 0, where), (NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule)])


def _expressions(family: int, affinity: str, seconds: int) -> list[bytes]:
    """The key in the registers from 0 on, the data behind it; a register holds 4 bytes."""
    _protocol_family, size, source, destination = FAMILIES[family]
    words = size // 4
    frontend, protocol, port = words, 2 * words, 2 * words + 1
    backend, backend_port = port + 1, port + 1 + words
    original = NFT_CT_DST_IP6 if family == 6 else NFT_CT_DST_IP
    return [
        _payload(0, NFT_PAYLOAD_NETWORK_HEADER, source, size),
        _original(frontend, original),
        _expression("meta", _number(NFTA_META_DREG, _register(protocol)), _number(NFTA_META_KEY, NFT_META_L4PROTO)),
        _original(port, NFT_CT_PROTO_DST),
        _payload(backend, NFT_PAYLOAD_NETWORK_HEADER, destination, size),
        _payload(backend_port, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, 2),
        _expression(
            "dynset",
            _text(NFTA_DYNSET_SET_NAME, affinity),
            _number(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE),
            _number(NFTA_DYNSET_SREG_KEY, _register(0)),
            _number(NFTA_DYNSET_SREG_DATA, _register(backend)),
            attribute(NFTA_DYNSET_TIMEOUT, struct.pack(">Q", seconds * 1000)),
        ),
    ]


def _register(word: int) -> int:
    return NFT_REG32_00 + word


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode("ascii") + b"\0")


def _expression(name: str, *data: bytes) -> bytes:
    return nested(NFTA_LIST_ELEM, _text(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, *data))


def _payload(word: int, base: int, offset: int, size: int) -> bytes:
    return _expression(
        "payload",
        _number(NFTA_PAYLOAD_DREG, _register(word)),
        _number(NFTA_PAYLOAD_BASE, base),
        _number(NFTA_PAYLOAD_OFFSET, offset),
        _number(NFTA_PAYLOAD_LEN, size),
    )


def _original(word: int, key: int) -> bytes:
    """What the packet's connection had before translation."""
    return _expression(
        "ct",
        _number(NFTA_CT_DREG, _register(word)),
        _number(NFTA_CT_KEY, key),
        attribute(NFTA_CT_DIRECTION, b"\0"),
    )


class _Batch(Netlink):
    """A transaction of nftables."""

    def commit(self, messages: list[tuple[int, int, bytes]]) -> None:
        """Sends it and waits for the answers.

        :param messages: (type, flags besides the usual, body)
        """
        generation = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(NFNL_SUBSYS_NFTABLES))
        batch = [(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, generation)]
        batch += [(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body) for kind, flags, body in messages]
        batch.append((NFNL_MSG_BATCH_END, NLM_F_REQUEST, generation))
        data = b"".join(
            HEADER.pack(HEADER.size + len(body), kind, flags, number, 0) + body
            for number, (kind, flags, body) in enumerate(batch)
        )
        try:
            self._socket.send(data)
        except OSError as error:
            raise refused(self._what, error.errno or errno.EIO) from error
        answers = 0
        for kind, answer, start, _end in self._messages():
            if kind == NLMSG_ERROR:
                code = -int(ERRNO.unpack_from(answer, start)[0])
                if code:
                    raise refused(self._what, code)
                answers += 1
            if answers == len(messages):
                return

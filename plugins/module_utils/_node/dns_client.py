# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks one DNS server one question: over UDP, and over TCP where the answer did not fit.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import socket
import struct

from .._core import dns_message
from .._core.dns_message import Message, MessageError
from .._core.errors import NoAnswer


def ask(server: str, port: int, name: str, kind: str, timeout: float = 2.0, tcp: bool = False) -> Message:
    """The answer of ``server`` (an address) to the question for ``kind`` (such as A) of ``name``.

    :param timeout: seconds for each of the two tries.
    :raises NoAnswer: there was none in time.
    """
    identity = int.from_bytes(os.urandom(2), "big")
    data = dns_message.question(identity, name, kind)
    try:
        if not tcp:
            answer = _over_udp(server, port, data, identity, timeout)
            if not answer.truncated:
                return answer
        return _over_tcp(server, port, data, timeout)
    except (OSError, MessageError) as error:
        raise NoAnswer(f"The DNS server {server} port {port} gave no answer for {name} {kind}: {error}.") from error


def _family(server: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def _over_udp(server: str, port: int, data: bytes, identity: int, timeout: float) -> Message:
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        # Connected, so that only the server's own packets arrive and a closed port is an error at once.
        sock.connect((server, port))
        sock.send(data)
        while True:
            answer = dns_message.read(sock.recv(dns_message.MAX_MESSAGE))
            if answer.identity == identity:
                return answer


def _over_tcp(server: str, port: int, data: bytes, timeout: float) -> Message:
    with socket.socket(_family(server), socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect((server, port))
        sock.sendall(struct.pack("!H", len(data)) + data)
        (length,) = struct.unpack("!H", _exactly(sock, 2))
        return dns_message.read(_exactly(sock, length))


def _exactly(sock: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = sock.recv(count - len(received))
        if not piece:
            raise MessageError("the connection was closed before the end of the answer")
        received += piece
    return received

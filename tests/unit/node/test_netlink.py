# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listings that the kernel says were disturbed by changes are asked for again."""

from __future__ import annotations

import errno
import socket

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NetlinkError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import netlink as module
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.netlink import (
    HEADER,
    NETLINK_ROUTE,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    Netlink,
)

ENTRY = 20
MULTI = 2


def message(kind: int, flags: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, MULTI | flags, 1, 0) + body


class FakeSocket:
    """A kernel with the table ``aaaa``, ``bbbb``, less the second in the first ``disturbed`` listings."""

    disturbed = 0
    asked = 0

    def __init__(self, *_kind: object) -> None:
        self.answers: list[bytes] = []

    def setsockopt(self, *_option: object) -> None:
        pass

    settimeout = bind = setsockopt

    def close(self) -> None:
        pass

    def send(self, _message: bytes) -> None:
        FakeSocket.asked += 1
        done = bytes(4)
        if FakeSocket.asked <= FakeSocket.disturbed:
            self.answers = [message(ENTRY, 0, b"aaaa"), message(NLMSG_DONE, NLM_F_DUMP_INTR, done)]
        else:
            self.answers = [message(ENTRY, 0, b"aaaa") + message(ENTRY, 0, b"bbbb"), message(NLMSG_DONE, 0, done)]

    def recv(self, _size: int) -> bytes:
        return self.answers.pop(0)


def listed(disturbed: int, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    FakeSocket.disturbed, FakeSocket.asked = disturbed, 0
    monkeypatch.setattr(socket, "socket", FakeSocket)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    with Netlink(NETLINK_ROUTE, "list things") as netlink:
        return [data[start:end] for data, start, end in netlink.dump(18, b"")]


@pytest.mark.parametrize("disturbed", [0, 1, 5])
def test_a_listing_that_lost_an_entry_to_a_change_is_made_again(
    disturbed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed(disturbed, monkeypatch) == [b"aaaa", b"bbbb"]
    assert FakeSocket.asked == disturbed + 1


def test_a_table_that_never_stands_still_is_not_asked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetlinkError, match="list things: they changed during each of 20 listings") as caught:
        listed(1000, monkeypatch)
    assert caught.value.code == errno.EINTR
    assert FakeSocket.asked == module.DUMPS

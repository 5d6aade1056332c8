# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets as the kernel's tables show them, where it can't be asked through netlink."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NetlinkError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import listeners

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000     0        0"
TABLES = {
    "tcp": f"{HEAD}   0: 0100007F:7580 00000000:0000 0A {REST} 111 1 00 100 0 0 10 0\n"
    f"   1: 0100007F:7581 0200007F:0050 01 {REST} 112 1 00 100 0 0 10 0\n",
    "tcp6": f"{HEAD}   0: {'0' * 32}:7580 {'0' * 32}:0000 0A {REST} 113 1 00 100 0 0 10 0\n",
    "udp": f"{HEAD}  10: 00000000:7580 00000000:0000 07 {REST} 114 2 00 0\n",
    "udp6": f"{HEAD}  11: B80D0120000000000000000001000000:7582 {'0' * 32}:0000 07 {REST} 115 2 00 0\n",
}


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.byteorder != "little":
        pytest.fail("the tables of this test are those of a little-endian machine")

    def no_netlink(_kind: object, _states: object = ()) -> None:
        raise NetlinkError("list", 2)

    monkeypatch.setattr(listeners, "_ask", no_netlink)
    monkeypatch.setattr(listeners, "read_bytes", lambda path: TABLES[path.rsplit("/", 1)[1]].encode())


def test_only_sockets_that_wait_on_a_wanted_port_are_listed() -> None:
    assert listeners.sockets({("TCP", 0x7580), ("TCP", 0x7581), ("UDP", 0x7582)}) == [
        ("TCP", "127.0.0.1", 0x7580, 111),
        ("TCP", "::", 0x7580, 113),
        ("UDP", "2001:db8::1", 0x7582, 115),
    ]
    assert listeners.sockets({("UDP", 0x7580)}) == [("UDP", "0.0.0.0", 0x7580, 114)]
    assert listeners.sockets(set()) == []


def test_connections_are_sockets_with_another_end() -> None:
    assert listeners.connections() == {112}


def test_a_connection_has_its_port_as_well() -> None:
    assert [one.inode for one in listeners.with_ports(range(0x7581, 0x7583))] == [112, 115]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Entries of connection tracking: the quick way to read them says what the careful one says."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NetlinkError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.stale_flows import Flow
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import conntrack
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.netlink import (
    attribute,
    attributes,
    nested,
    nfgenmsg,
    refused,
)

ports = st.integers(0, 65535)
zones = st.integers(0, 65535)


@st.composite
def flows(draw: st.DrawFn, family: int) -> Flow:
    address = st.ip_addresses(v=family).map(str)
    return Flow(draw(address), draw(ports), draw(address), draw(ports), draw(address), draw(ports), draw(zones))


def encode_tuple(kind: int, flow: tuple[str, int, str, int], number: bytes, more: bytes) -> bytes:
    source, sport, target, dport = flow
    packed = [ipaddress.ip_address(text).packed for text in (source, target)]
    kinds = (1, 2) if len(packed[0]) == 4 else (3, 4)
    return nested(
        kind,
        nested(1, attribute(kinds[0], packed[0]), attribute(kinds[1], packed[1])),
        nested(2, attribute(1, number), attribute(2, sport.to_bytes(2, "big")), attribute(3, dport.to_bytes(2, "big"))),
        more,
    )


def encode(flow: Flow, number: bytes = b"\x11", more: bytes = b"") -> bytes:
    """An entry as the kernel writes it; ``more`` makes the tuples longer than usual."""
    answer = (flow.reply_src, flow.reply_sport, flow.orig_src, flow.orig_sport)
    zone = attribute(conntrack.CTA_ZONE, flow.zone.to_bytes(2, "big")) if flow.zone else b""
    return (
        nfgenmsg(2)
        + encode_tuple(conntrack.CTA_TUPLE_ORIG, flow[:4], number, more)
        + encode_tuple(conntrack.CTA_TUPLE_REPLY, answer, number, more)
        + zone
        + attribute(3, b"\0\0\0\x08")
    )


class FakeNetlink:
    """Gives out entries, in a buffer with something before and behind each."""

    entries: tuple[bytes, ...] = ()
    refusals: int = 0

    def __init__(self, *_unused: object) -> None:
        pass

    def __enter__(self) -> FakeNetlink:
        return self

    def __exit__(self, *_unused: object) -> None:
        pass

    def stream(self, _kind: int, _body: bytes) -> Iterator[tuple[bytes, int, int]]:
        if FakeNetlink.refusals:
            FakeNetlink.refusals -= 1
            raise refused("list", 22)
        for entry in FakeNetlink.entries:
            yield b"before" + entry + b"behind it", 6, 6 + len(entry)


@pytest.fixture(autouse=True)
def fake_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "Netlink", FakeNetlink)
    FakeNetlink.entries, FakeNetlink.refusals = (), 0


def listed(family: int, *entries: bytes) -> list[Flow]:
    FakeNetlink.entries = entries
    return list(conntrack.udp_flows(family))


def check(family: int, flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(conntrack, "_parse", lambda *_unused: pytest.fail("the usual layout was not recognised"))
        assert listed(family, encode(flow)) == [flow]
    assert listed(family, encode(flow, more=attribute(9, b"unknown"))) == [flow]


def test_both_ways_read_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    given(flows(4))(lambda flow: check(4, flow, monkeypatch))()


def test_both_ways_read_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    given(flows(6))(lambda flow: check(6, flow, monkeypatch))()


def test_other_protocols_and_families_are_left_out() -> None:
    flow = Flow("10.0.0.1", 1, "10.0.0.2", 2, "10.0.0.3", 3, 0)
    assert listed(4, encode(flow, number=b"\x06")) == []
    assert listed(6, encode(flow)) == []
    assert listed(4, nfgenmsg(2)) == []


def test_an_old_kernel_that_can_not_narrow_the_dump_is_asked_for_everything() -> None:
    flow = Flow("10.0.0.1", 1, "10.0.0.2", 2, "10.0.0.3", 3, 0)
    FakeNetlink.refusals = 1
    assert listed(4, encode(flow, number=b"\x06"), encode(flow)) == [flow]
    FakeNetlink.refusals = 2
    with pytest.raises(NetlinkError, match="Invalid argument"):
        listed(4, encode(flow))


@pytest.mark.parametrize("zone", [0, 9])
def test_a_deletion_always_carries_the_tuple(zone: int) -> None:
    """Without one, the kernel would empty the whole table."""
    flow = Flow("fd00::1", 1000, "fd00::2", 53, "fd00::3", 5353, zone)
    body = attributes(conntrack._deletion(flow), 4)
    tuple_only = attributes(encode_tuple(conntrack.CTA_TUPLE_ORIG, flow[:4], b"\x11", b""))
    assert body.pop(conntrack.CTA_TUPLE_ORIG) == tuple_only[conntrack.CTA_TUPLE_ORIG]
    assert body == ({conntrack.CTA_ZONE: b"\0\x09"} if zone else {})


class Refusing:
    """A socket to a kernel that refuses the first deletion."""

    def __init__(self, *_what: object) -> None:
        self.first = True

    def __enter__(self) -> Refusing:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def each(self, _kind: int, bodies: list[bytes]) -> list[int]:
        refused_ones = [errno.EBUSY] if self.first else []
        self.first = False
        deleted.extend(bodies[len(refused_ones) :])
        return [*refused_ones, *[0] * (len(bodies) - len(refused_ones))]


deleted: list[bytes] = []


def test_a_flow_that_stays_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted.clear()
    monkeypatch.setattr(conntrack, "Netlink", Refusing)
    many = [Flow("10.0.0.1", port, "10.0.0.2", 53, "10.0.0.3", 53, 0) for port in range(1, 1000)]
    with pytest.raises(NetlinkError, match="resource busy"):
        conntrack.delete(many)
    assert len(deleted) == len(many) - 1

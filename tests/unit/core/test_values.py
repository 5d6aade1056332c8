# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checked values: canonical spelling, and what may not be an address of a Service."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import values


@given(st.ip_addresses())
@example(ipaddress.ip_address("fe8::1"))
@example(ipaddress.ip_address("ff::1"))
@example(ipaddress.ip_address("febf::1"))
@example(ipaddress.ip_address("239.255.255.255"))
@example(ipaddress.ip_address("0.0.0.1"))
def test_what_is_no_target_for_traffic(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    nowhere = address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0)
    bad = nowhere or address.is_loopback or address.is_link_local or address.is_multicast
    if address.version == 6 and address.ipv4_mapped is not None:
        bad = True
    try:
        assert values.routable(str(address)) == str(address)
        assert not bad
    except values.Broken:
        assert bad


@pytest.mark.parametrize(
    "text", ["1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4\n", "1.2.3.4/32", "", "fe80::1%eth0", "::g"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(values.Broken):
        values.address(text)


@pytest.mark.parametrize(("text", "canonical"), [("FD00::0:1", "fd00::1"), ("fd00:0:0:0:1:0:0:1", "fd00::1:0:0:1")])
def test_ipv6_has_one_spelling(text: str, canonical: str) -> None:
    assert values.address(text) == canonical


def test_a_hostile_value_is_shown_short() -> None:
    for value in ("x" * 10_000_000, ["y"] * 100_000, {"k": "z" * 1000}, "\x1b[2J\n"):
        shown = values.shown(value)
        assert len(shown) <= 120
        assert shown.isprintable()

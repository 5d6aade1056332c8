# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns_names
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.values import Broken


@pytest.mark.parametrize(
    ("cidr", "zones"),
    [
        ("10.96.0.0/16", ["96.10.in-addr.arpa."]),
        ("10.0.0.0/8", ["10.in-addr.arpa."]),
        ("10.96.0.0/15", ["96.10.in-addr.arpa.", "97.10.in-addr.arpa."]),
        ("198.18.7.0/24", ["7.18.198.in-addr.arpa."]),
        ("198.18.7.128/25", ["7.18.198.in-addr.arpa."]),
        ("fd00:10:96::/48", ["6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa."]),
        ("fd00::/127", ["0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."]),
    ],
)
def test_reverse_zones_lie_on_boundaries(cidr: str, zones: list[str]) -> None:
    assert list(dns_names.reverse_zones([cidr])) == zones


def test_a_range_between_two_boundaries_is_several_zones() -> None:
    assert len(dns_names.reverse_zones(["10.96.0.0/12"])) == 16
    assert len(dns_names.reverse_zones(["10.96.0.0/12", "10.96.0.0/16"])) == 16


@pytest.mark.parametrize("cidrs", [["10.96.0.1/12"], ["web"], [7], ["10.0.0.0/9", "11.0.0.0/9", "12.0.0.0/9"]])
def test_reverse_cidrs_that_cannot_be_served_are_refused(cidrs: list[str]) -> None:
    with pytest.raises(OptionError, match="reverse_cidrs"):
        dns_names.reverse_zones(cidrs)


@given(st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None))
def test_the_name_of_an_address_is_the_standard_one_and_lies_in_the_zone_of_its_range(address: object) -> None:
    text = str(address)
    name = dns_names.reverse_name(text)
    assert name == ipaddress.ip_address(text).reverse_pointer + "."
    width = 108 if ":" in text else 16
    network = ipaddress.ip_network(f"{text}/{width}", strict=False)
    zones = dns_names.reverse_zones([str(network)])
    assert dns_names.zone_of(name, frozenset(zones)) == zones[0]


def test_the_longest_zone_has_the_name() -> None:
    origins = frozenset(["10.in-addr.arpa.", "96.10.in-addr.arpa."])
    assert dns_names.zone_of("1.0.96.10.in-addr.arpa.", origins) == "96.10.in-addr.arpa."
    assert dns_names.zone_of("1.0.97.10.in-addr.arpa.", origins) == "10.in-addr.arpa."
    assert dns_names.zone_of("1.0.97.110.in-addr.arpa.", origins) is None


@pytest.mark.parametrize(
    ("address", "label"),
    [("10.0.0.1", "10-0-0-1"), ("fd00::1", "fd00--1"), ("fd00:1::", "fd00-1--0")],
)
def test_the_label_of_an_endpoint_without_a_hostname(address: str, label: str) -> None:
    assert dns_names.dashed(address) == label
    assert dns_names.is_label(label)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("example.org", "example.org."),
        ("Example.ORG.", "example.org."),
        ("_srv.a_b.example", "_srv.a_b.example."),
    ],
)
def test_targets_of_external_names(text: str, target: str) -> None:
    assert dns_names.external_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "10.0.0.1",
        "fd00::1",
        "10.0.0.1.",
        "a b.org",
        'a".org',
        "a;b",
        "a\nb IN A 1.2.3.4",
        "x" * 64,
        "a." * 130 + "b",
        "*.org",
    ],
)
def test_targets_that_the_dns_cannot_hold(text: str) -> None:
    with pytest.raises(Broken):
        dns_names.external_target(text)


@pytest.mark.parametrize("value", ["", "a b", "x" * 64 + ".org", "10.in-addr.arpa", None, 'a"b'])
def test_domains_that_are_refused(value: object) -> None:
    with pytest.raises(OptionError, match="domain"):
        dns_names.cluster_domain(value)


def test_the_domain_is_absolute_and_lower_case() -> None:
    assert dns_names.cluster_domain("Cluster.Local.") == "cluster.local."

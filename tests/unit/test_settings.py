# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the options of a mode and the own Node object make of each other."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables import IptablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._options import completed
from ansible_collections.kubenode.servicenet.plugins.module_utils._services import settings

ADDRESSES = [
    ("ExternalIP", "203.0.113.7"),
    ("Hostname", "node-a"),
    ("InternalIP", "198.18.1.1"),
    ("InternalIP", "198.18.1.2"),
    ("ExternalIP", "2001:db8::7"),
]


def made(**options: Any) -> Settings:
    """The settings of node-a."""
    node = {
        "kind": "Node",
        "metadata": {"name": "node-a"},
        "status": {"addresses": [{"type": kind, "address": address} for kind, address in ADDRESSES]},
    }
    return settings(completed({"node_name": "node-a", **options}), build_snapshot([node]))


def test_the_first_address_of_each_family_is_the_primary_one() -> None:
    """An ExternalIP serves node ports only where there is no InternalIP of its family."""
    found = made(nodeport_addresses=["primary"])
    assert found.view.node_ips == ("198.18.1.1", "2001:db8::7")
    assert found.nodeport_addresses == ("198.18.1.1/32", "2001:db8::7/128")
    (rule,) = (rule for rule in NftablesCompiler(made()).chains(4)["output"].rules if "nodeport" in rule)
    assert " ip daddr 198.18.1.1 " in rule


def test_addresses_that_are_given_count_instead() -> None:
    assert made(node_ips=["198.18.1.2", "FD98:1::1"]).view.node_ips == ("198.18.1.2", "fd98:1::1")


def test_who_tolerates_packets_outside_the_window_has_no_invalid_ones_dropped() -> None:
    """As in kube-proxy: on asymmetric routes a packet is invalid because the other half of its connection is unseen."""
    for liberal in (False, True):
        found = made(conntrack_tcp_be_liberal=liberal)
        rules = IptablesCompiler(found).frame([])["4/filter/SERVICENET-FORWARD"]
        assert any("INVALID" in rule for rule in rules) != liberal
    assert made().digest != made(conntrack_tcp_be_liberal=True).digest


@pytest.mark.parametrize("address", ["node-a", "198.18.1.1/24", "", "::ffff:198.18.1.1"])
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(OptionError, match=r"^node_ips: .* is not "):
        made(node_ips=[address])

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode needs of a kernel beside virtual servers: its device, its sets, its rules; see test_in_uml.py."""

from __future__ import annotations

import pytest
from integration.in_namespace import namespace, run, sh
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import ipvs_rules, text_iptables
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import service_addresses
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipset_tool import IpsetTool
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_tool import LEGACY, IptablesTool

__all__ = ["namespace"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

PODS = Detector(("10.128.0.0/16", "10.130.0.0/16", "fd80::/16"))
SETTINGS = {
    "a detector": Settings(NodeView("node-a"), PODS),
    "an interface": Settings(NodeView("node-a"), Detector(interface="pod+"), masquerade_all=True),
    "no detector": Settings(NodeView("node-a")),
    "node port addresses": Settings(
        NodeView("node-a"),
        PODS,
        masquerade_bit=20,
        nodeport_addresses=("198.18.1.0/24", "198.18.2.1/32", "fd98:1::/64"),
    ),
}


def test_addresses_are_local_and_no_source_of_anything_else() -> None:
    device = service_addresses.make_device()
    assert device == service_addresses.make_device() == "servicenet0"
    many = [f"10.96.{i // 250}.{i % 250 + 1}" for i in range(500)]
    service_addresses.add(device, [*many, "fd00:10:96::1"])
    service_addresses.add(device, [*many[:1], "fd00:10:96::1"])
    assert {address for address, where in service_addresses.held().items() if where == device} >= {*many}
    assert "fd00:10:96::1" in service_addresses.held()
    # Nothing leaves with the address of a Service, but for what is sent to that very address.
    assert sh("ip route get 10.96.0.7").startswith("local 10.96.0.7")
    sh("ip link add out0 type dummy")
    sh("ip link set out0 up")
    sh("ip route add default dev out0")
    assert "src 10.96." not in sh("ip route get 198.18.0.9")
    service_addresses.remove(device, [many[0], many[0], "fd00:10:96::1"])
    assert many[0] not in service_addresses.held()
    assert many[1] in service_addresses.held()
    service_addresses.remove_device()
    service_addresses.remove_device()
    assert many[1] not in service_addresses.held()


def test_sets_hold_entries_and_marks() -> None:
    tool = IpsetTool(run)
    sh("ipset create FOREIGN hash:ip")
    for family in (4, 6):
        tool.restore("".join(f"{line}\n" for line in ipvs_rules.declarations(family).values()))
    before = tool.read()
    assert set(before) == {
        ipvs_rules.set_name(family, name) for family in (4, 6) for name in ipvs_rules.declarations(family)
    }
    assert not any(before.values())
    lines = (
        "add SERVICENET-INT-4 10.96.0.1,tcp:80",
        "add SERVICENET-SPLIT-6 fd98:19::1,udp:53 skbmark 0x5e000012",
        "add SERVICENET-NP-4 0.0.0.0/1,sctp:30001 skbmark 0x5e004014",
        "add SERVICENET-ALLOW-4 198.19.1.1,tcp:80,198.18.0.0/16",
        "del SERVICENET-INT-4 10.96.0.2,tcp:80",
    )
    tool.restore("".join(f"{line}\n" for line in lines))
    held = tool.read()
    assert held["SERVICENET-INT-4"] == {"10.96.0.1,tcp:80": 0}
    assert held["SERVICENET-SPLIT-6"] == {"fd98:19::1,udp:53": 0x5E000012}
    assert held["SERVICENET-NP-4"] == {"0.0.0.0/1,sctp:30001": 0x5E004014}
    assert held["SERVICENET-ALLOW-4"] == {"198.19.1.1,tcp:80,198.18.0.0/16": 0}
    tool.restore("add SERVICENET-SPLIT-6 fd98:19::1,udp:53 skbmark 0x0/0x0\n")
    assert tool.read()["SERVICENET-SPLIT-6"] == {"fd98:19::1,udp:53": 0}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_kernel_takes_the_rules_and_shows_them_as_they_are_spelled(settings: Settings) -> None:
    frame = ipvs_rules.frame(settings)
    for family in (4, 6):
        IpsetTool(run).restore("".join(f"{line}\n" for line in ipvs_rules.declarations(family).values()))
        tool = IptablesTool(run, family, LEGACY)
        for table, hooks in ipvs_rules.HOOKS.items():
            prefix = f"{family}/chain/{table}/"
            wanted = {name[len(prefix) :]: rules for name, rules in frame.items() if name.startswith(prefix)}
            own = {chain: (None, rules) for chain, rules in wanted.items() if chain not in hooks}
            jumps = {chain: (None, wanted[chain]) for chain in hooks}
            tool.restore(text_iptables.transaction(table, own, jumps))
            held = tool.save([table])[table]
            assert {chain: held[chain] for chain in wanted} == wanted

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Into the mode ipvs and out of it, as test_mode_switch.py does it with the other modes; see test_in_uml.py."""

from __future__ import annotations

import pytest
from integration.services_lab import NODE_IPS, module_server, services_lab, vip
from integration.test_mode_switch import ALL, WEB, Switch, switch
from uml.machine import has_ip_vs

__all__ = ["module_server", "services_lab", "switch"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

CASES = [case for case in ALL if "ipvs" in case]
SHORT = ("iptables-legacy", "ipvs", "iptables")


@pytest.mark.parametrize(
    ("switch", "old", "new"),
    [pytest.param(*case, marks=[] if case == SHORT else pytest.mark.soak) for case in CASES],
    indirect=["switch"],
)
def test_connections_survive_a_switch(switch: Switch, old: str, new: str) -> None:
    # Virtual servers stay for connections that were closed lately; nobody waits for those minutes here.
    switch.under_load(old, new, {"ipvs_drain_seconds": 0} if old == "ipvs" else {})
    if old == "ipvs":
        assert switch.node.sh("ipvsadm -S -n") + switch.node.sh("ipset save") == ""
        assert "servicenet0" not in switch.node.sh("ip -o link")


@pytest.mark.soak
@pytest.mark.parametrize("switch", ["iptables-nft"], indirect=True)
def test_ipvs_leaves_alone_what_the_next_mode_has_translated(switch: Switch) -> None:
    """It would remember a connection to nginx, and take packets of the next one from the same port of the client."""
    node = switch.node
    node.give(WEB)
    switch.run("ipvs")
    switch.run("userspace")
    for client in ("ext", "pod", "pod-self", "remote-pod"):
        for address, port in ((NODE_IPS[0], 30080), (NODE_IPS[1], 30080), (vip(10), 80), (vip(10, 6), 80)):
            assert set(node.probe(client, address, port, count=8)) == {"pod-a1:8080", "pod-b1:8080"}
    assert "TCP" not in node.sh("ipvsadm -L -n -c")

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Into the mode ipvs and out of it, as test_mode_switch.py does it with the other modes; see test_in_uml.py. Debian's
kernel of User Mode Linux has no nftables for IPv4 and IPv6, so the other mode is iptables there, and each where the
kernel has both."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.services_lab import (
    IPVS,
    VARIANTS,
    ModuleServer,
    ServicesLab,
    ServicesNode,
    module_server,
    services_lab,
)
from integration.test_mode_switch import Switch
from uml.machine import has_ip_vs

__all__ = ["module_server", "services_lab"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

OTHERS = {"iptables": VARIANTS["iptables-legacy"]}
if has_ip_vs() and subprocess.run(["nft", "list", "tables", "ip"], check=False, capture_output=True).returncode == 0:
    OTHERS["nftables"] = VARIANTS["nftables"]
MODES = {**OTHERS, "ipvs": IPVS}
SWITCHES = [pair for other in OTHERS for pair in ((other, "ipvs"), ("ipvs", other))]
SHORT = ("ipvs", "iptables")


@pytest.fixture
def switch(services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path) -> Iterator[Switch]:
    """A node without any rules; in the end it has none again."""
    # One whose own options no mode refuses.
    made = Switch(ServicesNode(services_lab, module_server, VARIANTS["nftables"], tmp_path), MODES)
    yield made
    for mode in OTHERS:
        made.run(mode, state="absent")
    made.run("ipvs", state="absent", ipvs_drain_seconds=0)


@pytest.mark.parametrize(
    ("old", "new"), [pytest.param(*pair, marks=[] if pair == SHORT else pytest.mark.soak) for pair in SWITCHES]
)
def test_connections_survive_a_switch(switch: Switch, old: str, new: str) -> None:
    # Virtual servers stay for connections that were closed lately; nobody waits for those minutes here.
    switch.under_load(old, new, {"ipvs_drain_seconds": 0} if old == "ipvs" else {})
    if old == "ipvs":
        assert switch.node.sh("ipvsadm -S -n") + switch.node.sh("ipset save") == ""
        assert "servicenet0" not in switch.node.sh("ip -o link")

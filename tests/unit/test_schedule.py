# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a run in several processes is cut up."""

from __future__ import annotations

from pathlib import Path

import pytest
import schedule

PACKETS = "tests/conformance/test_packets.py"
KILL = "tests/integration/test_services_kill.py"
GUIDES = "tests/integration/test_guides.py"


def test_every_file_that_is_named_is_there(checkout: Path) -> None:
    assert [name for name in schedule.LONGEST if not (checkout / name).is_file()] == []


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/unit/core/test_dns.py::test_one[iptables]", "tests/unit/core/test_dns.py"),
        (f"{PACKETS}::test_case[iptables-nft-clusterip-tcp]", f"{PACKETS} iptables-nft"),
        (f"{PACKETS}::test_case[userspace-nodeport-nftables]", f"{PACKETS} userspace"),
        (f"{PACKETS}::test_deviations_mean_something", PACKETS),
        (f"{KILL}::test_a_udp_flow_moves_to_a_living_endpoint[iptables-legacy-4]", f"{KILL} iptables-legacy"),
        (f"{KILL}::test_a_udp_flow_moves_to_a_living_endpoint[6-nftables]", f"{KILL} nftables"),
        (f"{GUIDES}::test_air_gapped", f"{GUIDES}::test_air_gapped"),
    ],
)
def test_what_stays_together(test: str, group: str) -> None:
    assert schedule.group(test) == group

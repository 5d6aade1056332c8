# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recorded cases in mode ipvs, replayed in User Mode Linux where this machine's kernel has no ip_vs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from uml import machine

# `make conformance` replays all of them.
NAMED = ("clusterip-tcp", "etp-local", "source-ranges-ext")
SECONDS, SECONDS_IN_FULL = 900, 7200


def test_cases(checkout: Path, full_figures: bool) -> None:
    """All packets go where the real kube-proxy lets them go, and a cleanup leaves nothing."""
    if machine.has_ip_vs():
        pytest.skip("this kernel has ip_vs: test_packets.py replays them")
    obstacle = machine.obstacle()
    if obstacle:
        pytest.skip(obstacle)
    packets = Path("tests/conformance/packets")
    adapter = f"{sys.executable} {packets / 'adapter_servicenet.py'} --variant legacy"
    cases = ["*"] if full_figures else list(NAMED)
    command = [sys.executable, str(packets / "run.py"), "--adapter", adapter, "--mode", "ipvs", "--deviations"]
    ended = machine.run_inside([*command, "--case", *cases], checkout, SECONDS_IN_FULL if full_figures else SECONDS)
    assert ended.status == 0, ended.output or ended.console

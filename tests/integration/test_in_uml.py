# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the tests that need ip_vs or dummy devices in User Mode Linux, where this machine's kernel has none."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from uml import machine

FILES = (
    "tests/integration/test_ipvs_kernel.py",
    "tests/integration/test_ipvs_parts.py",
    "tests/integration/test_ipvs_packets.py",
    "tests/integration/test_ipvs_services.py",
    "tests/integration/test_ipvs_node.py",
    "tests/integration/test_ipvs_drain.py",
    # It is run natively as well, but this kernel may have no dummy devices.
    "tests/integration/test_dns_network.py::test_addresses_come_and_go",
)


SECONDS = 1800


def run_inside(checkout: Path, directory: Path, file: str, *flags: str) -> None:
    """Every test of a file that the flags choose passes on the kernel of User Mode Linux, and none is skipped there."""
    if machine.has_ip_vs():
        pytest.skip("this kernel has ip_vs: the tests ran natively")
    obstacle = machine.obstacle()
    if obstacle:
        pytest.skip(obstacle)
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *flags, file]
    ended = machine.run_inside(command, checkout, SECONDS)
    assert ended.status == 0, ended.output or ended.console
    cases = list(ET.parse(report).iter("testcase"))
    assert cases
    assert not [case.get("name") for case in cases if len(case)], ended.output


@pytest.mark.parametrize("file", FILES)
def test_what_needs_ip_vs(checkout: Path, tmp_path: Path, file: str) -> None:
    run_inside(checkout, tmp_path, file, "-m", "not soak")


@pytest.mark.soak
@pytest.mark.parametrize("file", ["tests/integration/test_ipvs_drain.py"])
def test_what_needs_ip_vs_and_time(checkout: Path, tmp_path: Path, file: str, full_figures: bool) -> None:
    if not full_figures:
        pytest.skip("User Mode Linux is slow: only make soak runs these")
    run_inside(checkout, tmp_path, file, "-m", "soak")

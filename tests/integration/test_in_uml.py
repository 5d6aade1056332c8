# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the tests that need ip_vs or dummy devices in User Mode Linux, where this machine's kernel has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from uml.tests_inside import run_tests

HERE = "tests/integration"
# What is short shares a boot.
GROUPS = {
    "parts": (
        "test_ipvs_kernel.py",
        "test_ipvs_parts.py",
        # It is run natively as well, but this kernel may have no dummy devices.
        "test_dns_network.py::test_addresses_come_and_go",
        "test_ipvs_node.py",
        "test_ipvs_packets.py",
    ),
    "services": ("test_ipvs_services.py",),
    "drain": ("test_ipvs_drain.py",),
    "switch": ("test_ipvs_switch.py",),
}

IN_EVERY_MODE = ("test_services_explain.py", "test_confirm.py", "test_rollback.py")


@pytest.mark.parametrize("group", GROUPS)
def test_what_needs_ip_vs(checkout: Path, tmp_path: Path, group: str) -> None:
    run_tests(checkout, tmp_path, "-m", "not soak", *(f"{HERE}/{file}" for file in GROUPS[group]))


@pytest.fixture
def patience(full_figures: bool) -> None:
    """Skips what takes too long for anything but the full figures."""
    if not full_figures:
        pytest.skip("User Mode Linux is slow: only make soak runs these")


@pytest.mark.soak
@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("group", ["drain", "services", "switch"])
def test_what_needs_ip_vs_and_time(checkout: Path, tmp_path: Path, group: str) -> None:
    run_tests(checkout, tmp_path, "-m", "soak", *(f"{HERE}/{file}" for file in GROUPS[group]))


@pytest.mark.soak
@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("file", IN_EVERY_MODE)
def test_what_every_mode_goes_through(checkout: Path, tmp_path: Path, file: str) -> None:
    run_tests(checkout, tmp_path, "-k", "ipvs", f"{HERE}/{file}")

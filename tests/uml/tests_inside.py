# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that need another kernel, run inside User Mode Linux by a test out here."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from uml import machine


def run_tests(checkout: Path, directory: Path, *arguments: str, seconds: float = 1800) -> None:
    """The tests that pytest's arguments choose pass inside, and none is skipped there; see ``need_another_kernel``."""
    need_another_kernel()
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
    ended = machine.run_inside(command, checkout, seconds)
    assert ended.status == 0, ended.output or ended.console
    cases = list(ET.parse(report).iter("testcase"))
    assert cases
    assert not [case.get("name") for case in cases if len(case)], ended.output


def need_another_kernel() -> None:
    """Skips where this kernel has ip_vs: then the tests run natively. Where they can run neither way, that is a failure
    in CI: nobody would see a skip."""
    if machine.has_ip_vs():
        pytest.skip("this kernel has ip_vs: the tests ran natively")
    obstacle = machine.obstacle()
    if obstacle:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(obstacle)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recorded cases in mode ipvs, replayed in User Mode Linux where this machine's kernel has no ip_vs."""

from __future__ import annotations

from pathlib import Path

from uml.tests_inside import run_tests

FILE = "tests/conformance/test_packets.py"
# `make conformance` replays all of them.
NAMED = ("clusterip-tcp", "etp-local", "source-ranges-ext")
SECONDS, SECONDS_IN_FULL = 900, 7200


def test_cases(checkout: Path, tmp_path: Path, full_figures: bool) -> None:
    """All packets go where the real kube-proxy lets them go, and a cleanup leaves nothing."""
    if full_figures:
        run_tests(checkout, tmp_path, FILE, "-k", "test_case and ipvs", seconds=SECONDS_IN_FULL)
    else:
        run_tests(checkout, tmp_path, *(f"{FILE}::test_case[ipvs-{name}]" for name in NAMED), seconds=SECONDS)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recorded cases in mode ipvs, replayed in User Mode Linux where this machine's kernel has no ip_vs, and random
clusters with it: what the real kube-proxy does with those is recorded out here first. SEED=N is for one of them,
SEED=N-M for several."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from uml.tests_inside import need_another_kernel, run_tests

from conformance.random.recording import record
from conformance.test_random_packets import seeds

FILE = "tests/conformance/test_packets.py"
# `make conformance` replays all of them.
NAMED = ("clusterip-tcp", "etp-local", "source-ranges-ext")
SOME, ALL = 1, 40
SECONDS, SECONDS_IN_FULL = 1400, 7200


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Records that many random clusters, or those of SEED, for the tests inside -> their names."""

    def make(number: int) -> list[str]:
        need_another_kernel()
        directory = tmp_path / "recorded"
        directory.mkdir()
        monkeypatch.setenv("SERVICENET_RECORDED", str(directory))
        return record(seeds() if os.environ.get("SEED") else range(1, number + 1), directory)

    return make


def test_cases(checkout: Path, tmp_path: Path, full_figures: bool, recorded: Callable[[int], list[str]]) -> None:
    """All packets go where the real kube-proxy lets them go, and a cleanup leaves nothing."""
    if full_figures:
        run_tests(checkout, tmp_path, FILE, "-k", "test_case and ipvs", seconds=SECONDS_IN_FULL)
    else:
        # They share a boot.
        run_tests(checkout, tmp_path, *map(in_ipvs, [*NAMED, *recorded(SOME)]), seconds=SECONDS)


def test_random_clusters(
    checkout: Path, tmp_path: Path, full_figures: bool, recorded: Callable[[int], list[str]]
) -> None:
    """The same with random clusters."""
    if not full_figures:
        pytest.skip("User Mode Linux is slow: test_cases has one of them")
    run_tests(checkout, tmp_path, *map(in_ipvs, recorded(ALL)), seconds=SECONDS_IN_FULL)


def in_ipvs(name: str) -> str:
    """The test of a case."""
    return f"{FILE}::test_case[ipvs-{name}]"

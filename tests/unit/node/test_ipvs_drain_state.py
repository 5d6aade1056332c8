# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What drains is remembered for one boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._node import ipvs_drain_state
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs_drain_state import DrainState

SINCE = {"4/drain/TCP/10.96.0.1/80/0x0/10.128.0.1/8080": 100}


def test_it_is_written_and_gone_when_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ipvs_drain.json"
    state = DrainState(str(path))
    assert state.load() == {}
    state.save({})
    assert not path.exists()
    state.save(SINCE)
    assert state.load() == SINCE
    state.save({})
    assert not path.exists()


def test_a_boot_makes_it_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = DrainState(str(tmp_path / "ipvs_drain.json"))
    state.save(SINCE)
    monkeypatch.setattr(ipvs_drain_state, "boot_id", lambda: "another")
    assert state.load() == {}


@pytest.mark.parametrize("since", ["7", "[]", '{"4/drain/x": "1"}', '{"4/real/x": 1}'])
def test_what_is_not_ours_counts_as_none(tmp_path: Path, since: str) -> None:
    path = tmp_path / "ipvs_drain.json"
    path.write_text(f'{{"boot": "{ipvs_drain_state.boot_id()}", "since": {since}}}')
    assert DrainState(str(path)).load() == {}
    path.write_text("{")
    assert DrainState(str(path)).load() == {}


def test_the_clock_is_the_kernels_own() -> None:
    before = float(Path("/proc/uptime").read_text().split()[0])
    assert before - 1 <= ipvs_drain_state.now() <= float(Path("/proc/uptime").read_text().split()[0])

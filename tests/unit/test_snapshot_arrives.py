# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A snapshot that was handed to a node takes the place of the one there, whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import stored
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.lock import Lock
from ansible_collections.kubenode.servicenet.plugins.module_utils._options import completed, recorded
from ansible_collections.kubenode.servicenet.plugins.module_utils._services import (
    SNAPSHOT_MODE,
    lacks_snapshot,
    take_in,
)

ROLES = Path(__file__).resolve().parents[2] / "roles"


def of(*names: str) -> bytes:
    """The snapshot of a cluster with these namespaces."""
    return snapshot.dump(build_snapshot([{"kind": "Namespace", "metadata": {"name": name}} for name in names]))


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    """The options of a node that has no snapshot yet and gets one."""
    (tmp_path / "arrived").write_bytes(of("new"))
    places = {"snapshot": "kept/snapshot", "snapshot_arrived": "arrived", "run_dir": "run"}
    options = {name: str(tmp_path / place) for name, place in places.items()}
    return completed({**options, "snapshot_digest": snapshot.load(of("new")).digest})


def test_it_takes_the_place_of_none_and_of_an_old_one(params: dict[str, Any]) -> None:
    place = Path(params["snapshot"])
    assert lacks_snapshot(params)
    for _old in range(2):
        assert take_in(params, False)
        assert place.read_bytes() == of("new")
        assert not lacks_snapshot(params)
        assert [stat.S_IMODE(path.stat().st_mode) for path in (place.parent, place)] == [0o755, 0o640]
        place.write_bytes(of("old"))
    place.write_bytes(of("new"))
    written = place.stat()
    assert not take_in(params, False)
    assert place.stat() == written
    assert list(place.parent.iterdir()) == [place]
    # How it came says nothing about the rules.
    assert "snapshot_arrived" not in recorded(params)


def test_a_damaged_one_is_refused(params: dict[str, Any]) -> None:
    place = Path(params["snapshot"])
    take_in(params, False)
    for data in (b"", of("newer")[:-9]):
        Path(params["snapshot_arrived"]).write_bytes(data)
        with pytest.raises(ServicenetError):
            take_in(params, False)
        assert place.read_bytes() == of("new")


def test_it_waits_for_a_run_that_is_at_work(params: dict[str, Any]) -> None:
    lock = Path(params["run_dir"]) / "lock"
    with Lock(str(lock), 0), pytest.raises(ServicenetError, match="held the lock"):
        take_in({**params, "lock_timeout": 0}, False)
    assert not Path(params["snapshot"]).exists()


def test_the_same_that_another_run_brought_meanwhile_is_none(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, wait = Path(params["snapshot"]), Lock.__enter__

    def until_the_other_has_ended(lock: Lock) -> Lock:
        place.parent.mkdir()
        place.write_bytes(of("new"))
        return wait(lock)

    monkeypatch.setattr(Lock, "__enter__", until_the_other_has_ended)
    assert not take_in(params, False)


def test_check_mode_looks_at_it_where_it_arrived(params: dict[str, Any]) -> None:
    place = Path(params["snapshot"])
    assert take_in(params, True)
    assert not place.parent.exists()
    assert not Path(params["run_dir"]).exists()
    assert params["snapshot"] == params["snapshot_arrived"]
    assert not lacks_snapshot(params)


def test_rules_that_go_need_none(params: dict[str, Any]) -> None:
    assert not take_in({**params, "state": "absent"}, False)
    assert not Path(params["snapshot"]).exists()


def test_a_place_that_can_not_be_made_is_told(params: dict[str, Any]) -> None:
    Path(params["snapshot"]).parent.write_text("in the way")
    with pytest.raises(ServicenetError, match="can't be written: File exists"):
        take_in(params, False)


def test_a_place_without_a_directory_is_the_working_one(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert take_in({**params, "snapshot": "snapshot"}, False)
    assert Path("snapshot").read_bytes() == of("new")


def test_it_has_the_same_mode_however_it_came() -> None:
    """By the role, by the module of a mode, or by the agent of the node."""
    tasks = yaml.safe_load((ROLES / "cluster_snapshot/tasks/hand_out.yml").read_text())
    (by_role,) = (task["ansible.builtin.copy"]["mode"] for task in tasks if "ansible.builtin.copy" in task)
    assert int(by_role, 8) == SNAPSHOT_MODE == stored.FILE_MODE

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What guards a change that waits to be confirmed, where nothing but files is needed to see it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils import _programming as programming
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import holds
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.holds import Waiting
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.lock import BusyError
from ansible_collections.kubenode.servicenet.plugins.module_utils._options import completed
from ansible_collections.kubenode.servicenet.plugins.module_utils._outcome import Outcome
from ansible_collections.kubenode.servicenet.plugins.module_utils._rolling_back import ARGUMENTS, roll_back
from ansible_collections.kubenode.servicenet.plugins.module_utils._runner import Request


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    return {"state_dir": str(tmp_path), "run_dir": str(tmp_path / "run"), "lock_timeout": 1}


def waiting(until: float) -> Waiting:
    return Waiting("token", "nftables", {}, until, 5, 0, {"mode": "", "digest": "", "options": {}})


def no_tool(_argv: list[str], _data: str | None = None) -> tuple[int, str, str]:
    return 127, "", ""


def test_who_waits_goes_on_where_a_file_can_not_be_read_for_once(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the whole system has no more files to open: nobody else would go back."""
    holds.wait(params["state_dir"], waiting(time.time() - 1))
    read, went = holds.waiting, []

    def failing(state_dir: str) -> Waiting | None:
        if not went:
            went.append("failed")
            raise ServicenetError("confirm.json can't be read: Too many open files in system.")
        return read(state_dir)

    def go_back(_params: dict[str, Any], _makers: Any, _run: Any, token: str) -> None:
        went.append(token)
        holds.settled(params["state_dir"])

    monkeypatch.setattr(holds, "waiting", failing)
    monkeypatch.setattr(programming, "go_back", go_back)
    monkeypatch.setattr(programming, "TRY_AGAIN_SECONDS", 0)
    programming._watch(params, {}, no_tool, "token")
    assert went == ["failed", "token"]


def test_a_removal_waits_for_who_goes_back(params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the hold that comes of going back would stay on a node without any rules."""
    nothing = Outcome(False, [], [], [], [], {})
    monkeypatch.setattr(programming, "make_absent", lambda *_rest: nothing)
    monkeypatch.setattr(programming, "make_present", lambda *_rest: nothing)
    absent = completed({**params, "state": "absent", "lock_timeout": 0})
    makers: Any = {"nftables": lambda _params: None}
    kept = holds.made

    def made(*arguments: Any) -> holds.Hold:
        with pytest.raises(BusyError):
            programming.program("nftables", absent, makers, no_tool)
        return kept(*arguments)

    monkeypatch.setattr(holds, "made", made)
    holds.wait(params["state_dir"], waiting(time.time() - 1)._replace(hold_seconds=600))
    programming.go_back(params, makers, no_tool, "token")
    programming.program("nftables", absent, makers, no_tool)
    assert (holds.held(params["state_dir"]), holds.waiting(params["state_dir"])) == (None, None)


@pytest.mark.parametrize("check", [True, False])
def test_a_node_can_be_held_where_it_is(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    """In check mode the state in force is not kept yet, and what it was made of is there all the same."""
    data = snapshot.dump(build_snapshot([{"kind": "Namespace", "metadata": {"name": "shop"}}]))
    digest = snapshot.load(data).digest
    (tmp_path / "nftables.jsonl.gz").write_bytes(data)
    (tmp_path / "nftables.json").write_text(json.dumps({"snapshot": digest, "options": {}}))
    before = sorted(tmp_path.iterdir())

    def present(asked: Request, *_rest: Any) -> Outcome:
        assert asked.check == check
        return Outcome(False, [], [], [], [], {"digest": snapshot.load(Path(asked.snapshot).read_bytes()).digest})

    monkeypatch.setattr(programming, "make_present", present)
    given = {**{name: argument["default"] for name, argument in ARGUMENTS.items()}, **params}
    done = roll_back({**given, "to": digest[:12]}, no_tool, check)
    assert (done.changed, done.facts["digest"]) == (True, digest)
    assert (sorted(tmp_path.iterdir()) == before) == check

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kept states and holds as files: what is kept and found, what a broken or foreign file does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import holds, kept_states
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.kept_states import State


def state(directory: Path, name: str) -> State:
    """A state whose snapshot, with one Namespace, is the one that is applied."""
    made = build_snapshot([{"kind": "Namespace", "metadata": {"name": name}}])
    applied = directory / "nftables.jsonl.gz"
    applied.unlink(missing_ok=True)  # as an atomic write does, and not into the file that may be linked
    applied.write_bytes(snapshot.dump(made))
    return State("nftables", made.digest, {"zone": name}, {})


def keep(directory: Path, left: State, now: float = 1) -> None:
    """Keeps what is applied."""
    kept_states.keep(str(directory), left, str(directory / "nftables.jsonl.gz"), now)


def test_states_are_found_by_their_order_and_by_their_digest(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b", "c"):
        made.append(state(tmp_path, name))
        keep(tmp_path, made[-1])
    there = kept_states.kept(str(tmp_path))
    assert [one.options["zone"] for one in there] == ["c", "b", "a"]
    assert there[0].counts["namespaces"] == 1
    assert kept_states.find(str(tmp_path), "previous", None).same(made[2])
    assert kept_states.find(str(tmp_path), "previous", made[2]).same(made[1])
    assert kept_states.find(str(tmp_path), made[0].digest[:6], None).same(made[0])
    for wanted in (made[0].digest[:5], "", "nothing"):
        with pytest.raises(OptionError, match="kept are, the newest first"):
            kept_states.find(str(tmp_path), wanted, None)
    # Kept again, a state is the newest, and there once.
    state(tmp_path, "a")
    keep(tmp_path, made[0], 2)
    assert [one.options["zone"] for one in kept_states.kept(str(tmp_path))] == ["a", "c", "b"]
    kept_states.prune(str(tmp_path), 1, {made[1].digest})
    assert [one.options["zone"] for one in kept_states.kept(str(tmp_path))] == ["a"]
    left = {path.name for path in (tmp_path / "kept").glob("*.gz")}
    assert left == {f"{made[0].digest}.jsonl.gz", f"{made[1].digest}.jsonl.gz"}
    kept_states.forget(str(tmp_path))
    assert not (tmp_path / "kept").exists()


def test_another_snapshot_in_the_place_of_the_applied_one_is_not_kept(tmp_path: Path) -> None:
    left = state(tmp_path, "a")
    state(tmp_path, "b")
    keep(tmp_path, left)
    (tmp_path / "nftables.jsonl.gz").write_bytes(b"no gzip")
    keep(tmp_path, left)
    assert kept_states.kept(str(tmp_path)) == []


def test_broken_files_are_no_states_and_no_holds(tmp_path: Path) -> None:
    keep(tmp_path, state(tmp_path, "a"))
    (tmp_path / "kept" / "000002.json").write_text("{")
    (tmp_path / "kept" / "000003.json").write_text("[1]")
    (tmp_path / "kept" / "notes.json").write_text("{}")
    assert len(kept_states.kept(str(tmp_path))) == 1
    for text in ("{", "[]", "{}", json.dumps({"reason": "x"})):
        (tmp_path / "hold.json").write_text(text)
        (tmp_path / "confirm.json").write_text(text)
        assert holds.held(str(tmp_path)) is None
        assert holds.waiting(str(tmp_path)) is None


def test_a_hold_says_until_when_and_ends(tmp_path: Path) -> None:
    at = State("nftables", "0123456789abcdef", {}, {})
    hold = holds.made(holds.ROLLED_BACK, at, 60)
    holds.put(str(tmp_path), hold)
    assert holds.held(str(tmp_path)) == hold
    assert "the state 0123456789ab (mode nftables), because it was rolled back at" in hold.says()
    assert " UTC, or until it is released with " in hold.says()
    assert ", or until" not in holds.made(holds.ROLLED_BACK, at, 0).says()
    holds.put(str(tmp_path), hold._replace(until=time.time() - 1))
    assert holds.held(str(tmp_path)) is None
    holds.put(str(tmp_path), None)
    assert not (tmp_path / "hold.json").exists()

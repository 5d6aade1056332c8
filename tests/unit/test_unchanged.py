# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short way of a run that finds nothing to do: what it takes for granted, what sends a run the long way, and that
none of the code that compiles is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collection_tree import collections_path

from ansible_collections.kubenode.servicenet.plugins.module_utils import _preflight, _state_files
from ansible_collections.kubenode.servicenet.plugins.module_utils import _unchanged_module as asking
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight_model import Report, SysctlChange
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import files, hold_files
from ansible_collections.kubenode.servicenet.plugins.module_utils._options import TOLD_APART, completed, recorded
from ansible_collections.kubenode.servicenet.plugins.module_utils._outcome import Outcome
from ansible_collections.kubenode.servicenet.plugins.module_utils._unchanged import unchanged
from ansible_collections.kubenode.servicenet.plugins.module_utils._watch import Watch

UTILS = "ansible_collections.kubenode.servicenet.plugins.module_utils"
MODULES = "ansible_collections.kubenode.servicenet.plugins.modules"
# What only a run with something to do may cost the time to compile.
LATE = ("_runner", "_programming", "_services", "_core.snapshot", "_core.model", "_core.resolve", "_core.passes")
VERSION, TOKEN = 7, "boot:1.1:5"
MADE = build_snapshot([{"kind": "Namespace", "metadata": {"name": "shop"}}])
OTHER = build_snapshot([{"kind": "Namespace", "metadata": {"name": "bank"}}])


class Left:
    """What a run left on a node, and the options of the next one."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self.snapshot = directory / "snapshot.jsonl.gz"
        self.options: dict[str, Any] = {
            "snapshot": str(self.snapshot),
            "state_dir": str(self.state_dir),
            "run_dir": str(directory / "run"),
            "node_name": "node-a",
            "ip_families": ["ipv4"],
        }
        self.params = completed(self.options)
        self.watch = Watch(VERSION, TOKEN, "", ("another warning",))
        settings = Settings(NodeView("node-a", families=(4,)))
        self.record = _state_files.record(
            recorded(self.params), VERSION, settings.recorded(), MADE.digest, TOKEN, "0123"
        )
        self.applied = Path(_state_files.applied_path(str(self.state_dir), "nftables"))
        for path in (self.snapshot, self.applied):
            files.write_atomic(str(path), snapshot.dump(MADE))

    def run(self) -> Outcome | None:
        files.write_json(_state_files.record_path(str(self.state_dir), "nftables"), self.record)
        return unchanged("nftables", self.params, lambda _params, _families, _run: self.watch, _nothing_runs)


def _nothing_runs(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
    raise AssertionError((argv, data))


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    monkeypatch.setattr(_preflight, "report", lambda *_arguments: Report((), ("a warning",), ()))
    return Left(tmp_path)


def test_a_node_as_the_last_run_left_it_is_told_at_once(left: Left) -> None:
    outcome = left.run()
    assert outcome is not None
    assert (outcome.changed, outcome.before, outcome.after, outcome.drift) == (False, [], [], [])
    assert outcome.warnings == ["another warning", "a warning"]
    assert (outcome.facts["digest"], outcome.facts["counts"]) == (MADE.digest, MADE.counts)
    left.params["snapshot_digest"] = MADE.digest
    assert left.run() == outcome


def _other_snapshot(left: Left) -> None:
    left.snapshot.write_bytes(snapshot.dump(OTHER))


def _altered_lines(left: Left) -> None:
    left.snapshot.write_bytes(snapshot.dump(OTHER._replace(digest=MADE.digest)))


def _both_other(left: Left) -> None:
    for path in (left.snapshot, left.applied):
        path.write_bytes(snapshot.dump(OTHER))


def _one_file(left: Left) -> None:
    left.snapshot.unlink()
    left.snapshot.symlink_to(left.applied)


def _both_broken(left: Left) -> None:
    for path in (left.snapshot, left.applied):
        path.write_bytes(b"no gzip")


LONG_WAY: dict[str, Callable[[Left], object]] = {
    "it is to go": lambda left: left.params.update(state="absent"),
    "what kube-proxy left is to go": lambda left: left.params.update(remove_kube_proxy=True),
    "another option": lambda left: left.params.update(masquerade_all=True),
    "another node": lambda left: left.record["settings"].update(node_name="node-b"),
    "another family": lambda left: left.record["settings"].update(families=[4, 6]),
    "another snapshot": _other_snapshot,
    "a snapshot that was altered": _altered_lines,
    "another snapshot was applied without a state file": _both_other,
    "no snapshot": lambda left: left.snapshot.unlink(),
    "no applied snapshot": lambda left: left.applied.unlink(),
    "the snapshot is the applied file": _one_file,
    "broken snapshots": _both_broken,
    "another snapshot is asked for": lambda left: left.params.update(snapshot_digest=OTHER.digest),
    "a hold": lambda left: Path(hold_files.hold_path(str(left.state_dir))).write_text("{"),
    "a change that waits": lambda left: Path(hold_files.waiting_path(str(left.state_dir))).write_text("{"),
    "somebody wrote rules": lambda left: setattr(left, "watch", left.watch._replace(token="boot:1.1:6")),
    "no token": lambda left: left.record.update(token="") or setattr(left, "watch", left.watch._replace(token="")),
    "another compiler": lambda left: setattr(left, "watch", left.watch._replace(compiler=8)),
    "a killed run": lambda left: left.record.update(pending=True),
    "an older state file": lambda left: left.record.update(record=1, settings="0123"),
    "a state file that lacks what preflight goes by": lambda left: left.record["settings"].pop("pod_cidrs"),
    "an empty state file": lambda left: left.record.clear(),
}


@pytest.mark.parametrize("alter", LONG_WAY.values(), ids=LONG_WAY)
def test_all_else_goes_the_long_way(left: Left, alter: Callable[[Left], object]) -> None:
    alter(left)
    assert left.run() is None


@pytest.mark.parametrize(
    "report", [Report(("an error",), (), ()), Report((), (), (SysctlChange("net/ipv4/ip_forward", "0", "1"),))]
)
def test_a_node_that_needs_a_setting_goes_the_long_way(
    left: Left, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setattr(_preflight, "report", lambda *_arguments: report)
    assert left.run() is None


def test_the_question_is_answered_as_the_module_of_the_mode_would(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(asking.LOOKS) == TOLD_APART
    monkeypatch.setitem(asking.LOOKS, "nftables", lambda _params, _families, _run: left.watch)
    told = left.run()
    assert told is not None
    assert asking.found("nftables", left.options, _nothing_runs) == told


@pytest.mark.parametrize(
    "wrong", [{"masquerade_bit": "high"}, {"masquerade_bits": 14}, {"ip_families": []}, {"masquerade_bit": 15}]
)
def test_what_the_module_of_the_mode_has_to_say_is_left_to_it(
    left: Left, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    monkeypatch.setitem(asking.LOOKS, "nftables", lambda _params, _families, _run: left.watch)
    assert left.run() is not None
    assert asking.found("nftables", {**left.options, **wrong}, _nothing_runs) is None


@pytest.mark.parametrize("module", ["iptables_services", "nftables_services", "service_rules_unchanged"])
def test_nothing_is_imported_that_only_changes_need(module: str) -> None:
    code = f"""
import json, sys
from ansible.module_utils import basic
from {MODULES} import {module}

basic.AnsibleModule = lambda *_arguments, **_options: sys.exit(print(json.dumps(list(sys.modules))))
{module}.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(collections_path())},
        check=True,
        capture_output=True,
        text=True,
    )
    imported = set(json.loads(done.stdout))
    assert f"{UTILS}._unchanged" in imported
    assert not imported & {f"{UTILS}.{name}" for name in LATE}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of servicenet-agent at a time, and each is recorded, however it ends."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._agent import outcome, runs, source
from ansible_collections.kubenode.servicenet.plugins.module_utils._agent.config import Config
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import holds, lock
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.lock import Lock
from ansible_collections.kubenode.servicenet.plugins.module_utils._outcome import Outcome


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "run").mkdir()
    return Config(state_dir=str(tmp_path), run_dir=str(tmp_path / "run"))


def nothing() -> runs.Done:
    return runs.Done(None)


def test_a_pull_gives_way_to_a_run_that_is_at_work(config: Config) -> None:
    with Lock(f"{config.run_dir}/agent.lock", 0):
        assert runs.recorded(config, "pull", nothing)["result"] == outcome.BUSY
    assert outcome.read(config.outcome_path) == {}


def test_a_lock_that_can_not_be_had_is_a_failure(config: Config) -> None:
    """Where it counted as another run at work, the unit succeeded for ever and did nothing."""
    Path(config.run_dir, "agent.lock").mkdir()
    with pytest.raises(ServicenetError, match="can't be opened"):
        runs.recorded(config, "pull", nothing)


def test_a_run_that_waited_goes_on_from_what_the_other_wrote(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Lock(f"{config.run_dir}/agent.lock", 0).__enter__()

    def the_other_ends(_seconds: float) -> None:
        outcome.write(config.outcome_path, "", {"runs_total": {"ok": 5}, "drift_total": 2, "snapshot_read": 100})
        other.__exit__(None, None, None)

    monkeypatch.setattr(lock.time, "sleep", the_other_ends)
    record = runs.recorded(config, "restore", nothing)
    assert (record["runs_total"], record["drift_total"], record["snapshot_read"]) == ({"ok": 6}, 2, 100)


def test_nobody_comes_between_the_deed_and_its_record(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def write(_path: str, _textfile: str, _record: object) -> None:
        with pytest.raises(lock.BusyError), Lock(f"{config.run_dir}/agent.lock", 0):
            pass
        held.append(True)

    monkeypatch.setattr(outcome, "write", write)
    runs.recorded(config, "pull", nothing)
    assert held == [True]


def test_an_error_that_nobody_foresaw_is_recorded(config: Config) -> None:
    """The server calls a node unhealthy by its record."""

    def broken() -> runs.Done:
        raise KeyError("kind")

    with pytest.raises(KeyError):
        runs.recorded(config, "pull", broken)
    record = json.loads(Path(config.outcome_path).read_text())
    assert (record["result"], record["failing_since"] > 0) == (outcome.FAILED, True)
    assert "nobody foresaw" in record["message"]


class Source:
    """A server that has one snapshot, and says so by its ETag to whoever has it already."""

    def __init__(self) -> None:
        self.snapshot = build_snapshot([])
        self.sent = 0

    def fetch(self, _config: Config, etag: str) -> source.Fetched:
        if etag == "one":
            return source.Fetched(None, [], etag)
        self.sent += 1
        return source.Fetched(self.snapshot, [], "one")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source()
    monkeypatch.setattr(source, "fetch", made.fetch)
    monkeypatch.setattr(runs, "_program", lambda *_rest: Outcome(False, [], [], [], [], {}))
    return made


def test_the_age_of_a_snapshot_that_no_pull_brought_is_known(config: Config) -> None:
    """As after the playbook site, before the first pull."""
    config = config._replace(snapshot=f"{config.state_dir}/snapshot.jsonl.gz")
    assert runs.status(config)["snapshot_age"] is None
    Path(config.snapshot).write_bytes(snapshot.dump(build_snapshot([])))
    hour_ago = time.time() - 3600
    os.utime(config.snapshot, (hour_ago, hour_ago))
    assert 3600 <= runs.status(config)["snapshot_age"] < 3700


@pytest.mark.parametrize("kind", ["cluster", "url"])
@pytest.mark.parametrize("damage", [b"", b"no snapshot"])
def test_a_damaged_snapshot_on_the_node_is_replaced(config: Config, server: Source, kind: str, damage: bytes) -> None:
    config = config._replace(source=kind, url="http://198.18.0.1/s", snapshot=f"{config.state_dir}/snapshot.jsonl.gz")
    runs.pull(config, lambda *_tool: (127, "", ""))
    Path(config.snapshot).write_bytes(damage)
    runs.pull(config, lambda *_tool: (127, "", ""))
    assert Path(config.snapshot).read_bytes() == snapshot.dump(server.snapshot)


def test_what_a_server_has_is_sent_once(config: Config, server: Source) -> None:
    config = config._replace(source="url", url="http://198.18.0.1/s", snapshot=f"{config.state_dir}/snapshot.jsonl.gz")
    for _run in range(3):
        runs.pull(config, lambda *_tool: (127, "", ""))
    assert server.sent == 1
    # Somebody else put another one there.
    Path(config.snapshot).write_bytes(snapshot.dump(build_snapshot([{"kind": "Node", "metadata": {"name": "n"}}])))
    runs.pull(config, lambda *_tool: (127, "", ""))
    assert (server.sent, Path(config.snapshot).read_bytes()) == (2, snapshot.dump(server.snapshot))


def test_the_time_limit_ends_a_run_that_asks_for_its_confirmation(
    config: Config, server: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes once, in the midst of whatever is done."""
    asked: list[int] = []

    def reach(_config: Config) -> None:
        asked.append(1)
        if len(asked) > 1:
            holds.settled(config.state_dir)
        raise runs.TimeLimitError("The run took longer than its time limit.")

    change = holds.Waiting("t", "nftables", {}, time.time() + 600, 600, 600, {"mode": "", "digest": "", "options": {}})

    def program(*_rest: object) -> Outcome:
        holds.wait(config.state_dir, change)
        return Outcome(True, [], [], [], [], {"confirm_token": "t"})

    monkeypatch.setattr(source, "reach", reach)
    monkeypatch.setattr(runs, "_program", program)
    pull = functools.partial(runs.pull, config._replace(snapshot=f"{config.state_dir}/s"), lambda *_tool: (127, "", ""))
    assert runs.recorded(config, "pull", pull)["result"] == outcome.TIMEOUT
    assert server.sent == 1

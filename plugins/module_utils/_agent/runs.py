# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs of the agent: apply a snapshot, pull one and apply it, restore what was in force, tell.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import ExitStack
from typing import Any, Callable, NamedTuple

from .._cluster import stored
from .._core import snapshot as snapshots
from .._core.errors import OptionError, ServicenetError, SnapshotError
from .._modes import MAKERS
from .._node import files, holds
from .._node.lock import BusyError, Lock
from .._node.runner import Runner
from .._options import completed
from .._outcome import Outcome
from .._programming import WaitsError, confirm, program, settle, told
from .._rolling_back import ARGUMENTS, roll_back
from .._services import last_run
from . import outcome as outcomes
from . import source
from .config import Config

DNS_PROGRAMS = "/usr/local/lib/servicenet"
DNS_NETWORK = "/etc/servicenet/dns_network.json"
ETAG = "snapshot.etag.json"
ASK_AGAIN_SECONDS = 0.5


class TimeLimitError(ServicenetError):
    """The run took longer than it may; the next one heals what it left."""


class Done(NamedTuple):
    """``outcome``: None if the rules were not touched; ``read_at``: when the source was read, None if it was not;
    ``unreachable``: why it gave nothing."""

    outcome: Outcome | None
    read_at: float | None = None
    unreachable: str = ""


def apply(config: Config, run: Runner, path: str) -> Done:
    """Makes the rules those of a snapshot file, with the options of the last run of site."""
    return Done(_program(config, run, path, config.max_removed_percent))


def pull(config: Config, run: Runner) -> Done:
    """Reads the source and makes the rules those of it. The snapshot file is written if it is another than before.

    From a source that gives nothing the node learns nothing new: what is in force is repaired if somebody altered it.
    """
    # Before the source is asked: it may be that change which keeps the node from it.
    settle(_places(config), MAKERS, run)
    data = files.read_bytes(config.snapshot)
    noted = files.read_json(f"{config.state_dir}/{ETAG}").value if config.source == "url" else None
    known = noted if isinstance(noted, dict) else {}
    # The ETag stands for a file, and that may have been damaged or replaced since.
    asked = bool(known) and known == {**_fetched(config, data), "etag": known.get("etag")}
    read_at = time.time()
    try:
        got = source.fetch(config, known["etag"] if asked else "")
    except source.UnreachableError as error:
        return Done(_again(config, run), unreachable=str(error))
    if got.snapshot is not None:
        old = _sound(data)
        if old is not None:
            snapshots.guard(old, got.snapshot, config.max_removed_percent)
        if old is None or old.digest != got.snapshot.digest:
            data = snapshots.dump(got.snapshot)
            stored.write_file(config.snapshot, data)
        if config.source == "url":
            note = {**_fetched(config, data), "etag": got.etag}
            if note != known:
                files.write_json(f"{config.state_dir}/{ETAG}", note)
    digest = got.snapshot.digest if got.snapshot is not None else ""
    stored.write_note(config.snapshot, {"source": {"type": config.source}, "read": read_at, "digest": digest})
    done = _program(config, run, config.snapshot, config.max_removed_percent, config.confirm_seconds)
    if done.facts.get("confirm_token"):
        _confirm(config, str(done.facts["confirm_token"]))
    refused = [f"Left out: {wrong}." for wrong in got.refused[:100]]
    return Done(done._replace(warnings=refused + done.warnings), read_at)


def _fetched(config: Config, data: bytes | None) -> dict[str, str]:
    """What an ETag stands for: a file of the node, and whence it came."""
    return {"url": config.url, "sha256": hashlib.sha256(data or b"").hexdigest()}


def _sound(data: bytes | None) -> snapshots.Snapshot | None:
    """The node's snapshot; a damaged one counts as none, for it is about to be replaced."""
    try:
        return None if data is None else snapshots.load(data)
    except SnapshotError:
        return None


def restore(config: Config, run: Runner) -> Done:
    """Makes the rules those that were in force, and the addresses of the node's DNS; asks nobody else."""
    if os.path.exists(DNS_NETWORK):
        run(["/usr/bin/env", "python3", f"{DNS_PROGRAMS}/dns_network.py", "up", DNS_NETWORK])
    # A boot confirms nothing.
    settle(_places(config), MAKERS, run, True)
    return Done(_again(config, run))


def rollback(config: Config, run: Runner, to: str, hold_seconds: int) -> Done:
    """Goes back to a kept state and holds the node there."""
    return Done(roll_back({**_places(config), "to": to, "hold_seconds": hold_seconds}, run))


def release(config: Config, run: Runner) -> Done:
    """Ends the hold; the next pull brings the node up to date."""
    return Done(roll_back({**_places(config), "state": "released"}, run))


def _places(config: Config) -> dict[str, Any]:
    given = {"state_dir": config.state_dir, "run_dir": config.run_dir, "lock_timeout": config.lock_timeout}
    return {**{name: argument["default"] for name, argument in ARGUMENTS.items()}, **given}


def _confirm(config: Config, token: str) -> None:
    """Asks the source over a new connection until it answers, which confirms the change, or the change went back."""
    while True:
        change = holds.waiting(config.state_dir)
        if change is None or change.token != token or time.time() >= change.until:
            break
        try:
            source.reach(config)
        except source.UnreachableError:
            time.sleep(ASK_AGAIN_SECONDS)
            continue
        confirm(_places(config), token)
        return
    raise OptionError(
        f"The source could not be reached for {config.confirm_seconds} s after the change, which went back by itself."
    )


def _mode(config: Config) -> tuple[str, dict[str, Any]]:
    hold = holds.held(config.state_dir)
    first = [hold.mode] if hold is not None and hold.mode else []
    name, record = last_run(config.state_dir, [*first, *MAKERS])
    if not name:
        raise OptionError(f"No Services were programmed on this node yet, says {config.state_dir}: run site first.")
    return name, record


def _again(config: Config, run: Runner) -> Outcome:
    """Makes the rules those that were in force."""
    name, _record = _mode(config)
    return _program(config, run, f"{config.state_dir}/{name}.jsonl.gz", 100)


def _program(config: Config, run: Runner, path: str, max_removed_percent: int, confirm_seconds: int = 0) -> Outcome:
    name, record = _mode(config)
    given = {
        "snapshot": path,
        "state": "present",
        "max_removed_percent": max_removed_percent,
        "state_dir": config.state_dir,
        "run_dir": config.run_dir,
        "lock_timeout": config.lock_timeout,
        "confirm_seconds": confirm_seconds,
    }
    params = completed({**record["options"], **given})
    return program(name, params, MAKERS, run, diff=False)


def recorded(config: Config, command: str, deed: Callable[[], Done]) -> dict[str, Any]:
    """Does a deed alone, and writes down what came of it -> the record (see ``outcome``)."""
    began = time.time()
    with ExitStack() as alone:
        try:
            # The next pull comes by itself. Nobody repeats the others: a restore that gave way would leave a flushed
            # node bare.
            alone.enter_context(Lock(f"{config.run_dir}/agent.lock", 0 if command == "pull" else config.lock_timeout))
        except BusyError as error:
            # Whoever holds the lock writes the state file.
            before = outcomes.read(config.outcome_path)
            return outcomes.after(before, command, outcomes.BUSY, str(error), began, time.time())
        return _written(config, command, deed, began)


def _written(config: Config, command: str, deed: Callable[[], Done], began: float) -> dict[str, Any]:
    before = outcomes.read(config.outcome_path)
    done, result = Done(None), outcomes.FAILED
    message = "The run ended with an error that nobody foresaw: its output has it."
    try:
        done = deed()
        result, message = outcomes.OK, ""
        if done.unreachable:
            result = outcomes.UNREACHABLE
            message = f"{done.unreachable} The rules stay as they are; {_age(config, before)}"
    except WaitsError as error:
        result, message = outcomes.BUSY, str(error)
    except TimeLimitError as error:
        result, message = outcomes.TIMEOUT, str(error)
    except ServicenetError as error:
        result, message = outcomes.FAILED, str(error)
    finally:
        record = outcomes.after(before, command, result, message, began, time.time(), done.outcome, done.read_at)
        outcomes.write(config.outcome_path, config.textfile, record)
    return record


def _read_at(config: Config, record: outcomes.Record) -> float:
    """When the cluster was read last, here or by whoever put the snapshot there; 0 if it never was."""
    known = record.get("snapshot_read")
    return float(known or (stored.read_time(config.snapshot) if os.path.exists(config.snapshot) else 0))


def _age(config: Config, before: outcomes.Record) -> str:
    read = _read_at(config, before)
    return f"the cluster was read {int(time.time() - read)} s ago." if read else "the cluster was never read."


def status(config: Config) -> dict[str, Any]:
    """What is in force, since when, and how old it is."""
    name, record = last_run(config.state_dir, list(MAKERS))
    last = outcomes.read(config.outcome_path)
    read = _read_at(config, last)
    return {
        "mode": name,
        "digest": record.get("snapshot", ""),
        "pending": bool(record.get("pending")),
        "snapshot_age": round(time.time() - read, 1) if read else None,
        "last_run": last,
        **told(config.state_dir),
    }

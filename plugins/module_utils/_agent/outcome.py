# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came of the runs: one JSON file that says it, and the same as Prometheus metrics.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Mapping

from .._node import files
from .._outcome import Outcome

OK = "ok"
FAILED = "failed"
UNREACHABLE = "unreachable"
BUSY = "busy"
TIMEOUT = "timeout"
# What a run ends with. Unreachable is no failure of the node: its rules stay, and only their age grows.
STATUS = {OK: 0, FAILED: 1, UNREACHABLE: 3, BUSY: 4, TIMEOUT: 5}

Record = Mapping[str, Any]


def read(path: str) -> dict[str, Any]:
    """The record of the last run, {} if there is none that can be used."""
    value = files.read_json(path).value
    return value if isinstance(value, dict) else {}


def after(
    before: Record,
    command: str,
    result: str,
    message: str,
    began: float,
    ended: float,
    done: Outcome | None = None,
    read_at: float | None = None,
) -> dict[str, Any]:
    """The record after a run.

    :param before: the record until then; totals and the last success go on from there.
    :param done: what the run did to the rules, None if it did not come so far.
    :param read_at: when the source was read, None if it was not.
    """
    runs = {**before.get("runs_total", {})}
    runs[result] = runs.get(result, 0) + 1
    broken = result in (FAILED, TIMEOUT)
    record: dict[str, Any] = {
        "command": command,
        "result": result,
        "message": message,
        "began": began,
        "ended": ended,
        "duration": round(ended - began, 3),
        "runs_total": runs,
        "last_success": ended if result == OK else before.get("last_success", 0),
        # Unreachable leaves no update waiting that anybody knows of.
        "failing_since": (before.get("failing_since") or began) if broken else 0,
        "snapshot_read": before.get("snapshot_read", 0) if read_at is None else read_at,
        "digest": before.get("digest", ""),
        "counts": before.get("counts", {}),
        "changed": bool(done and done.changed),
        "services_changed": 0,
        "transactions": 0,
        "drift": [],
        "held": before.get("held", ""),
        "warnings": [],
        "drift_total": before.get("drift_total", 0),
        "services_changed_total": before.get("services_changed_total", 0),
    }
    if done is not None:
        facts = done.facts
        record.update(
            digest=facts.get("digest", ""),
            counts=facts.get("counts", {}),
            services_changed=facts.get("services_changed_count", 0),
            transactions=facts.get("transactions", 0) if done.changed else 0,
            drift=done.drift[:100],
            held=facts.get("held", ""),
            warnings=done.warnings[:100],
            drift_total=record["drift_total"] + len(done.drift),
            services_changed_total=record["services_changed_total"] + facts.get("services_changed_count", 0),
        )
    return record


_METRICS = (
    ("last_run_timestamp_seconds", "gauge", "When the last run ended.", lambda r: r.get("ended", 0)),
    ("last_success_timestamp_seconds", "gauge", "When a run last succeeded.", lambda r: r.get("last_success", 0)),
    ("last_run_duration_seconds", "gauge", "How long the last run took.", lambda r: r.get("duration", 0)),
    (
        "last_run_services_changed",
        "gauge",
        "Services that the last run changed.",
        lambda r: r.get("services_changed", 0),
    ),
    ("last_run_drift", "gauge", "Service ports that the last run found altered.", lambda r: len(r.get("drift", ()))),
    ("held", "gauge", "1 if the node is held at a state and gets nothing newer.", lambda r: int(bool(r.get("held")))),
    ("services", "gauge", "Services in force.", lambda r: r.get("counts", {}).get("services", 0)),
    ("endpoints", "gauge", "Endpoints of these Services.", lambda r: r.get("counts", {}).get("endpoints", 0)),
    ("ready_endpoints", "gauge", "Those that are ready.", lambda r: r.get("counts", {}).get("ready_endpoints", 0)),
    ("drift_total", "counter", "Service ports that were found altered.", lambda r: r.get("drift_total", 0)),
    ("services_changed_total", "counter", "Changes of Services.", lambda r: r.get("services_changed_total", 0)),
    (
        "snapshot_read_timestamp_seconds",
        "gauge",
        "When the cluster was last read; the time since then is the age of the rules.",
        lambda r: r.get("snapshot_read", 0),
    ),
)


def metrics(record: Record) -> str:
    """The record in the text format of Prometheus."""
    lines = []
    for name, kind, says, value in _METRICS:
        lines += metric(name, kind, says, {"": value(record)})
    results = {f'{{result="{name}"}}': record.get("runs_total", {}).get(name, 0) for name in STATUS}
    lines += metric("runs_total", "counter", "Runs by their result.", results)
    latest = {f'{{result="{name}"}}': int(record.get("result") == name) for name in STATUS}
    lines += metric("last_run_result", "gauge", "1 for the result of the last run.", latest)
    return "".join(f"{line}\n" for line in lines)


def metric(name: str, kind: str, says: str, values: Mapping[str, float]) -> list[str]:
    """One metric of the text format; ``values`` by labels as they are written, "" for none."""
    full = f"servicenet_{name}"
    return [f"# HELP {full} {says}", f"# TYPE {full} {kind}", *(f"{full}{k} {v}" for k, v in values.items())]


def write(path: str, textfile: str, record: dict[str, Any]) -> None:
    """Writes the state file, and the textfile if one is wanted."""
    files.write_json(path, record, 0o644)
    if textfile:
        files.write_atomic(textfile, metrics(record).encode(), 0o644)

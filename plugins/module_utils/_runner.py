# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one shape of every mode's run: load, resolve, compile, read back, compare, apply, tell.

A mode is handed in; nothing here knows Ansible or any mode, so that a module and a daemon run the same code.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from . import _state_files as state_files
from ._core import changes as describing
from ._core import passes, snapshot
from ._core.errors import NetlinkError, PreflightError, ServicenetError, SnapshotError, ToolError
from ._core.live import LiveFrontend
from ._core.passes import Changes, Pass, Program
from ._core.preflight_model import Report, SysctlChange
from ._core.settings import Settings
from ._core.snapshot import Snapshot
from ._core.table import ServiceTable
from ._mode import Mode, Step
from ._node import files, sysctl
from ._node.aside import on_all_processors
from ._node.generation import is_of_this_boot, token_of_boot
from ._node.lock import Lock, rules_path
from ._node.runner import MissingInKernelError, MissingToolError
from ._outcome import MOST_NAMED, Outcome
from ._state_files import MODES

_NO_SERVICES = ServiceTable((), (), ())


class Request(NamedTuple):
    """What a run is asked for.

    ``settings`` and ``mode`` are made late, since they depend on the snapshot. ``preflight`` judges the node.
    ``options`` are what both are made of, as plain data for the state file. ``around`` is entered, with the digest of
    the snapshot, before rules are changed under the lock, and left when the state file says so. ``diff``: somebody
    wants the lines that say what changes.
    """

    name: str
    snapshot: str
    state_dir: str
    run_dir: str
    settings: Callable[[Snapshot], Settings]
    mode: Callable[[Settings], Mode]
    preflight: Callable[[Mode, Settings, Pass], Report]
    options: dict[str, Any]
    check: bool = False
    max_removed_percent: int = 50
    lock_seconds: float = 60
    diff: bool = True
    around: Callable[[str], AbstractContextManager[None]] = lambda _digest: nullcontext()

    @property
    def record_path(self) -> str:
        """The state file."""
        return state_files.record_path(self.state_dir, self.name)

    @property
    def sysctls_path(self) -> str:
        """The kernel settings that were changed."""
        return os.path.join(self.state_dir, "sysctls.json")

    @property
    def applied_path(self) -> str:
        """The snapshot that was applied last."""
        return state_files.applied_path(self.state_dir, self.name)


class _Plan(NamedTuple):
    """What a run would do. ``record`` is the state file that it goes by, ``seen`` its stamp; ``current`` None: the node
    was not read. ``data`` is the file of the snapshot ``new``."""

    seen: tuple[int, int]
    settings: Settings
    mode: Mode
    data: bytes
    new: Snapshot
    done: Pass
    changes: Changes
    steps: list[Step]
    current: Program | None
    token: str
    record: dict[str, Any]
    sysctls: tuple[SysctlChange, ...]
    drift: list[str]
    warnings: list[str]

    @property
    def changed(self) -> bool:
        """Does it do anything that counts as a change?"""
        return bool(self.changes or self.sysctls)

    @property
    def spelled_alike(self) -> bool:
        """Did the tool show what is about to change in the compiler's own words?"""
        old, current = self.done.old, self.current or {}
        return bool(old) and all(current.get(name) == content for name, content in old.items())


def present(request: Request) -> Outcome:
    """Makes the node hold what the snapshot says."""
    try:
        return _present(request)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as wrong:
        # Of a Node or a ServiceCIDR. Lines are parsed late: loading a snapshot proves its digest and nothing more.
        raise SnapshotError(
            f"The snapshot {request.snapshot} has a line that is no JSON, though its digest is right: {wrong}."
        ) from wrong


def _present(request: Request) -> Outcome:
    plan = _plan(request)
    if request.check:
        for step in plan.steps if plan.current is not None or plan.token else []:
            plan.mode.test(step)
        return _outcome(plan, request.diff)
    if not plan.changed and plan.record == _record_of(
        request, plan.mode, plan.settings, plan.new, plan.token, plan.record.get("holds")
    ):
        return _outcome(plan, request.diff)
    with Lock(rules_path(request.run_dir), request.lock_seconds):
        if files.stamp(request.record_path) != plan.seen or plan.mode.token() != plan.token:
            plan = _plan(request)  # another run, or another program, came first
        with request.around(plan.new.digest) if plan.changes else nullcontext():
            _apply(request, plan)
    return _outcome(plan, request.diff)


def absent(request: Request, mode: Mode) -> Outcome:
    """Takes everything of the mode off the node; what is not ours stays."""
    changes = _removal(request, mode)
    record, _warnings = _read_record(request)
    old = _applied(request)
    before = _NO_SERVICES if old is None else _table(old, request.settings(old))
    lines = describing.describe(before) or [f"{len(changes)} chains, maps or sets"]
    # The kernel settings serve all modes: the last one to go puts them back.
    others = (state_files.record_path(request.state_dir, name) for name in MODES if name != request.name)
    last = not any(map(files.read_bytes, others))
    sysctls = sysctl.Settings(request.sysctls_path)
    remembered = sysctls.remembered() if last else []
    lines = (lines if changes else []) + [f"{entry.name} = {entry.new}" for entry in remembered]
    after = [f"{entry.name} = {entry.old}" for entry in remembered]
    warnings = list(mode.warnings)
    if (changes or record or remembered) and not request.check:
        with Lock(rules_path(request.run_dir), request.lock_seconds):
            _commit(mode, mode.steps(_removal(request, mode)), before)  # another run may have come first
            warnings += _forget_flows(before, _NO_SERVICES)
            if last:
                warnings += sysctls.restore()[1]
            files.remove(request.applied_path)
            files.remove(request.record_path)
    return Outcome(bool(changes or record or remembered), lines, after, [], warnings, {})


def left_since_boot(request: Request) -> bool:
    """Did a run put rules into the kernel that runs now, as far as the state file tells?"""
    record, _warnings = _read_record(request)
    return is_of_this_boot(str(record.get("token") or ""))


def _removal(request: Request, mode: Mode) -> Changes:
    """The changes that leave nothing of ours."""
    try:
        return mode.leave({name: (content, None) for name, content in mode.ours(mode.read()).items()})
    except MissingToolError:
        if left_since_boot(request):
            raise
        return {}  # rules can't be there without the tool that writes them
    except MissingInKernelError:
        return {}  # nor without its half in the kernel


class Inspection(NamedTuple):
    """What is on the node. ``applied``: the snapshot that the last run applied, None if none is known; ``table``: its
    Services as this node serves them. ``drift``: as in ``Outcome``. ``missing`` and ``surplus``: lines for people, what
    the snapshot asked about wants besides, and what it does not want; both empty if that is what was applied.
    ``current`` is what ``mode`` read."""

    applied: Snapshot | None
    table: ServiceTable
    frontends: list[LiveFrontend]
    drift: list[str]
    missing: list[str]
    surplus: list[str]
    mode: Mode
    current: Program


def inspect(request: Request) -> Inspection:
    """Reads the node and compares it with what the last run left and with a snapshot. Changes nothing."""
    applied, asked = _applied(request), snapshot.load(read_snapshot(request.snapshot))
    settings = request.settings(asked)
    mode = request.mode(settings)
    current = mode.read()
    table = _NO_SERVICES if applied is None else _table(applied, settings)
    drift = _drift(mode, table, current) if applied is not None else []
    missing: list[str] = []
    surplus: list[str] = []
    if applied is None or applied.digest != asked.digest:
        wanted = set(describing.describe(_table(asked, settings)))
        known = set(describing.describe(table))
        missing, surplus = sorted(wanted - known), sorted(known - wanted)
    return Inspection(applied, table, mode.frontends(current), drift, missing, surplus, mode, current)


def _table(of: Snapshot, settings: Settings) -> ServiceTable:
    return passes.table(of.service_lines(), settings.view, on_all_processors)[0]


def read_snapshot(path: str) -> bytes:
    """The file of a snapshot, or a sentence that there is none."""
    data = files.read_bytes(path)
    if data is None:
        raise SnapshotError(f"There is no snapshot at {path}: run the role cluster_snapshot first.")
    return data


# --------------------------------------------------------------------------------------------------------- the plan


def _plan(request: Request) -> _Plan:
    seen = files.stamp(request.record_path)
    record, warnings = _read_record(request)
    data = read_snapshot(request.snapshot)
    new = snapshot.load(data)
    settings = request.settings(new)
    mode = request.mode(settings)
    old = new if record.get("snapshot") == new.digest else _applied(request)
    if old is not None:
        snapshot.guard(old, new, request.max_removed_percent)
    token = mode.token()
    usable = old is not None and record == _record_of(
        request, mode, settings, old, record.get("token"), record.get("holds")
    )
    current = None
    if not (usable and token and token == record["token"]):
        try:
            current = mode.read()
        except MissingToolError as error:
            if not request.check:
                raise
            warnings.append(f"{error} In check mode the node counts as empty.")
            current, token = {}, ""
    as_left = usable and (current is None or record["holds"] == describing.fingerprint(current))
    done = passes.incremental(old, new, settings.view, mode.compiler) if as_left and old is not None else None
    if done is None:
        done = passes.full(new, settings.view, mode.compiler, old, on_all_processors)
        current = mode.read() if current is None else current
    changes = mode.complete(done.changes(current), current)
    drift = _drift(mode, done.before, current) if usable and not as_left and current is not None else []
    warnings += [*mode.warnings, *map(str, done.refused), *done.after.warnings]
    report = request.preflight(mode, settings, done)
    if report.errors:
        raise PreflightError(list(report.errors))
    warnings += report.warnings
    steps = mode.steps(changes)
    return _Plan(
        seen, settings, mode, data, new, done, changes, steps, current, token, record, report.changes, drift, warnings
    )


def _drift(mode: Mode, before: ServiceTable, current: Program) -> list[str]:
    """Whose rules are not as the last run left them."""
    expected = expected_program(mode, before)
    differing = {name: current.get(name) for name in {**expected, **current} if expected.get(name) != current.get(name)}
    return describing.concerned(differing, before.rules, mode.compiler) if differing else []


def expected_program(mode: Mode, table: ServiceTable) -> Program:
    """All that a run with this table leaves on the node."""
    left: Changes = {name: (None, content) for name, content in mode.compiler.compile(table.rules).items()}
    return {name: content for name, (_none, content) in mode.complete(left, {}).items()}


def _outcome(plan: _Plan, diff: bool) -> Outcome:
    before, after = _lines(plan) if diff and plan.changed else ([], [])
    services = describing.changed_services(plan.done.before, plan.done.after)
    facts = {
        "digest": plan.new.digest,
        "counts": plan.new.counts,
        "full_pass": plan.done.full,
        "services_changed": services[:MOST_NAMED],
        "services_changed_count": len(services),
        "transactions": len(plan.steps),
    }
    return Outcome(plan.changed, before, after, plan.drift, plan.warnings, facts)


def _lines(plan: _Plan) -> tuple[list[str], list[str]]:
    """What changes, for people: before and after."""
    was, is_now = describing.describe(plan.done.before), describing.describe(plan.done.after)
    before, after = sorted(set(was) - set(is_now)), sorted(set(is_now) - set(was))
    before += [f"{change.name} = {change.old}" for change in plan.sysctls]
    after += [f"{change.name} = {change.new}" for change in plan.sysctls]
    if plan.drift:
        before += [f"{name} (altered on the node)" for name in plan.drift]
        after += [f"{name} (as it was left)" for name in plan.drift]
    elif plan.changes and before == after:
        after.append(f"{len(plan.changes)} chains, maps or sets written anew")
    return before, after


# -------------------------------------------------------------------------------------------------------- the deeds


def _apply(request: Request, plan: _Plan) -> None:
    mode = plan.mode
    holds = plan.record.get("holds")
    sysctl.Settings(request.sysctls_path).apply((change.name, change.new) for change in plan.sysctls)
    if plan.changes:
        # From here on a kill leaves something between old and new: the next run must not trust the state file.
        files.write_json(request.record_path, {**plan.record, "pending": True})
        _commit(mode, plan.steps, plan.done.after)
    token = mode.token()
    if plan.current is None or plan.spelled_alike:
        holds = describing.refreshed(str(holds), plan.changes)
    elif plan.changes:
        # What the tool shows counts, not what it was told: then another spelling of the same is no drift next time.
        shown = mode.read()
        holds = describing.fingerprint(shown)
        if not _is_there(plan.changes, shown):
            token = holds = ""  # another program flushed it at once: the next run trusts nothing
    else:
        holds = describing.fingerprint(plan.current)
    # Behind the look at the node: it takes a while, and what others do meanwhile must not count as left by us.
    if plan.changes or "pending" in plan.record:
        # A run that was killed may have committed everything, and forgotten no flow.
        plan.warnings.extend(_forget_flows(*(_tracked(mode, table) for table in (plan.done.before, plan.done.after))))
    if plan.record.get("snapshot") != plan.new.digest or files.read_bytes(request.applied_path) is None:
        files.write_atomic(request.applied_path, plan.data, 0o640)
    files.write_json(request.record_path, _record_of(request, mode, plan.settings, plan.new, token, holds))


def _is_there(changes: Changes, shown: Program) -> bool:
    """Is there something of all that was written?"""
    written = {name: new for name, (_old, new) in changes.items() if new is not None}
    return all(name in shown and (shown[name] or not new) for name, new in written.items())


def _tracked(mode: Mode, table: ServiceTable) -> ServiceTable:
    return table._replace(rules=tuple(mode.tracked(table.rules)))


def _commit(mode: Mode, steps: list[Step], table: ServiceTable) -> None:
    """Commits all steps, or takes back those that went before a refused one."""
    for index, step in enumerate(steps):
        try:
            mode.apply(step)
        except ToolError as error:
            raise _blamed(mode, step, error, table, _taken_back(mode, steps[:index])) from error


def _taken_back(mode: Mode, steps: list[Step]) -> str:
    """Takes steps back, and says how the node is left."""
    try:
        for step in reversed(steps):
            mode.apply(step, undo=True)
    except ToolError as error:
        return f"what was changed before it can't be taken back ({error}); the next run puts it right"
    return "nothing was changed"


def _blamed(mode: Mode, step: Step, error: ToolError, table: ServiceTable, left: str) -> ServicenetError:
    line = mode.culprit(error, step)
    owner = describing.owner(line, table.rules, mode.compiler) if line else ""
    whose = f"a rule of Service {owner}" if owner else "the rules"
    what = f" ({line.splitlines()[0]})" if line else ""
    return ServicenetError(f"{step.where} refused {whose}{what}, and {left}: {error}")


def _forget_flows(before: ServiceTable, after: ServiceTable) -> list[str]:
    """UDP flows that lead where no rule does any more are forgotten.

    :returns: a warning if the kernel does not let its flows be seen: the rules are in force, and that counts more.
    """
    if not any(entry.protocol == "UDP" for table in (before, after) for entry in table.rules):
        return []
    from ._node import udp_flows  # noqa: PLC0415 - few changes are about UDP

    try:
        udp_flows.forget(before, after)
    except NetlinkError as error:
        return [f"UDP clients may keep talking to endpoints that are gone until their flows time out: {error}"]
    return []


# -------------------------------------------------------------------------------------------------------- the files


def _read_record(request: Request) -> tuple[dict[str, Any], list[str]]:
    """-> (the state file, {} if there is none that can be used; warnings)."""
    state = files.read_json(request.record_path)
    return (state.value if isinstance(state.value, dict) else {}), ([state.warning] if state.warning else [])


def _record_of(
    request: Request, mode: Mode, settings: Settings, applied: Snapshot, token: Any, holds: Any
) -> dict[str, Any]:
    version = mode.compiler.version
    # Where nothing tells that the rules still stand, this much tells in which kernel they were.
    told = token or token_of_boot()
    return state_files.record(request.options, version, settings.recorded(), applied.digest, told, holds)


def _applied(request: Request) -> Snapshot | None:
    """The snapshot that was applied last; a broken one counts as none."""
    data = files.read_bytes(request.applied_path)
    try:
        return None if data is None else snapshot.load(data)
    except SnapshotError:
        return None

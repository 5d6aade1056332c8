# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run of a mode with what guards a node: states that are kept, a hold, and changes that go back unless confirmed.

Whoever has the code of several modes hands in all of them; a module of one mode hands in its own and undoes no other.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import Any, Iterator

from ._core import snapshot_header
from ._core.errors import OptionError, ServicenetError
from ._node import files, holds, kept_states
from ._node.detached import detach
from ._node.holds import NOT_CONFIRMED, Hold, Waiting
from ._node.kept_states import State
from ._node.lock import Lock, rules_path
from ._node.runner import Runner
from ._options import completed
from ._outcome import Outcome
from ._runner import Request
from ._services import Makers, make_absent, make_present, request
from ._state_files import MODES, applied_path


class WaitsError(ServicenetError):
    """A change waits to be confirmed, and nothing else is done meanwhile."""


# How often whoever waits for a confirmation looks, and how often it tries to go back where that is refused.
LOOK_SECONDS = 0.2
TRY_AGAIN_SECONDS = 1
ATTEMPTS = 600
# These two write the same tables, so that the rules of the one are gone as soon as those of the other are there.
_ONE_TABLE = {"nftables", "userspace"}

_HERE = ("state_dir", "run_dir", "lock_timeout", "kept_states")


def program(
    name: str, params: dict[str, Any], makers: Makers, run: Runner, check: bool = False, diff: bool = True
) -> Outcome:
    """Does what the options of a mode ask for, as far as the node is free to; raises ``ServicenetError``.

    :param params: every option of ``ARGUMENTS`` and of the mode.
    :param makers: the modes that this process has the code of.
    :param check: only tell what would be done.
    :param diff: tell in lines for people what changes; to make them of a first program takes a while.
    """
    state_dir = params["state_dir"]
    if params["state"] != "present":
        return _removed(name, params, makers, run, check)
    change = holds.waiting(state_dir)
    if change is not None:
        if check:
            return Outcome(False, [], [], [], [_waits(change)], {})
        settle(params, makers, run)
    hold = holds.held(state_dir)
    if hold is not None:
        return hold_on(hold, name, params, makers, run, check)
    if not check:
        holds.put(state_dir, None)  # its time may be over
    return _change(name, params, makers, run, check, diff=diff)


def _removed(name: str, params: dict[str, Any], makers: Makers, run: Runner, check: bool) -> Outcome:
    state_dir = params["state_dir"]
    if not check and holds.waiting(state_dir) is not None:
        with _confirm_lock(params):  # whoever goes back leaves a hold, which is to go as well
            change = holds.waiting(state_dir)
            if change is not None and change.mode == name:
                holds.settled(state_dir)
    outcome = make_absent(request(name, params, makers[name](params), run, check), params)
    if not check and kept_states.in_force(state_dir, MODES) is None:
        holds.settled(state_dir)
        holds.put(state_dir, None)
        kept_states.forget(state_dir)
    return outcome


def hold_on(hold: Hold, name: str, params: dict[str, Any], makers: Makers, run: Runner, check: bool = False) -> Outcome:
    """Keeps the node at the state that it is held at: what somebody altered is repaired, nothing newer programmed."""
    if not hold.digest:
        return Outcome(False, [], [], [], [hold.says()], {"held": hold.says()})
    if hold.mode != name:
        raise ServicenetError(f"{hold.says()} So the mode {name} is not programmed.")
    outcome = _change(name, params_of(hold.state(), params), makers, run, check, hold)
    return outcome._replace(
        warnings=[hold.says(), *outcome.warnings], facts={**outcome.facts, "mode": name, "held": hold.says()}
    )


def params_of(state: State, params: dict[str, Any]) -> dict[str, Any]:
    """The options that program a kept state, on the node that ``params`` tell of."""
    given = {
        **{option: params[option] for option in _HERE},
        "snapshot": _snapshot_of(state, params["state_dir"]),
        "state": "present",
        "max_removed_percent": 100,
        "confirm_seconds": 0,
    }
    return completed({**state.options, **given})


def _snapshot_of(state: State, state_dir: str) -> str:
    """The file of a kept state, or of the one in force while it is not kept."""
    path, applied = kept_states.snapshot_path(state_dir, state.digest), applied_path(state_dir, state.mode)
    if not os.path.exists(path) and snapshot_header.of(files.read_bytes(applied) or b"").get("digest") == state.digest:
        return applied
    return path


# -------------------------------------------------------------------------------------------------------- a change


def _change(
    name: str,
    params: dict[str, Any],
    makers: Makers,
    run: Runner,
    check: bool,
    hold: Hold | None = None,
    undone: str = "",
    diff: bool = True,
) -> Outcome:
    asked = request(name, params, makers[name](params), run, check)
    tokens: list[str] = []

    def around(digest: str) -> Any:
        new = State(name, digest, asked.options, {})
        change = holds.waiting(asked.state_dir)
        if holds.held(asked.state_dir) != hold or (change.token if change is not None else "") != undone:
            raise ServicenetError("Another run held or released the node while this one was at work: run it again.")
        return _guarded(asked, new, params, makers, run, tokens)

    outcome = make_present(asked._replace(around=around, diff=diff), params, run)
    return outcome._replace(facts={**outcome.facts, "held": "", "confirm_token": "".join(tokens)})


@contextmanager
def _guarded(
    asked: Request,
    new: State,
    params: dict[str, Any],
    makers: Makers,
    run: Runner,
    tokens: list[str],
) -> Iterator[None]:
    """Before the change, the state that it leaves is kept; behind it, the change waits to be confirmed."""
    state_dir = asked.state_dir
    old = kept_states.in_force(state_dir, [new.mode, *MODES])
    moves = not new.same(old)
    if moves and old is not None:
        kept_states.keep(state_dir, old, applied_path(state_dir, old.mode), time.time())
    change = None
    if moves and params["confirm_seconds"] > 0:
        change = _begin(asked, new, old, params, makers, run)
        tokens.append(change.token)
    try:
        yield
    except ServicenetError:
        if change is not None:
            # Whoever waits goes back, should it be in force after all; nobody has to stay there.
            with suppress(ServicenetError):
                holds.wait(state_dir, change._replace(hold_seconds=0))
        raise
    if change is not None:
        holds.wait(state_dir, change._replace(until=time.time() + change.seconds))
    hold = holds.held(state_dir)
    used = {str(hold.digest)} if hold is not None else set()
    used |= {str(change.back["digest"])} if change is not None else set()
    kept_states.prune(state_dir, params["kept_states"], used)


def _begin(
    asked: Request, new: State, old: State | None, params: dict[str, Any], makers: Makers, run: Runner
) -> Waiting:
    if old is not None and old.mode != new.mode and {old.mode, new.mode} == _ONE_TABLE:
        raise OptionError(
            f"A switch from mode {old.mode} to {new.mode} can't wait for a confirmation, since both have the same"
            " tables: run it with confirm_seconds 0."
        )
    back = {"mode": "", "digest": "", "options": {}} if old is None else old._asdict()
    if old is not None and not os.path.exists(kept_states.snapshot_path(asked.state_dir, old.digest)):
        raise ServicenetError(
            "The state in force is not on this node any more, so that a change could not go back to it: run it with"
            " confirm_seconds 0."
        )
    token = os.urandom(8).hex()
    change = Waiting(
        token,
        new.mode,
        new.options,
        0,
        params["confirm_seconds"],
        params["confirm_hold_seconds"],
        {field: back[field] for field in ("mode", "digest", "options")},
    )
    holds.wait(asked.state_dir, change)
    detach(lambda: _watch(params, makers, run, token))
    return change


def _watch(params: dict[str, Any], makers: Makers, run: Runner, token: str) -> None:
    """Goes back when the time is over, or the run that made the change was killed."""
    refusals = 0
    while refusals < ATTEMPTS:
        try:
            change = holds.waiting(params["state_dir"])
            if change is None or change.token != token:
                return
            if (change.until or not _being_made(params)) and change.until <= time.time():
                go_back(params, makers, run, token)
        except Exception:  # noqa: BLE001 - nobody else would try again
            refusals += 1
        time.sleep(TRY_AGAIN_SECONDS if refusals else LOOK_SECONDS)


def _being_made(params: dict[str, Any]) -> bool:
    """Is the run still at work that makes the change which has no end yet?"""
    try:
        with Lock(rules_path(params["run_dir"]), 0):
            change = holds.waiting(params["state_dir"])
            return change is not None and change.until > 0
    except ServicenetError:
        return True


# ---------------------------------------------------------------------------------------- confirmed, or going back


def _confirm_lock(params: dict[str, Any]) -> Lock:
    return Lock(os.path.join(params["run_dir"], "confirm.lock"), params["lock_timeout"])


def confirm(params: dict[str, Any], token: str, check: bool = False) -> bool:
    """The change stays -> True. ``params`` has state_dir, run_dir and lock_timeout.

    :raises ServicenetError: it went back already.
    """
    with _confirm_lock(params):
        change = holds.waiting(params["state_dir"])
        if change is None or change.token != token:
            hold = holds.held(params["state_dir"])
            raise ServicenetError(
                "The change can't be confirmed any more: it went back by itself, or another one came after it."
                + (f" {hold.says()}" if hold is not None else "")
            )
        if not check:
            holds.settled(params["state_dir"])
    return True


def settle(params: dict[str, Any], makers: Makers, run: Runner, booted: bool = False) -> None:
    """Goes back from a change that nobody confirmed in time.

    :param booted: the node has started anew since, so that there is nothing to wait for.
    :raises ServicenetError: there is still time to confirm it.
    """
    change = holds.waiting(params["state_dir"])
    if change is None:
        return
    if not change.until and not booted:
        with Lock(rules_path(params["run_dir"]), params["lock_timeout"]):
            change = holds.waiting(params["state_dir"])
    if change is not None and change.until > time.time() and not booted:
        raise WaitsError(_waits(change))
    if change is not None:
        go_back(params, makers, run, change.token)


def go_back(params: dict[str, Any], makers: Makers, run: Runner, token: str) -> None:
    """Takes back the change that waits; the node is held at the state before it."""
    state_dir = params["state_dir"]
    with _confirm_lock(params):
        change = holds.waiting(state_dir)
        if change is None or change.token != token:
            return
        if change.mode not in makers:
            raise ServicenetError(
                f"A change of mode {change.mode} was not confirmed and goes back first: run"
                " kubenode.servicenet.rollback, or the mode's own module."
            )
        state = State(change.back["mode"], change.back["digest"], change.back["options"], {})
        hold = holds.made(NOT_CONFIRMED, state, change.hold_seconds)
        if change.hold_seconds:
            holds.put(state_dir, hold)
        held = hold if change.hold_seconds else None
        if state.digest and state.mode == change.mode:
            _change(change.mode, params_of(state, params), makers, run, False, held, token)
        else:
            # There were no rules before, or those of another mode, which are still there.
            options = completed({**params, **change.options, "state": "absent"})
            make_absent(request(change.mode, options, makers[change.mode](options), run), options)
        holds.settled(state_dir)


def _waits(change: Waiting) -> str:
    left = f" for {max(0, int(change.until - time.time()))} s more" if change.until else ""
    return (
        f"A change of mode {change.mode} waits{left} to be confirmed and goes back by itself otherwise: run this again"
        " after that."
    )


def told(state_dir: str) -> dict[str, Any]:
    """What is kept on this node, the newest first, and why it is held, as plain data."""
    hold = holds.held(state_dir)
    return {
        "held": hold.says() if hold is not None else "",
        "kept": [
            {
                "digest": state.digest,
                "mode": state.mode,
                "kept_at": int(state.kept_at),
                "services": state.counts.get("services", 0),
                "ready_endpoints": state.counts.get("ready_endpoints", 0),
            }
            for state in kept_states.kept(state_dir)
        ],
    }

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Going back to a kept state and staying there, and ending that: for whoever has the code of all modes.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time
from typing import Any

from ._core.errors import ServicenetError
from ._modes import MAKERS
from ._node import holds, kept_states
from ._node.holds import ROLLED_BACK, Hold
from ._node.kept_states import PREVIOUS, State
from ._node.runner import Runner
from ._options import completed
from ._outcome import Outcome
from ._programming import hold_on, params_of, settle
from ._services import make_absent, request
from ._state_files import MODES

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
    "to": {"type": "str", "default": PREVIOUS},
    "hold_seconds": {"type": "int", "default": 0},
    "kept_states": {"type": "int", "default": 5},
    "state_dir": {"type": "path", "default": "/var/lib/servicenet"},
    "run_dir": {"type": "path", "default": "/run/servicenet"},
    "lock_timeout": {"type": "int", "default": 60},
}


def roll_back(params: dict[str, Any], run: Runner, check: bool = False) -> Outcome:
    """Goes back to a kept state and holds the node there, or releases it; raises ``ServicenetError``.

    :param params: every option of ``ARGUMENTS``.
    """
    state_dir = params["state_dir"]
    former = holds.held(state_dir)
    if params["state"] == "released":
        if former is not None and not check:
            holds.put(state_dir, None)
        lines = [] if former is None else [former.says()]
        return Outcome(former is not None, lines, ["not held"] if lines else [], [], [], {})
    if not check:
        settle(params, MAKERS, run)
        former = holds.held(state_dir)
    state = _wanted(params, former, check)
    if former is not None and former.state().same(state) and former.seconds == params["hold_seconds"]:
        return _at(former, params, run, check)
    hold = holds.made(ROLLED_BACK, state, params["hold_seconds"])
    if not check:
        # First, so that a kill leaves a node whose next run goes there.
        holds.put(state_dir, hold)
    try:
        done = _at(hold, params, run, check)
    except ServicenetError:
        if not check:
            holds.put(state_dir, former)
        raise
    before = "not held" if former is None else former.says()
    return done._replace(changed=True, before=[before, *done.before], after=[hold.says(), *done.after])


def _wanted(params: dict[str, Any], hold: Hold | None, check: bool) -> State:
    """The state to go to. A node that went back to the previous one stays there when it is asked to again."""
    state_dir, to = params["state_dir"], params["to"]
    if to == PREVIOUS and hold is not None and hold.reason == ROLLED_BACK:
        return hold.state()
    current = kept_states.in_force(state_dir, [*([hold.mode] if hold is not None else []), *MODES])
    if current is not None and to != PREVIOUS and kept_states.named(current, to):
        if not check:
            kept_states.keep(state_dir, current, f"{state_dir}/{current.mode}.jsonl.gz", time.time())
        return current
    return kept_states.find(state_dir, to, current)


def _at(hold: Hold, params: dict[str, Any], run: Runner, check: bool) -> Outcome:
    """Makes the node hold the state, and no other mode's rules."""
    if not hold.digest:
        return hold_on(hold, hold.mode, params, MAKERS, run, check)
    done = hold_on(hold, hold.mode, params, MAKERS, run, check)
    state_dir = params["state_dir"]
    for mode in MODES:
        left = kept_states.in_force(state_dir, [mode])
        if left is None or mode == hold.mode or mode not in MAKERS:
            continue
        options = {**params_of(left, params), "state": "absent"}
        gone = make_absent(request(mode, options, MAKERS[mode](options), run, check), completed(options))
        done = done._replace(
            changed=done.changed or gone.changed, before=done.before + gone.before, after=done.after + gone.after
        )
    return done

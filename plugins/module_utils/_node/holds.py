# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a node at one state, as files: a hold, and a change that waits to be confirmed.

Times are in seconds since 1970, since a hold outlives a boot.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from . import files
from .hold_files import hold_path, waiting_path
from .kept_states import SHOWN, State

ROLLED_BACK = "rolled back"
NOT_CONFIRMED = "not confirmed"
RELEASE = "ansible-playbook kubenode.servicenet.rollback -e servicenet_release=true, or servicenet-agent release"


class Hold(NamedTuple):
    """The node stays at a state. ``digest`` "": it stays without rules. ``until`` 0: until somebody releases it;
    ``seconds`` is how long that was asked for."""

    reason: str
    mode: str
    digest: str
    options: dict[str, Any]
    since: float
    until: float
    seconds: int

    def state(self) -> State:
        """What it stays at."""
        return State(self.mode, self.digest, self.options, {})

    def says(self) -> str:
        """A sentence for whoever runs into it."""
        what = f"the state {self.digest[:SHOWN]} (mode {self.mode})" if self.digest else "no rules"
        why = (
            "it was rolled back" if self.reason == ROLLED_BACK else "a change was not confirmed and went back by itself"
        )
        end = f"until {_utc(self.until)}, or " if self.until else ""
        return (
            f"This node is held at {what}, because {why} at {_utc(self.since)}: no newer state is programmed"
            f" {end}until it is released with {RELEASE}."
        )


class Waiting(NamedTuple):
    """A change to ``options`` in ``mode`` that waits for its confirmation. ``until`` 0: it is still being made.
    ``back``: mode, digest and options to go to otherwise; no digest: to no rules. ``hold_seconds``: stay so long."""

    token: str
    mode: str
    options: dict[str, Any]
    until: float
    seconds: int
    hold_seconds: int
    back: dict[str, Any]


def held(state_dir: str) -> Hold | None:
    """The hold that is in force; one whose time is over is none."""
    hold = _read(hold_path(state_dir), Hold)
    return None if hold is None or (hold.until and hold.until <= time.time()) else hold


def made(reason: str, state: State, seconds: int) -> Hold:
    """A hold that begins now; nothing is written."""
    now = time.time()
    return Hold(reason, state.mode, state.digest, state.options, now, now + seconds if seconds else 0, seconds)


def put(state_dir: str, hold: Hold | None) -> None:
    """Makes a hold be in force, or none."""
    if hold is None:
        files.remove(hold_path(state_dir))
    else:
        files.write_json(hold_path(state_dir), hold._asdict())


def waiting(state_dir: str) -> Waiting | None:
    """The change that waits to be confirmed, None if none does."""
    found = _read(waiting_path(state_dir), Waiting)
    return found if found is None or isinstance(found.back, dict) else None


def wait(state_dir: str, change: Waiting) -> None:
    """From now on this change waits."""
    files.write_json(waiting_path(state_dir), change._asdict())


def settled(state_dir: str) -> None:
    """No change waits any more."""
    files.remove(waiting_path(state_dir))


def _read(path: str, kind: Any) -> Any:
    value = files.read_json(path).value
    if not isinstance(value, dict) or set(value) != set(kind._fields):
        return None
    return kind(**value)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))

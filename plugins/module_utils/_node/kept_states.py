# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The states that were in force before, as files: which snapshot, with which options, in which mode.

A directory ``kept`` holds ``NUMBER.json`` for each state and ``DIGEST.jsonl.gz`` for each snapshot, which several
states may share. Numbers grow with time.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
from typing import Any, Iterable, NamedTuple

from .._core import snapshot_header
from .._core.errors import OptionError, ServicenetError
from . import files

DIRECTORY = "kept"
PREVIOUS = "previous"
# A digest is told apart from others by its beginning.
SHOWN = 12
LEAST_GIVEN = 6


class State(NamedTuple):
    """``options`` are those that the state file of a mode keeps; ``counts`` as in a snapshot. ``kept_at``: when it was
    left, in seconds since 1970; 0 if it is in force. ``number`` 0: it is not kept."""

    mode: str
    digest: str
    options: dict[str, Any]
    counts: dict[str, int]
    kept_at: float = 0
    number: int = 0

    def same(self, other: State | None) -> bool:
        """Is it the same state, whenever it was?"""
        return other is not None and self[:3] == other[:3]


def in_force(state_dir: str, modes: Iterable[str]) -> State | None:
    """What the last run of the first of these modes that ran left, None if none did."""
    for mode in modes:
        record = files.read_json(f"{state_dir}/{mode}.json").value
        if isinstance(record, dict) and isinstance(record.get("options"), dict) and record.get("snapshot"):
            return State(mode, str(record["snapshot"]), record["options"], {})
    return None


def snapshot_path(state_dir: str, digest: str) -> str:
    """Where the snapshot of a kept state is."""
    return os.path.join(state_dir, DIRECTORY, f"{digest}.jsonl.gz")


def kept(state_dir: str) -> list[State]:
    """All of them, the newest first; one that can't be read is none."""
    found = []
    for number in _numbers(state_dir):
        value = files.read_json(_path(state_dir, number)).value
        try:
            state = State(
                str(value["mode"]), str(value["digest"]), value["options"], value["counts"], value["kept_at"], number
            )
        except (TypeError, KeyError):
            continue
        if os.path.exists(snapshot_path(state_dir, state.digest)):
            found.append(state)
    return found


def find(state_dir: str, wanted: str, now_in_force: State | None) -> State:
    """A kept state by the beginning of its digest; ``previous`` is the newest that is not in force.

    :raises OptionError: there is none, with those that there are.
    """
    there = kept(state_dir)
    for state in there:
        if not state.same(now_in_force) if wanted == PREVIOUS else named(state, wanted):
            return state
    told = ", ".join(f"{state.digest[:SHOWN]} ({state.mode})" for state in there)
    which = "older than the one in force" if wanted == PREVIOUS else f"whose digest begins with {wanted!r}"
    raise OptionError(f"No state {which} is kept on this node; kept are, the newest first: {told or 'none'}.")


def named(state: State, wanted: str) -> bool:
    """Is this the beginning of its digest, and enough of it?"""
    return len(wanted) >= LEAST_GIVEN and state.digest.startswith(wanted)


def keep(state_dir: str, state: State, applied_path: str, now: float) -> None:
    """Keeps the state that is about to be left. One that is kept already becomes the newest.

    :param applied_path: its snapshot, which is linked and not copied.
    :raises ServicenetError: the disk takes no more; nothing was lost.
    """
    directory = os.path.join(state_dir, DIRECTORY)
    target = snapshot_path(state_dir, state.digest)
    header = snapshot_header.of(files.read_bytes(target if os.path.exists(target) else applied_path) or b"")
    if header.get("digest") != state.digest:
        return  # a run that was killed left another one there
    try:
        os.makedirs(directory, mode=0o750, exist_ok=True)
        if not os.path.exists(target):
            os.link(applied_path, target)
    except OSError as error:
        raise ServicenetError(f"{target} can't be written: {error.strerror}.") from error
    there = kept(state_dir)
    if there and there[0].same(state):
        return
    number = max(_numbers(state_dir), default=0) + 1
    fields = {"mode": state.mode, "digest": state.digest, "options": state.options, "kept_at": now}
    files.write_json(_path(state_dir, number), {**fields, "counts": header.get("counts", {})})
    for old in there:
        if old.same(state):
            files.remove(_path(state_dir, old.number))


def prune(state_dir: str, most: int, digests: set[str]) -> None:
    """Only the newest ``most`` stay, and the snapshots of these and of ``digests``."""
    there = kept(state_dir)
    for old in there[most:]:
        files.remove(_path(state_dir, old.number))
    used = {state.digest for state in there[:most]} | digests
    for name in _names(state_dir):
        if name.endswith(".jsonl.gz") and name[: -len(".jsonl.gz")] not in used:
            files.remove(os.path.join(state_dir, DIRECTORY, name))


def forget(state_dir: str) -> None:
    """Nothing is kept any more."""
    for name in _names(state_dir):
        files.remove(os.path.join(state_dir, DIRECTORY, name))
    if os.path.isdir(os.path.join(state_dir, DIRECTORY)):
        os.rmdir(os.path.join(state_dir, DIRECTORY))


def _names(state_dir: str) -> list[str]:
    try:
        return os.listdir(os.path.join(state_dir, DIRECTORY))
    except OSError:
        return []


def _numbers(state_dir: str) -> list[int]:
    stems = (name[: -len(".json")] for name in _names(state_dir) if name.endswith(".json"))
    return sorted((int(stem) for stem in stems if stem.isdigit()), reverse=True)


def _path(state_dir: str, number: int) -> str:
    return os.path.join(state_dir, DIRECTORY, f"{number:06}.json")

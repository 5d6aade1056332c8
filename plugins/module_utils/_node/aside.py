# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Long computations on all processors of the node, in processes of their own: threads of Python take turns.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Sequence

# Starting a process and getting back what it found takes as long as some hundreds of Services.
LEAST_ITEMS = 1000
# What each process holds is memory of the node.
MOST_PROCESSES = 4


class _Pickler(pickle.Pickler):
    """Twice as fast for named tuples, of which a table of Services is made."""

    def reducer_override(self, thing: Any) -> Any:
        return (type(thing), tuple(thing)) if isinstance(thing, tuple) else NotImplemented


class Aside:
    """A work that goes on in another process.

    :param work: a function that changes nothing. What it returns has to be fit for pickle.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._child, self._answer = 0, -1
        with suppress(OSError):  # no process is to be had
            self._begin()

    def _begin(self) -> None:
        here, there = os.pipe()
        try:
            child = os.fork()
        except OSError:
            os.close(here)
            os.close(there)
            raise
        if child:
            os.close(there)
            self._child, self._answer = child, here
            return
        try:
            with os.fdopen(there, "wb") as stream:
                _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(self._work())
        finally:
            os._exit(0)  # nothing of ours is to be flushed or cleaned up twice

    def result(self) -> Any:
        """What the work returned. Where there was no process, or it failed, the work is done here, and fails here."""
        if not self._child:
            return self._work()
        with os.fdopen(self._answer, "rb") as stream:
            data = stream.read()
        with suppress(ChildProcessError):  # who started us may have the kernel forget its children at once
            os.waitpid(self._child, 0)
        try:
            return pickle.loads(data)
        except (EOFError, pickle.UnpicklingError):  # it ended before it had said all
            return self._work()


def on_all_processors(work: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> list[Any]:
    """Does a work with consecutive parts of many items at once -> what it returned for each part, in their order."""
    parts = max(1, min(len(os.sched_getaffinity(0)), MOST_PROCESSES, len(items) // LEAST_ITEMS))
    size = max(1, -(-len(items) // parts))
    others = [Aside(partial(work, items[start : start + size])) for start in range(size, len(items), size)]
    return [work(items[:size]), *(other.result() for other in others)]

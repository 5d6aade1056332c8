# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a client waits for an answer on a busy machine. It imports nothing: clients run it by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Answer = TypeVar("Answer")

# A time-out is counted in so many parts, each as one however long it took: while the machine stood still, nobody could
# have answered.
PARTS = 6


async def within(seconds: float, answer: Coroutine[object, object, Answer]) -> Answer:
    """The answer, or TimeoutError after so many seconds in which this process ran."""
    task = asyncio.ensure_future(answer)
    for _part in range(PARTS):
        done, _waiting = await asyncio.wait({task}, timeout=seconds / PARTS)
        if done:
            return task.result()
    task.cancel()
    # Back only when it has let go of its socket, whose number the next one gets.
    await asyncio.wait({task})
    raise TimeoutError

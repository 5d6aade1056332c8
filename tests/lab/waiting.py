# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for what a busy machine may take its time for: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.claim import LabError

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], what: str = "the condition", seconds: float = 120) -> Found:
    """What the condition returned when it first held.

    :param what: is waited for, for the message.
    :raises LabError: that took too long.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(0.05)
    return found

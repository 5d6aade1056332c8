# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has a file open: how a test sees that a process waits for a lock."""

from __future__ import annotations

import contextlib
import os


def times_open(path: str) -> int:
    """How often processes have a file open that is called so where they are, on whichever node."""
    found = 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        # Processes end and close files meanwhile.
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    found += os.readlink(f"/proc/{process}/fd/{number}") == path
    return found

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode remembers of real servers that drain, in a state file that a boot makes void.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from .._core.passes import Program
from .files import read_json, remove, write_json
from .generation import boot_id


def now() -> int:
    """Seconds since the kernel was booted, also those that it slept."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


class DrainState:
    """Who drains since when: the containers of ``ipvs_drain``.

    :param path: the state file, ``ipvs_drain.json`` in the state directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> Program:
        """What was saved in this boot. A boot empties IPVS, and begins the clock anew; a broken file counts as none."""
        value = read_json(self._path).value
        since = value.get("since") if isinstance(value, dict) and value.get("boot") == boot_id() else None
        if not isinstance(since, dict) or not all(isinstance(begin, int) for begin in since.values()):
            return {}
        return {name: begin for name, begin in since.items() if "/drain/" in name}

    def save(self, since: Mapping[str, int]) -> None:
        """Makes the file hold this, and no file if it is empty."""
        if since:
            write_json(self._path, {"boot": boot_id(), "since": dict(since)})
        else:
            remove(self._path)

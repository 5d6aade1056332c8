# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode remembers of real servers that drain, in a state file that a boot makes void.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from .._core.ipvs_drain import Draining, Since, dumped, loaded
from .files import read_json, remove, write_json
from .generation import boot_id


def now() -> int:
    """Seconds since the kernel was booted, also those that it slept."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


class DrainState:
    """Who drains since when.

    :param path: the state file, ``ipvs_drain.json`` in the state directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> Since:
        """What was saved in this boot. A boot empties IPVS, and begins the clock anew; a broken file counts as none."""
        value = read_json(self._path).value
        if not isinstance(value, dict) or value.get("boot") != boot_id():
            return {}
        return loaded(value.get("since"))

    def save(self, since: Mapping[Draining, int]) -> bool:
        """Makes the file hold this, and no file if it is empty; was anything written or removed?"""
        if not since:
            return remove(self._path)
        if self.load() == since:
            return False
        write_json(self._path, {"boot": boot_id(), "since": dumped(since)})
        return True

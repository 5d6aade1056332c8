# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a mode keeps on a node between runs, and where: its state file, and the snapshot that it applied last.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
from typing import Any

# The layout of the state file; another number makes a full pass.
RECORD = 2
MODES = ("iptables", "nftables", "ipvs", "userspace")


def record_path(state_dir: str, mode: str) -> str:
    """The state file of a mode."""
    return os.path.join(state_dir, f"{mode}.json")


def applied_path(state_dir: str, mode: str) -> str:
    """The snapshot that a mode applied last."""
    return os.path.join(state_dir, f"{mode}.jsonl.gz")


def record(
    options: dict[str, Any], compiler: int, settings: dict[str, Any], snapshot: str, token: Any, holds: Any
) -> dict[str, Any]:
    """What the state file of a mode says: what was compiled, of what and by what, and how to tell that it still stands.

    :param compiler: its version.
    :param settings: ``Settings.recorded``.
    :param snapshot: its digest.
    """
    return {
        "record": RECORD,
        "options": options,
        "compiler": compiler,
        "settings": settings,
        "snapshot": snapshot,
        "token": token,
        "holds": holds,
    }

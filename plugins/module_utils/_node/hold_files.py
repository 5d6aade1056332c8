# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where it is written that a node is held, or that a change waits to be confirmed.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os


def hold_path(state_dir: str) -> str:
    """The file of the hold."""
    return os.path.join(state_dir, "hold.json")


def waiting_path(state_dir: str) -> str:
    """The file of the change that waits."""
    return os.path.join(state_dir, "confirm.json")


def any_is_there(state_dir: str) -> bool:
    """Is there one of them, even one whose time is over?"""
    return any(map(os.path.exists, (hold_path(state_dir), waiting_path(state_dir))))

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of a mode did, or would do.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# A result stays small, whatever the cluster.
MOST_NAMED = 100


class Outcome(NamedTuple):
    """``before`` and ``after``: lines for people, only those that differ. ``drift``: service ports whose rules were not
    as this collection had left them. ``facts``: counts and digests for the result."""

    changed: bool
    before: list[str]
    after: list[str]
    drift: list[str]
    warnings: list[str]
    facts: dict[str, Any]


def returned(mode: str, outcome: Outcome) -> dict[str, Any]:
    """What the module of a mode returns."""
    return {
        "changed": outcome.changed,
        "mode": mode,
        "snapshot_wanted": False,
        "drift": outcome.drift[:MOST_NAMED],
        **outcome.facts,
    }

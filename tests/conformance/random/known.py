# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deviations that a random cluster may show: those of the recorded cases, and a few that only it meets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from conformance.packets import deviations
from conformance.random.twins import Answers

RANDOM_DEVIATIONS = Path(__file__).resolve().parent / "deviations.yaml"


@lru_cache
def known() -> tuple[deviations.Deviation, ...]:
    """All of them."""
    return (*deviations.load(), *deviations.load(RANDOM_DEVIATIONS))


def documented(cluster: str, mode: str, answer: Answers, recordings: Mapping[str, Any]) -> deviations.Deviation | None:
    """The entry that says why this difference is right, if there is one. `recordings`: kube-proxy's outcome by mode."""
    for entry in known():
        if entry.ours == answer.ours["result"] and entry.covers(cluster, answer.label, mode, recordings):
            return entry
    return None

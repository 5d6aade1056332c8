# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pytest plugin: a level that cannot run here is a test of its own, skipped with the reason, and failed in CI.

It is loaded by name in every process of a run that uses several, which all have to find the same tests.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# tests/run.py puts JSON there: the reason of each level that cannot run, by the level's name.
VARIABLE = "SERVICENET_OBSTACLES"
RUNNER = Path(__file__).resolve().parent / "run.py"


class Obstacle(pytest.Item):
    """Stands in the run for a level that cannot run."""

    reason = ""

    def runtest(self) -> None:
        """Skip, or fail where nobody would see a skip."""
        if os.environ.get("CI") == "true":
            raise pytest.fail.Exception(f"level {self.name} cannot run: {self.reason}", pytrace=False)
        raise pytest.skip.Exception(f"LEVEL {self.name} DID NOT RUN: {self.reason}")

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where pytest says that this test stands."""
        return RUNNER, 0, f"level {self.name}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Append one test for each level that cannot run, after -k and -m had their say: no selection hides it."""
    for level, reason in json.loads(os.environ.get(VARIABLE, "{}")).items():
        item = Obstacle.from_parent(session, name=level, nodeid=f"tests/run.py::{level}")
        item.reason = reason
        items.append(item)

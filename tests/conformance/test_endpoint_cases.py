# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every recorded case of kube-controller-manager, through the collection's own controller."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance.endpoints import compare, deviations, golden
from conformance.endpoints.adapter import SETTINGS, ClusterObjects, applied, plan_endpoints

HERE = Path(compare.__file__).resolve().parent
CASES = HERE / "cases"
DEVIATIONS = deviations.load()
OPTIONS = SimpleNamespace(
    slice_manager=SETTINGS.manager,
    mirror_manager=SETTINGS.mirror_manager,
    endpoints_manager=SETTINGS.manager,
    strict_packing=True,
)


def excused(case: str) -> list[tuple[str, ...]]:
    """The groups of a case in which the collection deviates on purpose."""
    return [group for each in DEVIATIONS if case in each.cases for group in each.groups]


@pytest.mark.parametrize("case", golden.names(CASES))
def test_recorded_case(case: str) -> None:
    for number, step in enumerate(golden.read(CASES, case)["steps"], 1):
        objects = ClusterObjects(**compare.question(OPTIONS, step))
        plan = plan_endpoints(objects, SETTINGS)
        after = applied(objects, plan.changes)

        shuffled = ClusterObjects(**{kind: random.sample(items, len(items)) for kind, items in vars(objects).items()})
        assert plan_endpoints(shuffled, SETTINGS).changes == plan.changes, "the order of the objects matters"
        assert plan_endpoints(after, SETTINGS).changes == [], "a second pass writes again"

        outcome = compare.understood(OPTIONS, {"endpointslices": after.endpointslices, "endpoints": after.endpoints})
        allowed = dict(step, unstable=[*step["unstable"], *excused(case)])
        assert compare.problems(OPTIONS, allowed, outcome) == [], f"step {number}"


def test_deviations_name_existing_cases() -> None:
    names = golden.names(CASES)
    for each in DEVIATIONS:
        assert set(each.cases) <= set(names)
        assert each.reason

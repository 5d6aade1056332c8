# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of what the real controllers do: each sentence has a case or a test, and each case a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from conformance.endpoints import deviations, golden, twin_cases

TABLE = yaml.safe_load((twin_cases.CASES.parent / "sentences.yaml").read_text(encoding="utf-8"))
CASES = {*golden.names(twin_cases.CASES), *(case.name for case in twin_cases.made_by_hand())}
KINDS = {"cases", "deviations", "tests"}


def named(kind: str) -> set[str]:
    """All that the table names of one kind."""
    return {name for row in TABLE for name in row.get(kind, ())}


@pytest.mark.parametrize("row", TABLE, ids=[row["says"][:40] for row in TABLE])
def test_a_sentence_has_a_case_or_a_test(row: dict) -> None:
    assert set(row) - KINDS == {"says"}
    assert any(row.get(kind) for kind in KINDS)


def test_what_the_table_names_is_there(checkout: Path) -> None:
    assert named("deviations") == {each.name for each in deviations.load()}
    assert named("cases") == CASES
    for name in named("tests"):
        file, _colons, function = name.partition("::")
        assert re.search(rf"^def {function}\(", (checkout / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_names_of_cases_are_different() -> None:
    assert len(golden.names(twin_cases.CASES)) + len(list(twin_cases.made_by_hand())) == len(CASES)

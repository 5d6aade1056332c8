# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of versions that pytest prints at its end, whichever of its processes ran the tests.

A test names its line before it tries anything, so a version that cannot run here is a line with the reason and not a
gap. Its verdict is pytest's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import pytest

# Name of the property of a test's report that holds its line.
PROPERTY = "matrix"
VERDICTS = {"passed": "passed", "failed": "FAILED", "error": "FAILED", "skipped": "did not run"}
# Called with the version and what is tried with it; called again, it adds what was seen.
Line = Callable[[str, str], None]


@pytest.fixture
def line(record_property: Callable[[str, object], None]) -> Line:
    """Names the line of the table that a test fills."""

    def name(version: str, what: str) -> None:
        record_property(PROPERTY, [version, what])

    return name


def rows(reports: Mapping[str, Sequence[object]]) -> list[tuple[str, str, str]]:
    """The lines of the table: version, what was tried, and what came of it.

    :param reports: pytest's reports by their outcome. The last name that a test gave its line counts.
    """
    found = []
    for outcome, verdict in VERDICTS.items():
        for report in reports.get(outcome, ()):
            named = [value for name, value in getattr(report, "user_properties", ()) if name == PROPERTY]
            if named:
                version, what = named[-1]
                found.append((version, what, f"{verdict}{_reason(report) if outcome == 'skipped' else ''}"))
    return sorted(found, key=lambda row: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", row[0])])


def _reason(report: object) -> str:
    """Why a test was skipped, as the end of a verdict."""
    told = getattr(report, "longrepr", None)
    text = str(told[2]) if isinstance(told, tuple) else str(told)
    return ": " + text.removeprefix("Skipped: ").strip()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, if a test of this run had a line in it."""
    found = rows(terminalreporter.stats)
    if not found:
        return
    terminalreporter.section("versions")
    widths = [max(len(row[column]) for row in found) for column in (0, 1)]
    for version, what, verdict in found:
        terminalreporter.write_line(f"{version:{widths[0]}}  {what:{widths[1]}}  {verdict}")

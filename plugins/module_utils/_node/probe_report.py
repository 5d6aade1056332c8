# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of probes as a table for people.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .probe import ProbeResult

HEAD = ("target", "asked", "answered", "who answered, or why not")


def failing(results: Sequence[ProbeResult]) -> list[str]:
    """The names of the targets of which an attempt was not answered, each once, in the order of the results."""
    return list(dict.fromkeys(result.target.name for result in results if result.failures))


def table(results: Sequence[ProbeResult]) -> list[str]:
    """Lines of text with aligned columns; what failed stands first."""
    ordered = sorted(results, key=lambda result: not result.failures)
    rows = [HEAD] + [_row(result) for result in ordered]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD) - 1)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip() for row in rows]


def _row(result: ProbeResult) -> tuple[str, str, str, str]:
    host = f"[{result.host}]" if ":" in result.host else result.host
    asked = f"{host}:{result.port}/{result.target.protocol}"
    said = [f"{who} x {times}" for who, times in sorted(result.answers.items())]
    said += [f"{reason} x {times}" for reason, times in sorted(result.failures.items())]
    return result.target.name, asked, f"{result.answered} of {result.target.attempts}", ", ".join(said)

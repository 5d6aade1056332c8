# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between two states of a zone, for people: few changes record by record, many by Service.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

MOST_LINES = 100


class Difference(NamedTuple):
    """Lines for a diff, and how many records came and went."""

    before: list[str]
    after: list[str]
    added: int
    removed: int


def describe(domain: str, before: Iterable[str], after: Iterable[str]) -> Difference:
    """Compares the record lines of a zone (``OWNER TTL IN TYPE DATA``).

    :param domain: the absolute cluster domain.
    """
    old, new = set(before), set(after)
    gone, come = sorted(old - new), sorted(new - old)
    return Difference(_lines(domain, gone), _lines(domain, come), len(come), len(gone))


def _lines(domain: str, records: list[str]) -> list[str]:
    if len(records) <= MOST_LINES:
        return [f"{_subject(domain, line)}: {line.rstrip()}" for line in records]
    by_subject = Counter(_subject(domain, line) for line in records)
    lines = [f"{subject}: {count} records" for subject, count in sorted(by_subject.items())]
    if len(lines) > MOST_LINES:
        rest = len(lines) - MOST_LINES
        lines = [*lines[:MOST_LINES], f"and {rest} more, {len(records)} records in all"]
    return lines


def _subject(domain: str, line: str) -> str:
    """Whose record it is: ``default/web``, or the name itself."""
    fields = line.split()
    name = fields[4] if len(fields) == 5 and fields[3] == "PTR" else fields[0] if fields else ""
    labels = name[: -len(domain)].rstrip(".").split(".") if name.endswith(domain) else []
    if len(labels) >= 3 and labels[-1] == "svc":
        return f"{labels[-2]}/{labels[-3]}"
    return name.rstrip(".")

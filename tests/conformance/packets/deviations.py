# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the collection does not do what was recorded, on purpose: deviations.yaml, and its table for people."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

FILE = Path(__file__).resolve().parent / "deviations.yaml"


class Deviation(NamedTuple):
    """`case` and `probe` are globs for the case's name and the check's label; `modes` are those that deviate."""

    case: str
    probe: str
    modes: tuple[str, ...]
    reason: str

    def covers(self, case: str, label: str, mode: str) -> bool:
        """Is a failure of this check meant?"""
        return mode in self.modes and fnmatch.fnmatchcase(case, self.case) and fnmatch.fnmatchcase(label, self.probe)


def load(path: Path = FILE) -> tuple[Deviation, ...]:
    """All documented deviations."""
    return tuple(
        Deviation(entry["case"], entry["probe"], tuple(entry["modes"]), " ".join(entry["reason"].split()))
        for entry in yaml.safe_load(path.read_text()) or []
    )


def covering(known: Iterable[Deviation], case: str, label: str, mode: str) -> Deviation | None:
    """The first deviation that covers a check, if any."""
    return next((deviation for deviation in known if deviation.covers(case, label, mode)), None)


def table(known: Iterable[Deviation]) -> str:
    """The same as Markdown, for docs/conformance.md."""
    rows = [f"| `{d.case}` | `{d.probe}` | {', '.join(d.modes)} | {d.reason} |\n" for d in known]
    return "".join(["| case | probe | modes | reason |\n", "|---|---|---|---|\n", *rows])

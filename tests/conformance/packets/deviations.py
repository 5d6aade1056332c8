# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the collection does not do what was recorded, on purpose: deviations.yaml, and its table for people."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).resolve().parent / "deviations.yaml"


class Deviation(NamedTuple):
    """`case` and `probe` are globs for the case's name and the check's label; `modes` are those that deviate.

    `recorded` is the result that kube-proxy showed, `ours` that of the collection; no other pair counts. With `as_in`,
    only checks are meant for which kube-proxy in that other mode showed `ours`.
    """

    case: str
    probe: str
    modes: tuple[str, ...]
    recorded: str
    ours: str
    as_in: str
    reason: str

    def covers(self, case: str, label: str, mode: str, recordings: Mapping[str, Any]) -> bool:
        """Is this check meant? `recordings`: outcomes by mode, as a probe of a case holds them."""
        return (
            mode in self.modes
            and fnmatch.fnmatchcase(case, self.case)
            and fnmatch.fnmatchcase(label, self.probe)
            and self.recorded in set().union(*map(results, _recorded_for(mode, recordings)))
            and (not self.as_in or self.ours in results(recordings.get(self.as_in, {})))
        )


def _recorded_for(mode: str, recordings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What counts for a mode; any recording does for one that could not be recorded."""
    return [recordings[mode]] if mode in recordings else list(recordings.values())


def results(expected: Mapping[str, Any]) -> set[str]:
    """The results that pass."""
    return {outcome["result"] for outcome in expected.get("one_of", [expected] if expected else [])}


def load(path: Path = FILE) -> tuple[Deviation, ...]:
    """All documented deviations."""
    return tuple(
        Deviation(
            entry["case"],
            entry["probe"],
            tuple(entry["modes"]),
            entry["recorded"],
            entry["ours"],
            entry.get("as_in", ""),
            " ".join(entry["reason"].split()),
        )
        for entry in yaml.safe_load(path.read_text()) or []
    )


def table(known: Iterable[Deviation]) -> str:
    """The same as Markdown, for docs/conformance.md."""
    head = "| case | probe | modes | recorded | ours | reason |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| `{d.case}` | `{d.probe}` | {', '.join(d.modes)} | {d.recorded} | {d.ours} | {d.reason} |\n" for d in known
    )

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What deviations.yaml lists: where the collection does not write what kube-controller-manager writes, on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

FILE = Path(__file__).resolve().parent / "deviations.yaml"


class Deviation(NamedTuple):
    """One entry. ``groups``: (kind, namespace, Service) of what differs in ``cases``."""

    name: str
    cases: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    reason: str


def load() -> tuple[Deviation, ...]:
    """All of them."""
    return tuple(
        Deviation(
            entry["name"],
            tuple(entry["cases"]),
            tuple(map(tuple, entry["groups"])),
            " ".join(entry["reason"].split()),
        )
        for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))
    )


def table(known: Iterable[Deviation]) -> str:
    """The same as Markdown, for docs/conformance.md."""
    return "| name | reason |\n|---|---|\n" + "".join(f"| `{each.name}` | {each.reason} |\n" for each in known)

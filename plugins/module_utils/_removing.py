# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking everything of all modes but one off a node, in one process: for whoever has the code of all modes.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

from ._modes import MAKERS
from ._node.runner import Runner
from ._outcome import Outcome
from ._programming import program


def remove(
    keep: str | None, options_of: Callable[[str], dict[str, Any]], run: Runner, check: bool
) -> Iterator[tuple[str, Outcome]]:
    """Each mode that was looked for, and what went; raises ``ServicenetError``.

    :param keep: the mode whose rules stay, if any does.
    :param options_of: every option of a mode by its name.
    :param check: only tell what would go.
    """
    for name in MAKERS:
        if name != keep:
            yield name, program(name, options_of(name), MAKERS, run, check)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-core's own judgement of the collection, without any entry that asks it to look away."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.release import __version__
from ansible_test import ansible_test
from matrix.table import Line

# It takes as long as all others together.
PARTS = {"pylint": "--test", "all but pylint": "--skip-test"}


@pytest.mark.parametrize("part", PARTS)
def test_sanity(checkout: Path, cache: Path, line: Line, part: str) -> None:
    line(f"ansible-core {__version__}", f"ansible-test sanity: {part}")
    ansible_test(checkout, cache, "sanity", "--local", "--color", "no", "--truncate", "0", PARTS[part], "pylint")

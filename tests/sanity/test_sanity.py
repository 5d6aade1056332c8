# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-core's own judgement of the collection, without any entry that asks it to look away."""

from __future__ import annotations

from pathlib import Path

from ansible.release import __version__
from ansible_test import ansible_test
from matrix.table import Line


def test_sanity(checkout: Path, cache: Path, line: Line) -> None:
    line(f"ansible-core {__version__}", "ansible-test sanity, all of it")
    ansible_test(checkout, cache, "sanity", "--local", "--color", "no", "--truncate", "0")

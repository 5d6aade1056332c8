# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of endpoint_slices shows lines while the module still writes them."""

from __future__ import annotations

from pathlib import Path
from queue import Queue

from ansible_collections.kubenode.servicenet.plugins.action.endpoint_slices import Follower


def test_lines_are_shown_as_they_come_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    shown: Queue[str] = Queue()
    with Follower(str(path), shown.put), path.open("a", encoding="utf-8") as file:
        file.write("500 of 1100 écrits\n100")
        file.flush()
        # Comes before the end, or the test ends here.
        assert shown.get(timeout=60) == "500 of 1100 écrits"
        file.write("0 of 1100\n")
        file.flush()
        assert shown.get(timeout=60) == "1000 of 1100"
        file.write("1100 of 1100\n")
    assert shown.get(timeout=60) == "1100 of 1100"
    assert shown.empty()


def test_a_module_that_writes_no_line_shows_nothing(tmp_path: Path) -> None:
    shown: list[str] = []
    with Follower(str(tmp_path / "progress"), shown.append):
        pass
    assert shown == []

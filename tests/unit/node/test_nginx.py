# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What our nginx is told needs no tool: a small container has no kill."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from unit.node.fakes import FakeRunner, found_in

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ToolError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import nginx
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.nginx import Nginx


def test_a_master_is_told_to_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Nginx(FakeRunner({}), str(tmp_path), str(tmp_path), 1, found_in("nginx"))
    workers = iter([[], [4711]])
    monkeypatch.setattr(nginx, "children", lambda _master: next(workers))
    with subprocess.Popen(["sleep", "60"]) as master:
        made._reload(master.pid)
        assert master.wait(30) == -signal.SIGHUP
    monkeypatch.setattr(nginx, "children", lambda _master: [])
    with pytest.raises(ToolError, match="it has just ended"):
        made._reload(master.pid)

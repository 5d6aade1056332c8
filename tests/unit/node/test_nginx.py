# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What our nginx is told needs no tool: a small container has no kill."""

from __future__ import annotations

import signal
import subprocess
import sys
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
    # Under nohup children would be deaf to it.
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); print(flush=True); signal.pause()",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as master:
        assert master.stdout is not None
        master.stdout.readline()
        made._reload(master.pid)
        assert master.wait(30) == -signal.SIGHUP
    monkeypatch.setattr(nginx, "children", lambda _master: [])
    with pytest.raises(ToolError, match="it has just ended"):
        made._reload(master.pid)

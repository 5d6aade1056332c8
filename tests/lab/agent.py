# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program servicenet-agent, built and started as the role service_resync does it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from collection_tree import CHECKOUT

BUILD = CHECKOUT / "roles/service_resync/files/build_agent.py"


@cache
def _built() -> bytes:
    with tempfile.TemporaryDirectory(prefix="servicenet-agent-") as directory:
        program = Path(directory, "program")
        command = [sys.executable, BUILD, CHECKOUT / "plugins/module_utils", program]
        subprocess.run(command, check=True, capture_output=True)
        return program.read_bytes()


def build_agent(directory: Path) -> Path:
    """The program in a directory; it is built once in each process."""
    program = directory / "servicenet-agent.pyz"
    program.write_bytes(_built())
    return program


def start_server(netns: str, program: Path, config: Path, python: str = sys.executable) -> subprocess.Popen[bytes]:
    """The small server of a node, in a network namespace and a session of its own."""
    command = ["ip", "netns", "exec", netns, python, program, "--config", config, "serve"]
    return subprocess.Popen(command, start_new_session=True)

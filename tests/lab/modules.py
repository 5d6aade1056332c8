# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's modules in a network namespace: each run is a fork, so that hundreds of runs stay cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from collection_tree import collections_path

SERVER = Path(__file__).resolve().parent / "module_server.py"


class Run:
    """A run of a module that has begun. ``pid`` is its process, and its process group."""

    def __init__(self, server: ModuleServer, pid: int, output: Path) -> None:
        self.server, self.pid, self.output = server, pid, output

    def wait(self) -> dict[str, Any]:
        """Its result, as soon as everything that it started has ended; one that was killed has ``killed`` only."""
        status = self.server.ask(op="wait", pid=self.pid)
        if status < 0:
            return {"killed": -status}
        said = self.output.read_text()
        assert said, f"the module ended with {status} and said nothing"
        last = said.splitlines()[-1]
        assert last.startswith("{"), said
        result = dict(json.loads(last))
        # Since ansible-core 2.19 a warning is more than its text.
        warnings = result.get("warnings", [])
        result["warnings"] = [one if isinstance(one, str) else str(one["event"]["msg"]) for one in warnings]
        return result


class ModuleServer:
    """module_server.py in a namespace; a context manager."""

    def __init__(self, netns: str) -> None:
        self.netns = netns
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", netns, sys.executable, str(SERVER)],
            env=os.environ | {"PYTHONPATH": str(collections_path()), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ModuleServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def ask(self, **message: Any) -> Any:
        """One command and its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, module: str, arguments: dict[str, Any], output: Path, path: str = "") -> Run:
        """Begins a run of any module of the collection.

        :param output: the file that it may write to.
        :param path: where it finds programs, as in PATH; "" for where this process does.
        """
        environment = {"PATH": path or os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        pid = self.ask(op="start", module=module, arguments=arguments, environment=environment, output=str(output))
        return Run(self, pid, output)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules of the collection in one namespace, each in a fork of its own, so that hundreds of runs stay cheap.

Started by modules.py as `ip netns exec NAMESPACE python3 module_server.py`. Commands come in as one JSON object a
line on stdin, answers go out the same way:

- `start` (`module`, `arguments`, `environment`, `output`): the process id of the run, which is also its process group.
- `wait` (`pid`): the run's exit status (negative: the signal that ended it), as soon as everything that it started has
  ended as well, orphans included.
- `generation`: that of nftables in the namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import sys
import traceback
from typing import Any

from ansible.module_utils import basic

from ansible_collections.kubenode.servicenet.plugins.module_utils._node.generation import nf_tables_generation

PR_SET_CHILD_SUBREAPER = 36
MODES = ("iptables", "nftables", "ipvs", "userspace")
MODULES = "ansible_collections.kubenode.servicenet.plugins.modules"


def start(module: str, arguments: dict[str, Any], environment: dict[str, str], output: str) -> int:
    """Forks; the child does what Ansible's own wrapper does before a module's code runs, and the module."""
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # also here: whoever asked may kill the group at once
        return pid
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    os.environ.update(environment)
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    status = 1
    try:
        runpy.run_module(f"{MODULES}.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = int(end.code or 0)
    except Exception:  # noqa: BLE001 - whatever it is, the test has to show it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int) -> int:
    """Reaps the run and everything of its process group."""
    _pid, status = os.waitpid(pid, 0)
    while True:
        try:
            os.waitpid(-pid, 0)
        except ChildProcessError:
            return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Obeys until stdin ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Loaded once; what a fork does not import again costs it nothing.
    for mode in MODES:
        runpy.run_module(f"{MODULES}.{mode}_services", run_name="loaded")
    for line in sys.stdin:
        message = json.loads(line)
        operation = {"start": start, "wait": wait, "generation": nf_tables_generation}[message.pop("op")]
        print(json.dumps(operation(**message)), flush=True)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""servicenet-agent, where it begins: it starts programs and ends with a status, which its modules leave to it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def run(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
    """Runs a tool, as ``_node.runner.Runner`` says; it ends with this run at the latest."""
    environment = {**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C", "LANGUAGE": "C"}
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(data)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    except OSError as error:
        return 127, "", f"{argv[0]}: {error.strerror}"
    return process.returncode, out, err


def say(line: str) -> None:
    """A line for the journal."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._agent.cli import main

    if "serve" not in sys.argv:
        gc.disable()
    status = main(sys.argv[1:], run, say)
    sys.stdout.flush()
    # Not sys.exit: it would wait for threads that still ask a server that says nothing.
    os._exit(status)

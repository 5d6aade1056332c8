# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What starts our nginx again when it ends, and after a boot: a program that the role service_proxy installs, under
systemd or by itself. Without it nginx is started once, by whoever runs the mode.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import shlex
import sys

from .files import remove, write_atomic
from .processes import arguments, parent
from .runner import Runner, checked

PROGRAM = "/usr/local/lib/servicenet/userspace_supervise.py"
UNIT = "servicenet-userspace.service"
UNITS = "/etc/systemd/system"
SYSTEMD = "/run/systemd/system"
# It serves the usual directory alone, whose script it is started with.
STATE_DIR = "/var/lib/servicenet"
SCRIPT = "userspace_start"

_SCRIPT = """#!/bin/sh
# Written by kubenode.servicenet. Starts the proxies of the userspace mode, and says which configuration they have.
mkdir -p {directory}
printf '{{"digest":"%s","pid":%s,"started":"%s"}}\\n' \\
    "$(sha256sum < {configuration} | cut -c 1-64)" $$ "$(cut -d ' ' -f 22 /proc/$$/stat)" > {live}
exec {command}
"""


class Keeper:
    """Starts and stops by way of a command runner.

    :param state_dir: holds the configuration and the script.
    :param log: the file by which the program knows nginx's processes.
    """

    def __init__(self, run: Runner, state_dir: str, log: str) -> None:
        self._run, self._log = run, log
        self._script = os.path.join(state_dir, SCRIPT)
        self.there = os.path.normpath(state_dir) == STATE_DIR and os.path.exists(PROGRAM)
        self._systemd = os.path.isdir(SYSTEMD) and os.path.exists(os.path.join(UNITS, UNIT))

    def has(self, master: int) -> bool:
        """Would this process be started again? True where nothing could do that."""
        return not self.there or os.fsencode(PROGRAM) in arguments(parent(master))

    def start(self, command: str, configuration: str, live: str) -> None:
        """Has nginx started, now and whenever it ends; returns before it serves.

        :param command: for a shell, in the foreground.
        :param live: where the script says which configuration was loaded, see ``Nginx.live``.
        :raises ToolError: the program can't be started.
        """
        names = {"configuration": configuration, "live": live, "directory": os.path.dirname(live)}
        quoted = {name: shlex.quote(path) for name, path in names.items()}
        write_atomic(self._script, _SCRIPT.format(command=command, **quoted).encode("utf-8"), 0o700)
        if self._systemd:
            # Anew, also where it waits until it may try again.
            checked(self._run, ["systemctl", "restart", UNIT])
        else:
            self._supervise("stop")
            self._supervise("start", "--finish", self._log, "/bin/sh", self._script)

    def stop(self) -> None:
        """Nothing starts nginx any more, and the one that runs takes nothing new.

        :raises ToolError: the program can't be stopped.
        """
        if not self.there:
            return
        if self._systemd:
            checked(self._run, ["systemctl", "stop", UNIT])
        else:
            self._supervise("stop")
        remove(self._script)

    def _supervise(self, *words: str) -> None:
        checked(self._run, [sys.executable or "python3", PROGRAM, *words])

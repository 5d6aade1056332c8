# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that goes on when the one that started it has ended, however it ended.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import signal
import sys
from typing import Callable


def detach(work: Callable[[], None]) -> None:
    """Does ``work`` in a process of its own: no signal to our group or session reaches it, and it holds none of our
    files, so that nobody who reads what we say waits for it, and no lock of ours stays taken."""
    _bring_all_code()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _be_alone()
        work()
    finally:
        os._exit(0)


def _bring_all_code() -> None:
    """Imports what would be imported late. A module of Ansible runs from an archive that goes when the module ends, and
    an agent from one that a newer version may replace."""
    package = sys.modules[str(__package__).rpartition(".")[0]]
    if not all(map(os.path.isdir, package.__path__)):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)


def _be_alone() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing had one of its own
                os.close(int(name))

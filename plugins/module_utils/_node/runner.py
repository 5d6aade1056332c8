# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the node layer runs tools: a callable is handed in, so that nothing here depends on Ansible.

A module hands in a thin wrapper of its ``run_command``, a daemon its own. The wrapper is responsible for the
environment: it has to set ``LC_ALL=C``, for the texts that tools print are parsed.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import shutil
from typing import Callable, Optional, Protocol

from .._core.errors import ToolError

# What a shell says of a tool that is not there.
NOT_STARTED = 127
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


class Runner(Protocol):
    """Runs ``argv`` without a shell, feeds ``data`` to its standard input, returns (exit status, stdout, stderr)."""

    def __call__(self, argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        """A tool that can't be started is an exit status other than 0 as well."""


Which = Callable[[str], Optional[str]]


def search_path() -> str:
    """Where tools are looked for. The sbin directories count even if PATH leaves them out, as a plain user's does."""
    return os.pathsep.join(filter(None, (os.environ.get("PATH"), *SBIN)))


def which(name: str) -> str | None:
    """The path of a tool, or None."""
    return shutil.which(name, path=search_path())


class MissingToolError(ToolError):
    """A tool is not installed; in check mode that may be because the run would install it.

    :param hint: which package brings it.
    """

    def __init__(self, tool: str, hint: str) -> None:
        super().__init__([tool], NOT_STARTED, "not installed", hint)
        self.args = (f"{tool} is not installed on this node. {hint}",)


class MissingInKernelError(ToolError):
    """The kernel lacks the half of a tool that is its own, so it holds nothing that the tool has made."""


def checked(run: Runner, argv: list[str], data: str | None = None, hint: str = "") -> str:
    """Standard output of a tool that must succeed.

    :param hint: a sentence that is added to the error.
    :raises ToolError: it ended with another status than 0.
    """
    rc, out, err = run(argv, data)
    if rc != 0:
        raise ToolError(argv, rc, err or out, hint)
    return out

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ipset: what the sets of this collection hold, and changes to them, many in one go.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from typing import Dict

from .._core.errors import ToolError
from .runner import MissingInKernelError, MissingToolError, Runner, Which, checked, which

OURS = "SERVICENET-"
PACKAGE_HINT = "Install the package ipset."
# On a kernel without sets; the first where it has no netlink for packet filters at all.
NO_SETS = re.compile(r"Cannot open session to kernel|Kernel error received: Invalid argument")

# Set -> entry -> the packet mark that it holds, 0 for none.
Sets = Dict[str, Dict[str, int]]


def parse_save(text: str) -> Sets:
    """The sets of this collection in the output of ``ipset save``."""
    found: Sets = {}
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) < 3 or not words[1].startswith(OURS):
            continue
        if words[0] == "create":
            found[words[1]] = {}
        elif words[0] == "add":
            mark = words[words.index("skbmark") + 1] if "skbmark" in words else "0"
            found[words[1]][words[2]] = int(mark.partition("/")[0], 16)
    return found


class IpsetTool:
    """ipset by way of a command runner.

    :param find: finds the program's path.
    """

    def __init__(self, run: Runner, find: Which = which) -> None:
        self._run = run
        self._path = find("ipset")

    @property
    def path(self) -> str:
        """The program.

        :raises MissingToolError: it is not installed.
        """
        if self._path is None:
            raise MissingToolError("ipset", PACKAGE_HINT)
        return self._path

    def read(self) -> Sets:
        """Our sets; those of others are passed over.

        :raises MissingInKernelError: the kernel has no sets.
        """
        argv = [self.path, "save"]
        rc, out, err = self._run(argv)
        if rc != 0:
            raise (MissingInKernelError if NO_SETS.search(err) else ToolError)(argv, rc, err or out)
        return parse_save(out)

    def restore(self, text: str) -> None:
        """Does the lines in their order; what is there already is no error when it is made, nor what is not when it is
        deleted. Each line is atomic; all of them together are not.

        :raises ToolError: one was refused; those before it are done.
        """
        checked(self._run, [self.path, "restore", "-exist"], text)

    def take_back(self, text: str) -> None:
        """Does the lines one by one; what is refused is passed over."""
        for line in text.splitlines():
            self._run([self.path, "-exist", *line.split(" ")])

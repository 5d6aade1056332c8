# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tool nft: listing our tables, transactions, and which versions can do what the mode needs.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re

from .._core.errors import ToolError
from .runner import MissingInKernelError, MissingToolError, Runner, Which, checked, which

PACKAGE_HINT = "Install the package nftables."
NOT_THERE = "No such file or directory"
# On a kernel without nftables; the first where it has no netlink for packet filters at all.
NO_NFTABLES = re.compile(
    r"Unable to initialize Netlink socket: Protocol not supported|cache initialization failed: Invalid argument"
)
VERSION = re.compile(r"nftables v(\d+(?:\.\d+)*)")
KERNEL = re.compile(r"(\d+)\.(\d+)")
# Maps whose data is an address and a port, and masquerading of both families in one way.
NFT_NEEDED = (1, 0, 1)
KERNEL_NEEDED = (5, 13)
# nft names the place as FILE:LINE:COLUMN-COLUMN; several errors stand one after another.
PLACE = re.compile(r"^(?:/dev/stdin|-|<stdin>|[^\s:]*):(\d+):\d+-\d+: Error:", re.MULTILINE)


class NftTool:
    """nft by way of a command runner.

    :param find: finds the program's path.
    """

    def __init__(self, run: Runner, find: Which = which) -> None:
        self._run = run
        self._path = find("nft")

    @property
    def path(self) -> str:
        """The program.

        :raises MissingToolError: it is not installed.
        """
        if self._path is None:
            raise MissingToolError("nft", PACKAGE_HINT)
        return self._path

    def available(self) -> bool:
        """Is it installed?"""
        return self._path is not None

    def version(self) -> tuple[int, ...]:
        """Such as (1, 0, 6); () if the program does not say."""
        found = VERSION.search(checked(self._run, [self.path, "--version"]))
        return tuple(int(part) for part in found.group(1).split(".")) if found else ()

    def list_table(self, table: str) -> str | None:
        """What nft shows of a table ("ip servicenet"), all in numbers; None if there is none."""
        return self._list("table", table)

    def list_map(self, table: str, name: str) -> str | None:
        """The same of one map."""
        return self._list("map", f"{table} {name}")

    def _list(self, kind: str, what: str) -> str | None:
        argv = [self.path, "-nn", "list", kind, *what.split(" ")]
        rc, out, err = self._run(argv)
        if rc == 0:
            return out
        if NOT_THERE in err:
            return None
        raise (MissingInKernelError if NO_NFTABLES.search(err) else ToolError)(argv, rc, err or out)

    def check(self, text: str) -> None:
        """Has nft and the kernel judge a transaction without committing it.

        :raises ToolError: it would be refused.
        """
        checked(self._run, [self.path, "--check", "-f", "-"], text)

    def lacking(self, samples: dict[str, str]) -> list[str]:
        """Sentences about the forms that nft or the kernel refuses.

        :param samples: what it is for, as "balancing" -> a transaction that uses it, which is only checked. Each has
            what those before it have, so the last one is enough if it is taken; else the first refused one is told.
        """
        if not self._refusal(list(samples.values())[-1]):
            return []
        for what, text in samples.items():
            said = self._refusal(text)
            if said:
                sentence = (
                    f"This node's nft or kernel does not take what {what} needs ({said}): install nftables 1.0.6 or"
                    " later and a kernel with nf_tables, nft_nat, nft_fib, nft_numgen and nft_reject, or choose another"
                    " mode."
                )
                return [sentence]
        return []

    def _refusal(self, text: str) -> str:
        """The first line of what nft has against a transaction, "" if nothing."""
        try:
            self.check(text)
        except ToolError as error:
            return (error.stderr.strip().splitlines() or ["it gave no reason"])[0]
        return ""

    def commit(self, text: str) -> None:
        """Commits a transaction as a whole.

        :raises ToolError: it was refused, and nothing was changed.
        """
        checked(self._run, [self.path, "-f", "-"], text)


def too_old(version: tuple[int, ...], kernel: str) -> list[str]:
    """Sentences about versions that are known not to do.

    :param version: of nft; () is unknown.
    :param kernel: what ``uname -r`` says.
    """
    problems = []
    if version and version < NFT_NEEDED:
        here, needed = (".".join(map(str, numbers)) for numbers in (version, NFT_NEEDED))
        problems.append(
            f"This node has nft {here}; the mode nftables needs {needed}. Upgrade nftables, or choose iptables."
        )
    found = KERNEL.match(kernel)
    if found and tuple(map(int, found.groups())) < KERNEL_NEEDED:
        needed = ".".join(map(str, KERNEL_NEEDED))
        problems.append(
            f"This node runs Linux {kernel}; the mode nftables needs {needed}. Upgrade it, or choose iptables."
        )
    return problems


def refused_line(error: ToolError, text: str) -> str:
    """The line of a transaction that nft names in an error; "" if it names none."""
    lines = text.splitlines()
    for place in PLACE.finditer(error.stderr):
        number = int(place.group(1))
        if 0 < number <= len(lines):
            return lines[number - 1]
    return ""

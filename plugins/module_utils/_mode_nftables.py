# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's half of the nftables mode: our tables as nft lists them, and transactions for nft.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from ._core import nftables, nftables_changes, nftables_listing, nftables_live, text_nftables
from ._core.errors import PreflightError, ToolError
from ._core.live import LiveFrontend
from ._core.nftables import NftablesCompiler
from ._core.nftables_changes import Forget
from ._core.passes import Changes, Program
from ._core.settings import Settings
from ._node import generation, nft_memory, nft_tool
from ._node.nft_tool import NftTool, refused_line
from ._node.runner import Runner
from ._runner import Step

FAMILIES = (4, 6)
# A client may be forgotten by its timeout, or remembered anew, between looking and deleting.
FORGET_ATTEMPTS = 5


class NftablesMode:
    """Implements ``_runner.Mode``."""

    name = "nftables"
    features: tuple[str, ...] = ()
    iptables_variant = ""

    def __init__(self, settings: Settings, run: Runner) -> None:
        self.compiler = NftablesCompiler(settings)
        self.tool = NftTool(run)

    def token(self) -> str:
        """The generation of nftables; any program moves it."""
        return generation.token()

    def read(self) -> Program:
        """Our tables, one listing each."""
        program: Program = {}
        for family in FAMILIES:
            listing = self.tool.list_table(text_nftables.table(family))
            if listing is not None:
                program.update(nftables_listing.program(listing, family, self.compiler))
        return program

    def frontends(self, program: Program) -> list[LiveFrontend]:
        """What the elements name."""
        return nftables_live.frontends(program)

    def complete(self, changes: Changes, current: Program | None) -> Changes:
        """The changes with those of the frame."""
        if current is not None:
            for name, content in self.compiler.frame().items():
                if current.get(name) != content:
                    changes[name] = (current.get(name), content)
                else:
                    changes.pop(name, None)
        return changes

    def steps(self, changes: Changes) -> list[Step]:
        """One for all that is new, one for what nothing points at any more; see ``_core.nftables_changes``."""
        if any(nftables.parts(name)[1] == "table" and new is not None for name, (_old, new) in changes.items()):
            self._preflight()
        made = nftables_changes.transactions(self.compiler, changes)
        return [Step(f"nft ({one.title})", one.text, one.undo) for one in made]

    def _preflight(self) -> None:
        """Asks once, before the tables are made, whether nft and the kernel know every form that is used.

        :raises PreflightError: they don't.
        """
        if not self.tool.available():
            return  # in check mode, on a node where the run would install it
        problems = nft_tool.too_old(self.tool.version(), platform.release())
        if not problems:
            families = self.compiler.settings.view.families
            problems = self.tool.lacking(nftables_changes.samples(self.compiler, families))
        if problems:
            raise PreflightError(problems)

    def test(self, step: Step) -> None:
        """nft --check; a node without nft has nothing to check with."""
        if self.tool.available():
            self.tool.check(step.text)

    def apply(self, step: Step, undo: bool = False) -> None:
        """nft -f, and what the step asks of the memory of session affinity."""
        transaction = step.undo if undo else step.text
        if not transaction:
            return
        remember, forget = nftables_changes.deeds(transaction)
        if not forget:
            self.tool.commit(transaction)
        for family, seconds in remember:
            chain = f"learn_{seconds}"
            nft_memory.remember(family, text_nftables.TABLE, chain, "affinity", seconds)
        for family in sorted({one.family for one in forget}):
            self._forget(family, [one for one in forget if one.family == family])

    def _forget(self, family: int, whom: list[Forget]) -> None:
        table = text_nftables.table(family)
        for attempt in range(FORGET_ATTEMPTS):
            listing = self.tool.list_map(table, "affinity")
            gone = nftables_listing.remembered(listing or "", family, whom)
            if not gone:
                return
            # Adding what is there changes nothing; what timed out meanwhile is there again, to be deleted.
            lines = text_nftables.elements("add", family, "affinity", [f"{key} : {value}" for key, value in gone])
            lines += text_nftables.elements("delete", family, "affinity", [key for key, _value in gone])
            try:
                self.tool.commit("".join(f"{line}\n" for line in lines))
                return
            except ToolError:
                if attempt == FORGET_ATTEMPTS - 1:
                    raise

    def culprit(self, error: ToolError, step: Step) -> str:
        """The element or rule on the line that nft names."""
        return refused_line(error, step.text).rstrip(",")


def make_mode(_params: dict[str, Any]) -> Callable[[Settings, Runner], NftablesMode]:
    """From a module's options: a function that makes the mode."""
    return NftablesMode

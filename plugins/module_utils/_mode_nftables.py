# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's half of the nftables mode: our tables as nft lists them, and transactions for nft.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, NamedTuple

from ._core import nftables, nftables_changes, text_nftables
from ._core.errors import NetlinkError, PreflightError, ToolError
from ._core.live import LiveFrontend
from ._core.nftables import NftablesCompiler
from ._core.nftables_changes import Forget
from ._core.passes import Changes, Program
from ._core.settings import Settings
from ._mode import ModeDefaults, Step
from ._node import generation, nft_chains, nft_tool
from ._node.nft_tool import NftTool, refused_line
from ._node.runner import Runner

FAMILIES = (4, 6)
# A client may be forgotten by its timeout, or remembered anew, between looking and deleting.
FORGET_ATTEMPTS = 5


class _Known(NamedTuple):
    """What our tables hold at a generation of nftables: every transaction of any program is one more."""

    generation: int
    program: Program


def _after(program: Program, changes: Changes) -> Program:
    held = {**program, **{name: new for name, (_old, new) in changes.items()}}
    return {name: content for name, content in held.items() if content is not None}


class NftablesMode(ModeDefaults):
    """Implements ``_mode.Mode``."""

    name = "nftables"
    iptables_variant = ""

    def __init__(self, settings: Settings, run: Runner, compiler: NftablesCompiler | None = None) -> None:
        self.compiler = NftablesCompiler(settings) if compiler is None else compiler
        self.tool = NftTool(run)
        self.warnings: list[str] = []
        self._known: _Known | None = None
        self._planned: tuple[Changes, list[Step]] = ({}, [])

    def token(self) -> str:
        """The generation of nftables; any program moves it."""
        return generation.token()

    def read(self) -> Program:
        """Our tables, one listing each. After our own transactions, if no other came between, without a listing."""
        if self._known is not None and self._known.generation == generation.nf_tables_generation():
            return dict(self._known.program)
        before = generation.nf_tables_generation()
        program: Program = {}
        for family in FAMILIES:
            listing = self.tool.list_table(text_nftables.table(family))
            if listing is not None:
                from ._core import nftables_listing  # noqa: PLC0415 - most runs have nothing to list

                program.update(nftables_listing.program(listing, family, self.compiler))
        if before is not None and before == generation.nf_tables_generation():
            self._known = _Known(before, dict(program))
        return program

    def ours(self, program: Program) -> Program:
        """Without a table that another mode has taken over: it says so in its mark, which begins with a word."""
        held = {
            family: str(program.get(nftables.container(family, "table", text_nftables.TABLE))) for family in FAMILIES
        }
        lost = tuple(f"{family}/" for family, mark in held.items() if _taken_over(mark, self.compiler.mark))
        return {name: content for name, content in program.items() if not name.startswith(lost)}

    def frontends(self, program: Program) -> list[LiveFrontend]:
        """What the elements name."""
        from ._core import nftables_live  # noqa: PLC0415 - no run that programs a node asks

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
        tables = (changes.get(nftables.container(family, "table", text_nftables.TABLE)) for family in FAMILIES)
        if any(change is not None and change[1] is not None for change in tables):
            self._preflight()
        made = nftables_changes.transactions(self.compiler, changes, _lacking)
        steps = [Step(f"nft ({one.title})", one.text, one.undo) for one in made]
        self._planned = (changes, steps)
        return steps

    def _preflight(self) -> None:
        """Asks once, before the tables are made, whether nft and the kernel know every form that is used.

        :raises PreflightError: they don't.
        """
        if not self.tool.available():
            return  # in check mode, on a node where the run would install it
        problems = nft_tool.too_old((), platform.release())
        lacking = self.tool.lacking(nftables_changes.samples(self.compiler, self.compiler.settings.view.families))
        if lacking:
            problems = nft_tool.too_old(self.tool.version(), platform.release()) or lacking
        if problems:
            raise PreflightError(problems)

    def test(self, step: Step) -> None:
        """nft --check; a node without nft has nothing to check with."""
        if self.tool.available():
            self.tool.check(step.text)

    def apply(self, step: Step, undo: bool = False) -> None:
        """nft -f, and what the step asks of the memory of session affinity."""
        transaction = step.undo if undo else step.text
        known, self._known = self._known, None
        if not transaction:
            return
        commits = 0
        remember, forget = nftables_changes.deeds(transaction)
        if not forget:
            self.tool.commit(transaction)
            commits += 1
        for family, seconds in remember:
            self._remember(family, seconds)
            commits += 1
        for family in sorted({one.family for one in forget}):
            commits += self._forget(family, [one for one in forget if one.family == family])
        changes, steps = self._planned
        if known is not None and not undo and any(step is one for one in steps):
            done = _after(known.program, changes) if step is steps[-1] else known.program
            self._known = _Known(known.generation + commits, done)

    @staticmethod
    def _remember(family: int, seconds: int) -> None:
        from ._node import nft_memory  # noqa: PLC0415 - few Services are sticky

        chain = f"learn_{seconds}"
        try:
            nft_memory.remember(family, text_nftables.TABLE, chain, "affinity", seconds)
        except NetlinkError as error:
            raise ToolError(
                ["netlink", "add rule", text_nftables.table(family), chain], error.code, str(error)
            ) from error

    def _forget(self, family: int, whom: list[Forget]) -> int:
        """-> how many transactions that took."""
        from ._core import nftables_listing  # noqa: PLC0415 - few Services are sticky

        table = text_nftables.table(family)
        for attempt in range(FORGET_ATTEMPTS):
            listing = self.tool.list_map(table, "affinity")
            gone = nftables_listing.remembered(listing or "", family, whom)
            if not gone:
                return 0
            # Adding what is there changes nothing; what timed out meanwhile is there again, to be deleted.
            lines = text_nftables.elements("add", family, "affinity", [f"{key} : {value}" for key, value in gone])
            lines += text_nftables.elements("delete", family, "affinity", [key for key, _value in gone])
            try:
                self.tool.commit("".join(f"{line}\n" for line in lines))
                return 1
            except ToolError:
                if attempt == FORGET_ATTEMPTS - 1:
                    raise
        return 0

    def culprit(self, error: ToolError, step: Step) -> str:
        """The element or rule on the line that nft names; for one that is deleted by its key, the whole of it."""
        line = refused_line(error, step.text).rstrip(",")
        for name, (old, new) in self._planned[0].items() if line else ():
            if name.endswith(f"/{line}"):
                return str(new if old is None else old)
        return line


def _lacking(family: int, chains: set[str]) -> set[str]:
    """Those of these chains that our table does not have."""
    return chains - nft_chains.existing(family, text_nftables.TABLE, chains)


def _taken_over(held: str, own: str) -> bool:
    """Is the mark of a table that of another mode? Another version of the same mode is not."""
    mode, _space, _version = held.replace("version ", "", 1).rpartition(" ")
    return mode != own.rpartition(" ")[0] and held != "unknown version"


def make_mode(_params: dict[str, Any]) -> Callable[[Settings, Runner], NftablesMode]:
    """From a module's options: a function that makes the mode."""
    return NftablesMode

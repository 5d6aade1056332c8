# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's half of the iptables mode: the chains as iptables-save shows them, and transactions for iptables-restore.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import _watch_iptables
from ._core import iptables, iptables_live, text_iptables
from ._core.errors import ToolError
from ._core.iptables import IptablesCompiler
from ._core.live import LiveFrontend
from ._core.passes import Changes, Program
from ._core.settings import Settings
from ._core.text_iptables import Change
from ._mode import ModeDefaults, Step
from ._node.iptables_tool import PACKAGE_HINT, IptablesTool, detect_or_expect
from ._node.legacy_tables import LEGACY, PREFIXES, loaded_tables
from ._node.runner import MissingToolError, Runner

FAMILIES = (4, 6)
_LINE = re.compile(r"line:? (\d+)")
_TARGET = re.compile(r" -[jg] (SERVICENET\S*)$", re.MULTILINE)


class IptablesMode(ModeDefaults):
    """Implements ``_mode.Mode`` for one variant of iptables.

    :param variant: ``legacy`` or ``nft``.
    :param leftover: the other variant if it holds chains of ours.
    """

    name = "iptables"
    features = (
        *("xt_conntrack", "xt_addrtype", "xt_mark", "xt_statistic", "xt_recent", "xt_bpf"),
        *("REJECT", "MARK", "DNAT", "MASQUERADE"),
    )

    def __init__(self, settings: Settings, run: Runner, variant: str, leftover: str = "") -> None:
        self.compiler = IptablesCompiler(settings)
        self.variant = self.iptables_variant = variant
        self.warnings = []
        if leftover:
            self.warnings.append(_watch_iptables.leftover(leftover))
        # Both: a family that is served no more may have rules of before.
        self.tools = {family: IptablesTool(run, family, variant) for family in FAMILIES}
        self._needed = self.tools[settings.view.families[0]]

    def token(self) -> str:
        """The generation of nftables, which iptables-nft moves. It does not show that the tool is gone."""
        return _watch_iptables.token(self.variant) if self._needed.available() else ""

    def read(self) -> Program:
        """Our chains, and our jumps in the built-in ones."""
        program: Program = {}
        for family, tool in self.tools.items():
            if not tool.available():
                if tool is self._needed:
                    raise MissingToolError(f"{PREFIXES[family]}-{self.variant}", PACKAGE_HINT)
                continue
            for table, chains in tool.save(iptables.TABLES).items():
                for chain, rules in chains.items():
                    ours = iptables.ours(table, chain, rules)
                    if ours is not None:
                        program[iptables.container(family, table, chain)] = ours
        return program

    def frontends(self, program: Program) -> list[LiveFrontend]:
        """What the leaves name."""
        return iptables_live.frontends(program)

    def complete(self, changes: Changes, current: Program | None) -> Changes:
        """The changes with those of the chains that lead to the leaves."""
        if current is None:
            come_or_gone = (name for name, (old, new) in changes.items() if old is None or new is None)
            current = self.read() if any(map(iptables.is_leaf, come_or_gone)) else None
        if current is None:
            return changes
        names = {name for name in current if not iptables.in_frame(name)}
        names -= {name for name, (_old, new) in changes.items() if new is None}
        names |= {name for name, (_old, new) in changes.items() if new is not None and not iptables.in_frame(name)}
        frame = self.compiler.frame(names)
        for name in {*frame, *filter(iptables.in_frame, current)}:
            if current.get(name) != frame.get(name):
                changes[name] = (current.get(name), frame.get(name))
            else:
                changes.pop(name, None)
        return changes

    def steps(self, changes: Changes) -> list[Step]:
        """For each family: what the filter table is to refuse besides, the nat table, what it no longer refuses.

        So a packet that finds no backend in the nat table, old or new, is never one that nobody refuses yet.
        """
        steps = []
        for family, tool in self.tools.items():
            if not tool.available():
                continue
            nat, filters = self._of_table(changes, family, "nat"), self._of_table(changes, family, "filter")
            both = {name: text_iptables.union(old, new) for name, (old, new) in filters.items()}
            where = f"{'ip6tables' if family == 6 else 'iptables'}-{self.variant}"
            for table, part in (
                ("filter", {name: (old, both[name]) for name, (old, _new) in filters.items()}),
                ("nat", nat),
                ("filter", {name: (both[name], new) for name, (_old, new) in filters.items()}),
            ):
                forth = {name: (old, new) for name, (old, new) in part.items() if old != new}
                if forth:
                    back = {name: (new, old) for name, (old, new) in forth.items()}
                    texts = _transaction(table, forth), _transaction(table, back)
                    steps.append(Step(f"{where} (table {table})", *texts))
        return steps

    @staticmethod
    def _of_table(changes: Changes, family: int, table: str) -> dict[str, Change]:
        return {
            chain: change
            for (f, t, chain), change in ((iptables.parts(name), change) for name, change in changes.items())
            if (f, t) == (family, table)
        }

    def test(self, step: Step) -> None:
        """iptables-restore --test. The chains that an earlier step would have made are made for the test."""
        first, *rest = step.text.splitlines()
        tool = self._tool(step)
        if self.variant == LEGACY and first[1:] not in loaded_tables(tool.family):
            return  # even a test would load the table
        named = set(_TARGET.findall(step.text)) - {line.split(" ")[0][1:] for line in rest if line.startswith(":")}
        tool.test("\n".join([first, *(f":{chain} - [0:0]" for chain in sorted(named)), *rest, ""]))

    def apply(self, step: Step, undo: bool = False) -> None:
        """iptables-restore --noflush: the table as a whole or not at all."""
        self._tool(step).restore(step.undo if undo else step.text)

    def _tool(self, step: Step) -> IptablesTool:
        return self.tools[6 if step.where.startswith("ip6") else 4]

    def culprit(self, error: ToolError, step: Step) -> str:
        """The rule on the line that iptables-restore names."""
        found = _LINE.search(error.stderr)
        lines = step.text.splitlines()
        if found is None or not 0 < int(found.group(1)) <= len(lines):
            return ""
        line = lines[int(found.group(1)) - 1]
        return line.split(" ", 2)[2] if line.startswith("-A ") else ""


def _transaction(table: str, changes: dict[str, Change]) -> str:
    hooks = {chain: change for chain, change in changes.items() if chain in iptables.HOOKS[table]}
    chains = {chain: change for chain, change in changes.items() if chain not in hooks}
    return text_iptables.transaction(table, chains, hooks)


def make_mode(params: dict[str, Any]) -> Callable[[Settings, Runner], IptablesMode]:
    """From a module's options: a function that makes the mode."""

    def make(settings: Settings, run: Runner) -> IptablesMode:
        leaving = params.get("state") == "absent"
        found = detect_or_expect(run, settings.view.families, params["variant"], leaving)
        return IptablesMode(settings, run, found.variant, found.leftover)

    return make

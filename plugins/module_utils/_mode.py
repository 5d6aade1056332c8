# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract of a mode: what the runner asks of it, and what most modes answer.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from ._core.errors import ToolError
from ._core.live import LiveFrontend
from ._core.passes import Changes, Compiler, Program
from ._core.table import PortRules


class Step(NamedTuple):
    """One transaction: its text, and the text that takes it back. ``where`` says to whom it goes, for messages."""

    where: str
    text: str
    undo: str


class Mode(Protocol):
    """The node's half of a mode."""

    @property
    def name(self) -> str:
        """The name of the mode."""

    @property
    def compiler(self) -> Compiler:
        """The pure half."""

    @property
    def features(self) -> tuple[str, ...]:
        """Features of iptables that preflight has to find."""

    @property
    def iptables_variant(self) -> str:
        """The variant of iptables that the mode uses, "" for none."""

    @property
    def sysctls(self) -> tuple[str, ...]:
        """Kernel settings that preflight reads for this mode, besides those of all modes."""

    @property
    def warnings(self) -> list[str]:
        """Sentences about what making the mode showed."""

    def token(self) -> str:
        """While it stands, nobody changed what we left; "" if the mode can't tell without reading."""

    def read(self) -> Program:
        """What the node holds of ours, spelled as the compiler does."""

    def judge(self, rules: Sequence[PortRules], full: bool, load: bool) -> tuple[list[str], list[str]]:
        """What the mode asks of the node besides what preflight does, before any kernel setting is read.

        :param full: the pass is full; only then is it asked what the kernel lacks.
        :param load: the kernel may load what it can; otherwise nothing changes.
        :returns: what the kernel lacks, and warnings.
        """

    def ours(self, program: Program) -> Program:
        """Of what was read that which the mode has to take away in the end: not what another mode has taken over."""

    def tracked(self, rules: Iterable[PortRules]) -> Iterable[PortRules]:
        """The rules with the backends that connection tracking sees."""

    def frontends(self, program: Program) -> list[LiveFrontend]:
        """What a program that was read does with each frontend."""

    def complete(self, changes: Changes, current: Program | None) -> Changes:
        """The changes, and those of what holds containers together (the frame). ``current`` None: the node holds what
        the last run left, and nobody looked."""

    def leave(self, changes: Changes) -> Changes:
        """Of the removal of everything that which may go now: some may have to stay for a while."""

    def steps(self, changes: Changes) -> list[Step]:
        """The transactions in their order: every mixture sends a packet to an old or new backend, or refuses it."""

    def test(self, step: Step) -> None:
        """Has the tool judge a transaction without committing it, as far as the tool can."""

    def apply(self, step: Step, undo: bool = False) -> None:
        """Commits a step, or takes it back; or raises ``ToolError`` and changes nothing."""

    def culprit(self, error: ToolError, step: Step) -> str:
        """The rule or element of the step that the tool refused; "" if it did not say."""


class ModeDefaults:
    """What most modes answer. A mode inherits it, and says itself what is otherwise."""

    features: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()

    def judge(self, _rules: Sequence[PortRules], _full: bool, _load: bool) -> tuple[list[str], list[str]]:
        """Nothing is asked besides."""
        return [], []

    def ours(self, program: Program) -> Program:
        """All of it: no other mode uses the same names."""
        return program

    def tracked(self, rules: Iterable[PortRules]) -> Iterable[PortRules]:
        """As they are: connection tracking sees the endpoints themselves."""
        return rules

    def leave(self, changes: Changes) -> Changes:
        """All of it goes at once."""
        return changes

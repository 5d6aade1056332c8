# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A runner that answers from a table, and a search path that knows what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Answer = tuple[int, str, str]


class FakeRunner:
    """Answers each command line (joined by spaces) from ``answers``; ``calls`` lists (command line, data)."""

    def __init__(self, answers: Mapping[str, str | Answer]) -> None:
        self.answers = dict(answers)
        self.calls: list[tuple[str, str | None]] = []

    def __call__(self, argv: list[str], data: str | None = None) -> Answer:
        command = " ".join(argv)
        self.calls.append((command, data))
        answer = self.answers.get(command, (127, "", f"{command}: not expected"))
        return (0, answer, "") if isinstance(answer, str) else answer

    @property
    def commands(self) -> list[str]:
        """The command lines alone."""
        return [command for command, _data in self.calls]


def found_in(*names: str) -> Callable[[str], str | None]:
    """A search path where exactly these tools are installed, below /sbin."""
    return lambda name: f"/sbin/{name}" if name in names else None

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception tree. A message is a sentence that a user can act on; the module prints it as it is.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations


class ServicenetError(Exception):
    """Everything that this collection raises on purpose."""


class ObjectError(ServicenetError):
    """One object of the cluster is refused; all others go on.

    :param kind: Kubernetes kind, for example ``Service``.
    :param key: namespace/name, shortened if it is hostile.
    :param reason: what is wrong, as the end of a sentence.
    """

    def __init__(self, kind: str, key: str, reason: str) -> None:
        super().__init__(f"{kind} {key}: {reason}")
        self.kind = kind
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type[ObjectError], tuple[str, str, str]]:
        """So that one that was raised in another process arrives as it was."""
        return ObjectError, (self.kind, self.key, self.reason)


class SnapshotError(ServicenetError):
    """A snapshot as a whole can't be used; what was in force before stays."""


class GuardError(SnapshotError):
    """A snapshot lost more than the mass-deletion guard allows."""


class OptionError(ServicenetError):
    """Options that are wrong or contradict each other."""


class PreflightError(ServicenetError):
    """The node is not fit for the mode.

    :param problems: one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class ToolError(ServicenetError):
    """A tool on the node failed.

    :param command: the command line as a list.
    :param rc: its exit status.
    :param stderr: what it said.
    """

    def __init__(self, command: list[str], rc: int, stderr: str, hint: str = "") -> None:
        said = stderr.strip() or "it said nothing"
        super().__init__(f"{' '.join(command)} ended with {rc}: {said}{' ' + hint if hint else ''}")
        self.command = command
        self.rc = rc
        self.stderr = stderr


class NetlinkError(ServicenetError):
    """The kernel refused a request.

    :param what: what was asked, as in "The kernel refused to ...".
    :param code: the errno.
    :param reason: its meaning.
    """

    def __init__(self, what: str, code: int, reason: str = "") -> None:
        super().__init__(f"The kernel refused to {what}: {reason or f'error {code}'}.")
        self.code = code


class NoAnswer(ServicenetError):
    """A DNS server did not answer, or with something else than a DNS message."""

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module on a node has in common: how it runs tools, and how it shows a difference.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._node.runner import NOT_STARTED, Runner, search_path

# The texts of tools are parsed.
COMMAND_ENVIRONMENT = {"LANG": "C.UTF-8", "LC_ALL": "C", "LANGUAGE": "C"}


class _Input:
    """The standard input of a tool, which may refuse something and end before it has read all."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def write(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(data)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()


def _let_it_speak(process: Any) -> None:
    """Keeps run_command from losing what a tool says, see ``_Input`` and ``_read_to_the_end``."""
    if process.stdin is not None:
        process.stdin = _Input(process.stdin)
    _read_to_the_end(process)


def _read_to_the_end(process: Any) -> None:
    """When a tool was silent for a second and then speaks and ends at once, run_command sees that it has ended and no
    more looks at what it said; so it has not ended until that is read."""
    ended = process.poll

    def poll() -> Any:
        code = ended()
        unread = code is not None and select.select([process.stdout, process.stderr], [], [], 0)[0]
        return None if unread else code

    process.poll = poll


def runner_of(module: AnsibleModule) -> Runner:
    """The module's own way to run a tool, as the node layer wants it."""
    module.run_command_environ_update = {**COMMAND_ENVIRONMENT, "PATH": search_path()}

    def run(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        try:
            rc, out, err = module.run_command(
                argv,
                data=data,
                binary_data=True,
                before_communicate_callback=_let_it_speak,
                handle_exceptions=False,
            )
        except OSError as error:
            return NOT_STARTED, "", f"{argv[0]}: {error.strerror}"
        return rc, out, err

    return run


def finish(
    module: AnsibleModule, result: dict[str, Any], title: str, before: list[str], after: list[str], warnings: list[str]
) -> None:
    """Ends the module with its warnings and, where it is asked for, the difference as lines for people."""
    for warning in warnings:
        module.warn(warning)
    if module._diff:
        result["diff"] = difference(title, before, after)
    module.exit_json(**result)


def services_title(mode: str) -> str:
    """What stands above the rules of a mode in a difference."""
    return f"service rules ({mode})"


def difference(title: str, before: list[str], after: list[str]) -> dict[str, str]:
    """As Ansible shows it."""
    return {
        "before_header": title,
        "after_header": title,
        "before": "".join(f"{line}\n" for line in before),
        "after": "".join(f"{line}\n" for line in after),
    }

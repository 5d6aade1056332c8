# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name, and shows how far it is while it writes thousands of records."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

OPTION = "progress_file"
INTERVAL = 0.5


class Follower:
    """Shows each whole line of a file as it comes; the rest when it is left.

    :param path: a file that need not be there yet.
    :param show: is told each line, by another thread than the one that entered.
    """

    def __init__(self, path: str, show: Callable[[str], Any]) -> None:
        self._path, self._show = path, show
        self._place = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._show_new()

    def _follow(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._show_new()

    def _show_new(self) -> None:
        try:
            with open(self._path, encoding="utf-8") as file:
                file.seek(self._place)
                whole, newline, _rest = file.read().rpartition("\n")
        except OSError:
            return
        self._place += len((whole + newline).encode())
        for line in whole.splitlines():
            self._show(line)


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action of the module."""

    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the module; its progress can be followed where it runs on this machine, in the foreground."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._connection.transport != "local" or self._task.async_val or OPTION in arguments:
            made = self._execute_module(
                module_args=arguments, task_vars=task_vars, wrap_async=bool(self._task.async_val)
            )
            return {**result, **made}
        directory = tempfile.mkdtemp(prefix="servicenet-")
        try:
            arguments[OPTION] = os.path.join(directory, "progress")
            with Follower(arguments[OPTION], Display().display):
                made = self._execute_module(module_args=arguments, task_vars=task_vars)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        made.get("invocation", {}).get("module_args", {}).pop(OPTION, None)
        return {**result, **made}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads a cluster in Ansible's own process where the module would run beside it: to make and start one takes longer."""

from __future__ import annotations

import sys
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.reading import arguments, read


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action of the module."""

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Does the module's work, or has the module run where it would find another user, machine or Python."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._is_this_process(task_vars or {}):
            _validated, params = self.validate_argument_spec(arguments())
            return {**result, **read(params, self._task.check_mode, self._task.diff)}
        return {**result, **self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))}

    def _is_this_process(self, task_vars: dict[str, Any]) -> bool:
        python = self._templar.template(task_vars.get("ansible_python_interpreter"))
        return (
            self._connection.transport == "local"
            and not (self._task.become or self._task.async_val or any(self._task.environment or ()))
            and python == sys.executable
        )

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of a mode and hands the node the snapshot that it lacks, in one task instead of a dozen. What takes
rules away is the module service_rules itself.

Where no node should need anything, a module without the code of a mode is asked first: to pack it takes Ansible half
the time, and so few nodes need more that it is the whole of most runs."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.kubenode.servicenet.plugins.module_utils._options import RULES_ARGUMENTS, TOLD_APART


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Programs the node; what it returns is what the module of the mode returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, params = self.validate_argument_spec(RULES_ARGUMENTS, required_if=[("state", "present", ["mode"])])
        if params["state"] == "absent":
            return {**result, **self._execute_module(task_vars=task_vars)}
        module, options = f"kubenode.servicenet.{params['mode']}_services", params["options"]
        source = params["snapshot_source"]
        if not (source and params["snapshot_is_new"]):
            if source and params["mode"] in TOLD_APART:
                seen = self._execute_module(
                    module_name="kubenode.servicenet.service_rules_unchanged",
                    module_args={"mode": params["mode"], "options": options},
                    task_vars=task_vars,
                )
                if seen.pop("unchanged", False):
                    return {**result, **seen}
            made = self._execute_module(module_name=module, module_args=options, task_vars=task_vars)
            if not (source and made.get("snapshot_wanted")):
                return {**result, **made}
        arrived = {"snapshot_arrived": self._send(source)}
        return {
            **result,
            **self._execute_module(module_name=module, module_args={**options, **arrived}, task_vars=task_vars),
        }

    def _send(self, source: str) -> str:
        """Copies a file to the node -> where it is there, until the task ends."""
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        directory = self._connection._shell.tmpdir
        there = str(self._connection._shell.join_path(directory, "snapshot.jsonl.gz"))
        self._transfer_file(source, there)
        self._fixup_perms2((directory, there))
        return there

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules have in common that tell what a mode left on a node, and go back to what it left before.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import gc
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ._core.errors import ServicenetError
from ._module import finish, runner_of
from ._node.runner import Runner
from ._options import ARGUMENTS
from ._outcome import MOST_NAMED, Outcome
from ._programming import confirm, told


def run_info_module(arguments: dict[str, Any], tell: Callable[[dict[str, Any], Runner], dict[str, Any]]) -> None:
    """The whole of service_rules_info.

    :param tell: handed in, since it brings the code of all modes.
    """
    gc.disable()
    module = AnsibleModule(arguments, supports_check_mode=True)
    try:
        found = tell(module.params, runner_of(module))
        module.exit_json(changed=False, **found, **told(module.params["state_dir"]))
    except ServicenetError as error:
        module.fail_json(msg=str(error))


def run_rollback_module(
    arguments: dict[str, Any], roll_back: Callable[[dict[str, Any], Runner, bool], Outcome]
) -> None:
    """The whole of service_rollback.

    :param roll_back: handed in, since it brings the code of all modes.
    """
    gc.disable()
    module = AnsibleModule(arguments, supports_check_mode=True)
    try:
        outcome = roll_back(module.params, runner_of(module), module.check_mode)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    held = outcome.facts.get("held", "")
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "held": held,
        "mode": outcome.facts.get("mode", ""),
        "digest": outcome.facts.get("digest", ""),
        "drift": outcome.drift[:MOST_NAMED],
    }
    warnings = [warning for warning in outcome.warnings if warning != held]
    finish(module, result, "service rules", outcome.before, outcome.after, warnings)


def run_confirm_module() -> None:
    """The whole of service_confirm."""
    places = {option: ARGUMENTS[option] for option in ("state_dir", "run_dir", "lock_timeout")}
    token = {"type": "str", "required": True, "no_log": False}
    module = AnsibleModule({"token": token, **places}, supports_check_mode=True)
    try:
        changed = confirm(module.params, module.params["token"], module.check_mode)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, token=module.params["token"])

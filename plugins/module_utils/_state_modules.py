# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules are made of that tell what a mode left on a node, take it away, or go back to what it left before.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import gc
from typing import Any, Callable, Iterator

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._core.errors import ServicenetError
from ._module import difference, finish, runner_of, services_title
from ._node.runner import Runner
from ._options import ARGUMENTS, OWN_ARGUMENTS, RULES_ARGUMENTS
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


def run_removal_module(
    remove: Callable[[str | None, Callable[[str], dict[str, Any]], Runner, bool], Iterator[tuple[str, Outcome]]],
) -> None:
    """What service_rules is on a node, where nothing but the removal comes: its action runs the modes' own modules.

    :param remove: handed in, since it brings the code of all modes.
    """
    gc.disable()
    module = AnsibleModule(RULES_ARGUMENTS, supports_check_mode=True)
    keep, given = module.params["keep"], module.params["options"]
    specs = {name: {**ARGUMENTS, **own} for name, own in OWN_ARGUMENTS.items()}
    unknown = sorted(option for option in given if not any(option in spec for spec in specs.values()))
    if unknown:
        module.fail_json(msg=f"No mode has the options {', '.join(unknown)}.")

    def options_of(name: str) -> dict[str, Any]:
        mine = {option: value for option, value in given.items() if option in specs[name]}
        done = ArgumentSpecValidator(specs[name]).validate({**mine, "state": "absent"})
        if done.error_messages:
            module.fail_json(msg=f"{name}: {' '.join(done.error_messages)}")
        return dict(done.validated_parameters)

    removed, differences = [], []
    try:
        for name, outcome in remove(keep, options_of, runner_of(module), module.check_mode):
            for warning in outcome.warnings:
                module.warn(warning)
            if outcome.changed:
                removed.append(name)
                differences.append(difference(services_title(name), outcome.before, outcome.after))
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    result: dict[str, Any] = {"changed": bool(removed), "removed": removed, "mode": keep or ""}
    module.exit_json(**result, **({"diff": differences} if module._diff else {}))


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

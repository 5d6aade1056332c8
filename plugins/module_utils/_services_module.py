# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every *_services module has in common where Ansible calls it: its arguments and its result.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import gc
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ._core.errors import ServicenetError
from ._module import finish, runner_of
from ._node.runner import Runner
from ._programming import confirm, program, told
from ._runner import MOST_NAMED, Outcome
from ._services import ARGUMENTS, MakeMode, lacks_snapshot


def run_module(name: str, own_arguments: dict[str, Any], make_mode: Callable[[dict[str, Any]], MakeMode]) -> None:
    """The whole of a *_services module.

    :param make_mode: from the options to a function that makes the mode from settings and a command runner.
    """
    # The process is short and keeps all that it makes: looking for garbage costs a quarter of the time of a first run.
    # What is frozen in the end is not looked at when Python ends either.
    gc.disable()
    module = AnsibleModule({**ARGUMENTS, **own_arguments}, supports_check_mode=True)
    params = module.params
    if lacks_snapshot(params):
        module.exit_json(changed=False, mode=name, drift=[], snapshot_wanted=True)
    try:
        outcome = program(name, params, {name: make_mode}, runner_of(module), module.check_mode)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "mode": name,
        "snapshot_wanted": False,
        "drift": outcome.drift[:MOST_NAMED],
        **outcome.facts,
    }
    gc.freeze()
    finish(module, result, f"service rules ({name})", outcome.before, outcome.after, outcome.warnings)


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

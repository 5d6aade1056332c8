# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module service_rules_unchanged where Ansible calls it: its arguments and its result.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._core.errors import ServicenetError
from ._module import finish, runner_of, services_title
from ._node.runner import Runner
from ._options import ARGUMENTS, OWN_ARGUMENTS, TOLD_APART
from ._outcome import Outcome, returned
from ._unchanged import unchanged
from ._watch import nftables
from ._watch_iptables import look as iptables

LOOKS = {"iptables": iptables, "nftables": nftables}


def run_module() -> None:
    """The whole of the module."""
    arguments = {
        "mode": {"type": "str", "choices": list(TOLD_APART), "required": True},
        "options": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(arguments, supports_check_mode=True)
    mode = module.params["mode"]
    outcome = found(mode, module.params["options"], runner_of(module))
    if outcome is not None:
        finish(module, {"unchanged": True, **returned(mode, outcome)}, services_title(mode), [], [], outcome.warnings)
    module.exit_json(changed=False, unchanged=False)


def found(mode: str, options: dict[str, Any], run: Runner) -> Outcome | None:
    """What the module of the mode would tell if it has nothing to do."""
    checked = ArgumentSpecValidator({**ARGUMENTS, **OWN_ARGUMENTS[mode]}).validate(options)
    if checked.error_messages:
        return None
    try:
        return unchanged(mode, checked.validated_parameters, LOOKS[mode], run)
    except ServicenetError:
        return None

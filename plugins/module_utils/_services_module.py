# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every *_services module has in common where Ansible calls it: its arguments and its result.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ._core.errors import ServicenetError
from ._module import finish, runner_of, services_title
from ._node.runner import Runner
from ._options import ARGUMENTS, OWN_ARGUMENTS
from ._outcome import Outcome, returned
from ._unchanged import unchanged
from ._watch import Look

if TYPE_CHECKING:
    from ._services import MakeMode


def run_module(
    name: str,
    make_mode: Callable[[dict[str, Any]], MakeMode],
    look: Look | None = None,
) -> None:
    """The whole of a *_services module.

    :param make_mode: from the options to a function that makes the mode from settings and a command runner. It imports
        the mode late, since most runs find nothing to do.
    :param look: tells without the mode's own code that nobody touched what it left; not every mode can.
    """
    # The process is short and keeps all that it makes: looking for garbage costs a quarter of the time of a first run.
    # What is frozen in the end is not looked at when Python ends either.
    gc.disable()
    module = AnsibleModule({**ARGUMENTS, **OWN_ARGUMENTS[name]}, supports_check_mode=True)
    run = runner_of(module)
    renewed = False
    try:
        if module.params["snapshot_arrived"]:
            from ._services import take_in  # noqa: PLC0415 - only a node that lacks the snapshot gets one

            renewed = take_in(module.params, module.check_mode)
        found = unchanged(name, module.params, look, run) if look is not None else None
        outcome = _programmed(module, name, make_mode, run) if found is None else found
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    result = returned(name, outcome._replace(changed=outcome.changed or renewed))
    gc.freeze()
    finish(module, result, services_title(name), outcome.before, outcome.after, outcome.warnings)


def _programmed(
    module: AnsibleModule, name: str, make_mode: Callable[[dict[str, Any]], MakeMode], run: Runner
) -> Outcome:
    from ._programming import program  # noqa: PLC0415 - most runs find nothing to do
    from ._services import lacks_snapshot  # noqa: PLC0415 - the same

    if lacks_snapshot(module.params):
        module.exit_json(changed=False, mode=name, drift=[], snapshot_wanted=True)
    return program(name, module.params, {name: make_mode}, run, module.check_mode, module._diff)

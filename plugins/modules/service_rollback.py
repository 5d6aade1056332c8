#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_rollback
short_description: Bring a node back to Service rules that it had before, and hold it there
description:
  - A node keeps the last states that it was in, each a snapshot with the options and the mode it was programmed with.
    This module programs one of them again and holds the node there. Until it is released, the modules that program
    Services and the agent of the node repair what somebody alters, and program nothing newer.
  - It needs neither the API server nor a snapshot from the controller. The names that the node serves are no part of
    it.
options:
  state:
    description:
      - V(held) goes back and stays. V(released) ends that; the next run programs the newest state.
    type: str
    choices: [held, released]
    default: held
  to:
    description:
      - V(previous) is the state before the one in force; for a node that went back already, the one that it is held at.
      - Otherwise the beginning of the digest of a kept state, at least 6 characters.
        M(kubenode.servicenet.service_rules_info) returns what is kept.
    type: str
    default: previous
  hold_seconds:
    description:
      - After how many seconds the node is released by itself; V(0) is never.
    type: int
    default: 0
  kept_states:
    description:
      - How many states the node keeps.
    type: int
    default: 5
  state_dir:
    description:
      - Where the node keeps what it applied last, and the states before.
    type: path
    default: /var/lib/servicenet
  run_dir:
    description:
      - Where the lock against two runs is.
    type: path
    default: /run/servicenet
  lock_timeout:
    description:
      - How many seconds to wait for another run to end.
    type: int
    default: 60
attributes:
  check_mode:
    description: Can run in check mode and tell what would change without changing it.
    support: full
  diff_mode:
    description: Names the services and endpoints that change.
    support: full
  idempotent:
    description: A second run with the same options changes nothing and writes nothing.
    support: full
  platform:
    description: Where it runs.
    platforms: linux
    support: full
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Go back to the state before, and stay there for an hour
  kubenode.servicenet.service_rollback:
    hold_seconds: 3600

- name: Follow the cluster again
  kubenode.servicenet.service_rollback:
    state: released
"""

RETURN = r"""
held:
  description: A sentence that says at what the node is held, why, until when and what releases it; empty if it is not.
  type: str
  returned: success
mode:
  description: The mode of the state that the node is held at, empty if it is not.
  type: str
  returned: success
digest:
  description: The digest of its snapshot, empty if the node is not held.
  type: str
  returned: success
drift:
  description: The service ports whose rules somebody had altered on the node since the last run, at most 100.
  type: list
  elements: str
  returned: success
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._rolling_back import ARGUMENTS, roll_back  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._state_modules import run_rollback_module  # noqa: PLC0415

    run_rollback_module(ARGUMENTS, roll_back)


if __name__ == "__main__":
    main()

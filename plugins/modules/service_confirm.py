#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_confirm
short_description: Confirm a change of Service rules, so that it does not go back by itself
description:
  - A change that was made with C(confirm_seconds), an option of the modules that program a mode, goes back by itself
    unless this module confirms it in time. Run it over a new connection, since only that shows that the node can still
    be reached.
options:
  token:
    description:
      - What the module that made the change returned as C(confirm_token).
    type: str
    required: true
  state_dir:
    description:
      - Where the node keeps what it applied last.
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
    description: Says whether the change waits, and confirms nothing.
    support: full
  diff_mode:
    description: Rules are not changed.
    support: none
  platform:
    description: Where it runs.
    platforms: linux
    support: full
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Program the Services, and go back after 30 seconds unless that is confirmed
  kubenode.servicenet.nftables_services:
    confirm_seconds: 30
  register: programmed

- name: Come by a new connection
  ansible.builtin.meta: reset_connection

- name: Confirm the change
  kubenode.servicenet.service_confirm:
    token: "{{ programmed.confirm_token }}"
  when: programmed.confirm_token | length > 0
"""

RETURN = r"""
token:
  description: The token of the change that was confirmed.
  type: str
  returned: success
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._state_modules import run_confirm_module  # noqa: PLC0415

    run_confirm_module()


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_rules_unchanged
short_description: Tell whether a node's Service rules are as the last run left them
description:
  - Tells whether the module of a mode would find nothing to do, without the code of the mode. Where that can't be told
    for sure it says no.
  - M(kubenode.servicenet.service_rules) asks it first where O(kubenode.servicenet.service_rules#module:snapshot_source)
    is a snapshot that nodes should have already, so you rarely need it yourself.
options:
  mode:
    description:
      - How the Services are programmed. Of the other modes only their own modules can tell.
    type: str
    choices: [iptables, nftables]
    required: true
  options:
    description:
      - The options of the module of that mode. With a value that the module does not take, the answer is no.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Nothing is ever changed.
    support: full
  diff_mode:
    description: Nothing is ever changed.
    support: none
  platform:
    description: Where it runs.
    platforms: linux
    support: full
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Ask whether somebody altered the rules
  kubenode.servicenet.service_rules_unchanged:
    mode: nftables
    options:
      node_name: "{{ inventory_hostname }}"
      pod_cidrs: [10.128.0.0/9]
  register: rules

- name: Name the nodes where somebody did
  ansible.builtin.debug:
    msg: The rules, the options or the snapshot are others than the last run had.
  when: not rules.unchanged
"""

RETURN = r"""
unchanged:
  description:
    - Whether the module of the mode would find nothing to do. All that it would return then is returned as well.
  type: bool
  returned: success
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._unchanged_module import run_module  # noqa: PLC0415

    run_module()


if __name__ == "__main__":
    main()

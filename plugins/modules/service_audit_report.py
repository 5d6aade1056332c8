#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_audit_report
short_description: Write one report of what the nodes of a fleet serve
description:
  - Takes what M(kubenode.servicenet.service_rules_info) and M(kubenode.servicenet.service_probe) returned on each node
    and writes one report of all of them, as JSON and as one page of HTML that needs nothing besides itself.
  - It runs where the report is to be, usually on the controller.
options:
  rules:
    description: Node -> the registered result of M(kubenode.servicenet.service_rules_info), failed ones included.
    type: dict
    required: true
  probes:
    description: Node -> the registered result of M(kubenode.servicenet.service_probe). A skipped one does not count.
    type: dict
    default: {}
  json_dest:
    description: Where to write the report as JSON; empty is nowhere.
    type: path
    default: ""
  html_dest:
    description: Where to write the page; empty is nowhere.
    type: path
    default: ""
  title:
    description: The title of the page.
    type: str
    default: Service audit
attributes:
  check_mode:
    description: The report is made and not written.
    support: full
  diff_mode:
    description: A report is new each time.
    support: none
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Write the report of all nodes
  kubenode.servicenet.service_audit_report:
    rules: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'rules'))) }}"
    html_dest: audit.html
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
summary:
  description: How many nodes are in which state, how many Services there are, how many of them were altered.
  type: dict
  returned: success
differing:
  description: The nodes that are not as they should be, for whatever reason.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubenode.servicenet.plugins.module_utils._auditing import write
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError

ARGUMENTS = {
    "rules": {"type": "dict", "required": True},
    "probes": {"type": "dict", "default": {}},
    "json_dest": {"type": "path", "default": ""},
    "html_dest": {"type": "path", "default": ""},
    "title": {"type": "str", "default": "Service audit"},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        result = write(module.params, module.check_mode)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(module.params["json_dest"] or module.params["html_dest"]), **result)


if __name__ == "__main__":
    main()

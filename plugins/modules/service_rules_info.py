#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_rules_info
short_description: Tell which Services a node serves, and how that differs from a snapshot
description:
  - Reads the rules of this collection back from the kernel and tells what they do with each frontend, which Services'
    rules somebody altered since the last run, and what a snapshot would change.
  - It changes nothing.
options:
  mode:
    description:
      - The mode to look at. V(auto) takes the one that was programmed last on this node.
    type: str
    choices: [auto, iptables, nftables]
    default: auto
  snapshot:
    description:
      - The snapshot to compare with. Default is the one that was applied last.
    type: path
  services:
    description:
      - Tell the frontends of these Services only, each as C(namespace/name). Default are all, but at most
        O(max_frontends).
    type: list
    elements: str
    default: []
  max_frontends:
    description:
      - The most frontends to tell.
    type: int
    default: 200
  state_dir:
    description:
      - Where the node keeps what it applied last.
    type: path
    default: /var/lib/servicenet
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
  platform:
    description: Where it runs.
    platforms: linux
    support: full
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Look at the rules of one Service
  kubenode.servicenet.service_rules_info:
    services: [default/web]
  register: rules

- name: Fail if somebody altered the rules
  ansible.builtin.assert:
    that: rules.drift | length == 0
    fail_msg: "Altered on the node: {{ rules.drift | join(', ') }}"
"""

RETURN = r"""
mode:
  description: The mode that was looked at, empty if none was programmed.
  type: str
  returned: always
digest:
  description: The digest of the snapshot that was applied last, empty if none was.
  type: str
  returned: always
frontends:
  description: What the rules in the kernel do with each frontend.
  type: list
  elements: dict
  returned: always
  contains:
    service:
      description: The service port, empty if the applied snapshot has none with this frontend.
      type: str
    address:
      description: The address, or V(node port).
      type: str
    port:
      description: The port.
      type: int
    protocol:
      description: The protocol.
      type: str
    ip_family:
      description: The family.
      type: str
    backends:
      description: Every backend, with C(address) and C(port), that some packet may be sent to.
      type: list
      elements: dict
    refused:
      description: What happens to packets that are sent to none, V(reject), V(drop) or empty.
      type: str
frontends_count:
  description: How many frontends there are in all.
  type: int
  returned: always
drift:
  description: The service ports whose rules are not as the last run left them, at most 100.
  type: list
  elements: str
  returned: always
drift_count:
  description: How many service ports those are in all.
  type: int
  returned: always
missing:
  description: What the snapshot wants and the last run did not program, one line a frontend.
  type: list
  elements: str
  returned: always
surplus:
  description: What the last run programmed and the snapshot does not want, one line a frontend.
  type: list
  elements: str
  returned: always
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._modes import MAKERS
from ansible_collections.kubenode.servicenet.plugins.module_utils._services_module import run_info_module


def main() -> None:
    run_info_module(MAKERS)


if __name__ == "__main__":
    main()

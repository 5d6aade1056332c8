#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_rules
short_description: Program the Service rules of a Kubernetes cluster in any mode
description:
  - Runs the module of a mode on the node, M(kubenode.servicenet.iptables_services),
    M(kubenode.servicenet.nftables_services), M(kubenode.servicenet.ipvs_services) or
    M(kubenode.servicenet.userspace_services). Which one may differ from node to node.
  - A node that does not hold the snapshot of O(snapshot_source) gets it first. All others are sent nothing but its
    digest.
  - With O(state=absent) it takes the rules of all modes off the node, or of all but one.
options:
  state:
    description:
      - Whether the Services are programmed, or nothing of any mode but O(keep) is left.
    type: str
    choices: [present, absent]
    default: present
  mode:
    description:
      - How the Services are programmed. Needed with O(state=present).
    type: str
    choices: [iptables, nftables, ipvs, userspace]
  keep:
    description:
      - The mode that stays with O(state=absent). Run it when that one is in force already, so that no packet is lost.
    type: str
    choices: [iptables, nftables, ipvs, userspace]
  options:
    description:
      - The options of the module of that mode. With O(state=absent) each mode takes those that it has.
    type: dict
    default: {}
  snapshot_source:
    description:
      - A snapshot on the controller. It goes to a node that has another one than C(snapshot_digest) in O(options) says.
      - Without it, the node is programmed by the snapshot that lies there.
    type: path
  snapshot_is_new:
    description:
      - Whether that snapshot was made just now, so that no node can have it. It is sent without asking then.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and return what it would change, without changing it.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing) when in diff mode.
    support: full
    details:
      - The diff names Services.
  platform:
    description: Where it runs.
    platforms: linux
    support: full
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Read the cluster
  kubenode.servicenet.cluster_snapshot:
    kubeconfig: /etc/kubernetes/reader.conf
    dest: /var/cache/servicenet/prod.jsonl.gz
  delegate_to: localhost
  run_once: true
  register: cluster

- name: Program every node in its own mode
  kubenode.servicenet.service_rules:
    mode: "{{ service_mode }}"
    snapshot_source: "{{ cluster.path }}"
    snapshot_is_new: "{{ cluster.changed }}"
    options:
      snapshot_digest: "{{ cluster.digest }}"
      node_name: "{{ inventory_hostname }}"
      pod_cidrs: [10.128.0.0/9]

- name: Take away what other modes left
  kubenode.servicenet.service_rules:
    state: absent
    keep: "{{ service_mode }}"

- name: Take all rules away, and their connections with them
  kubenode.servicenet.service_rules:
    state: absent
    options:
      ipvs_drain_seconds: 0
"""

RETURN = r"""
mode:
  description:
    - The mode that was programmed, or that was kept. What else is returned is told by the module of that mode.
  type: str
  returned: success
  sample: nftables
removed:
  description: The modes of which something was there.
  type: list
  elements: str
  returned: O(state=absent)
  sample: [iptables]
services_changed:
  description: The Services whose frontends or endpoints are others than before, as namespace/name; at most 100.
  type: list
  elements: str
  returned: O(state=present)
drift:
  description:
    - The service ports whose rules somebody had altered on the node since the last run, at most 100; they were
      repaired.
  type: list
  elements: str
  returned: O(state=present)
confirm_token:
  description:
    - What M(kubenode.servicenet.service_confirm) needs to confirm the change, empty if nothing waits.
  type: str
  returned: O(state=present)
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._removing import remove  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._state_modules import run_removal_module  # noqa: PLC0415

    run_removal_module(remove)


if __name__ == "__main__":
    main()

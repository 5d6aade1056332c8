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
options:
  mode:
    description:
      - How the Services are programmed.
    type: str
    choices: [iptables, nftables, ipvs, userspace]
    required: true
  options:
    description:
      - The options of the module of that mode.
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
"""

RETURN = r"""
mode:
  description: The mode that was programmed. What else is returned is told by the module of that mode.
  type: str
  returned: success
  sample: nftables
services_changed:
  description: The Services whose frontends or endpoints are others than before, as namespace/name; at most 100.
  type: list
  elements: str
  returned: success
drift:
  description:
    - The service ports whose rules somebody had altered on the node since the last run, at most 100; they were
      repaired.
  type: list
  elements: str
  returned: success
confirm_token:
  description:
    - What M(kubenode.servicenet.service_confirm) needs to confirm the change, empty if nothing waits.
  type: str
  returned: success
"""

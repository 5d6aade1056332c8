#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iptables_services
short_description: Program the Service rules of a Kubernetes cluster with iptables
description:
  - Reads a snapshot of a cluster (see M(kubenode.servicenet.cluster_snapshot)) and makes the node send the packets of
    ClusterIPs, node ports, load balancer IPs and external IPs to the endpoints that kube-proxy would choose.
  - Services are found through a tree on the destination address, so that the ten-thousandth is found as fast as the
    first, and only what differs is written.
extends_documentation_fragment:
  - kubenode.servicenet._services
options:
  variant:
    description:
      - Which iptables to use. V(auto) takes the one that the host uses and fails if both hold rules of other programs.
    type: str
    choices: [auto, legacy, nft]
    default: auto
  localhost_nodeports:
    description:
      - Serve node ports on 127.0.0.1, too (IPv4 only). It takes the sysctl C(net.ipv4.conf.all.route_localnet).
    type: bool
    default: true
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Program the Services of the snapshot that lies on the node
  kubenode.servicenet.iptables_services:
    snapshot: /var/lib/servicenet/snapshot.jsonl.gz
    node_name: node-a
    pod_cidrs: [10.128.0.0/9]

- name: Show what would change, service by service
  kubenode.servicenet.iptables_services:
    node_name: node-a
    pod_cidrs: [10.128.0.0/9]
  check_mode: true
  diff: true

- name: Take everything away again
  kubenode.servicenet.iptables_services:
    state: absent
"""

RETURN = r"""
mode:
  description: The mode that was programmed.
  type: str
  returned: success
  sample: iptables
snapshot_wanted:
  description: Whether nothing was done, since the snapshot on the node is not that of O(snapshot_digest).
  type: bool
  returned: success
digest:
  description: The digest of the snapshot.
  type: str
  returned: O(state=present)
counts:
  description: How many objects the snapshot holds.
  type: dict
  returned: O(state=present)
  sample: {services: 12, endpoints: 40, ready_endpoints: 38, nodes: 3, namespaces: 4, pods: 0, service_cidrs: 1}
services_changed:
  description: The Services whose frontends or endpoints are others than before, as namespace/name; at most 100.
  type: list
  elements: str
  returned: O(state=present)
services_changed_count:
  description: How many Services those are in all.
  type: int
  returned: O(state=present)
drift:
  description:
    - The service ports whose rules somebody had altered on the node since the last run, at most 100; they were
      repaired.
  type: list
  elements: str
  returned: success
held:
  description:
    - At what the node is held, why, until when, and what releases it; empty if it is not. A node that is held gets
      nothing newer.
  type: str
  returned: O(state=present)
confirm_token:
  description:
    - What M(kubenode.servicenet.service_confirm) needs to confirm the change, empty if nothing waits.
  type: str
  returned: O(state=present)
full_pass:
  description: Whether everything was compiled, and not only what changed.
  type: bool
  returned: O(state=present)
transactions:
  description: How many transactions the changes take.
  type: int
  returned: O(state=present)
"""

from typing import Any

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def make_mode(params: dict[str, Any]) -> Any:
    """Brings the code of the mode, once there is something to do."""
    from ansible_collections.kubenode.servicenet.plugins.module_utils import _mode_iptables  # noqa: PLC0415

    return _mode_iptables.make_mode(params)


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._services_module import run_module  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._watch_iptables import look  # noqa: PLC0415

    run_module("iptables", make_mode, look)


if __name__ == "__main__":
    main()

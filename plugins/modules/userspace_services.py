#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: userspace_services
short_description: Serve the Services of a Kubernetes cluster on a node through proxies
description:
  - Reads a snapshot of a cluster (see M(kubenode.servicenet.cluster_snapshot)) and makes the node send the packets of
    ClusterIPs, node ports, load balancer IPs and external IPs to an nginx of its own, which relays them to the
    endpoints that kube-proxy would choose. An endpoint that does not answer is passed over, which no other mode does.
  - Each backend set of a service port has a random port of the node, kept in a state file and in
    C(net.ipv4.ip_local_reserved_ports). What reaches such a port without having been captured is dropped.
  - The rules are those of M(kubenode.servicenet.nftables_services), in the same tables C(ip servicenet) and
    C(ip6 servicenet), also on hosts that use iptables otherwise.
  - Endpoints see the address of the node, never that of the client. Session affinity goes by the client's address and
    has no timeout. SCTP is refused.
  - A reload keeps TCP connections. UDP sessions may change their endpoint with it, and an answer over UDP that is on
    its way meanwhile is lost, so that the client has to ask again.
requirements:
  - nginx with its stream module
  - nft 1.0.6 or later
  - Linux 5.13 or later
options:
  userspace_ports:
    description: The range that the ports of proxies are chosen from.
    type: str
    default: 12000-29999
  userspace_connect_timeout:
    description: Milliseconds after which an endpoint that does not accept is passed over.
    type: int
    default: 250
  userspace_udp_timeout:
    description: Seconds after which a silent UDP session ends.
    type: int
    default: 10
  userspace_drain_seconds:
    description: Seconds that connections of an older configuration, or of a mode that was removed, may go on.
    type: int
    default: 3600
  userspace_max_old_workers:
    description: How many older workers may keep their connections; the oldest are cut, with a warning.
    type: int
    default: 32
  userspace_max_connections:
    description: Connections that a worker relays at most.
    type: int
    default: 8192
  userspace_workers:
    description: Workers of nginx; 0 is one for each CPU, eight at most.
    type: int
    default: 0
  userspace_no_endpoints:
    description: What becomes of a connection to a Service without endpoints; V(accept) accepts and closes it.
    type: str
    choices: [reject, accept]
    default: reject
extends_documentation_fragment:
  - kubenode.servicenet._services
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Serve the Services of the snapshot that lies on the node
  kubenode.servicenet.userspace_services:
    snapshot: /var/lib/servicenet/snapshot.jsonl.gz
    node_name: node-a
    node_ips: [198.18.1.1]
    userspace_connect_timeout: 500

- name: Take everything away again; connections that are there go on
  kubenode.servicenet.userspace_services:
    state: absent
"""

RETURN = r"""
mode:
  description: The mode that was programmed.
  type: str
  returned: success
  sample: userspace
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

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._mode_userspace import make_mode  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._services_module import run_module  # noqa: PLC0415

    run_module("userspace", make_mode)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ipvs_services
short_description: Program the Services of a Kubernetes cluster as virtual servers of IPVS
description:
  - Reads a snapshot of a cluster (see M(kubenode.servicenet.cluster_snapshot)) and makes the node send the packets of
    ClusterIPs, node ports, load balancer IPs and external IPs to the endpoints that kube-proxy would choose, through
    virtual servers in the kernel.
  - The addresses of Services are held by the device C(servicenet0). A constant number of iptables rules and sets named
    C(SERVICENET-*) masquerade, and refuse what no Service serves. Where clients from outside have other endpoints than
    those on the node, and for node ports, a virtual server is found by a firewall mark.
  - Every run reads what the kernel holds and changes only what differs. An endpoint that comes or goes is one
    operation.
  - Virtual servers of other programs stay untouched, and so do sets and rules that are not named after this collection.
  - An endpoint that no Service has any more takes no new connections. Those of TCP that it has go on until they end or
    O(ipvs_drain_seconds) are over; the run after that removes it. UDP and SCTP go elsewhere at once.
  - A Service may ask for a scheduler of its own with the annotation C(servicenet.kubenode.io/scheduler), and for
    weights with C(servicenet.kubenode.io/weights), a list such as C(local=3, 10.129.0.0/16=2, 10.129.0.7=5).
    Everything else has the weight 1. What is invalid is a warning.
  - Session affinity holds for its time at each address of a Service by itself. By a node port, and by an address with
    C(externalTrafficPolicy) Local, it has no time, since the scheduler C(sh) then finds the endpoint by the client's
    address, as long as the endpoints stay the same.
requirements:
  - a kernel with the modules ip_vs, ip_set and xt_set
  - ipset
  - iptables 1.8 or later
options:
  variant:
    description:
      - Which iptables to use. V(auto) takes the one that the host uses and fails if both hold rules of other programs.
    type: str
    choices: [auto, legacy, nft]
    default: auto
  ipvs_scheduler:
    description:
      - How a virtual server of a Service that asks for nothing else chooses among its real servers. The kernel needs
        the module C(ip_vs_NAME).
    type: str
    choices: [rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh]
    default: rr
  ipvs_local_fallback:
    description:
      - Send what a traffic policy Local would drop, since the node has no endpoint of the Service, to the endpoints on
        other nodes, as the ipvs mode of kube-proxy does.
    type: bool
    default: false
  ipvs_drain_seconds:
    description:
      - Seconds that TCP connections to an endpoint may go on after it is gone. V(0) cuts them at once.
    type: int
    default: 3600
  ipvs_strict_arp:
    description:
      - Answer ARP requests only for addresses of the interface that they come by (C(arp_ignore) 1, C(arp_announce) 2).
        Load balancers that announce addresses of Services themselves need it.
    type: bool
    default: false
  ipvs_tcp_timeout:
    description:
      - Seconds after which IPVS forgets an idle TCP connection. V(0) leaves the number of the kernel.
    type: int
    default: 0
  ipvs_tcpfin_timeout:
    description:
      - Seconds after which IPVS forgets a TCP connection that was closed on one side. V(0) leaves the number of the
        kernel.
    type: int
    default: 0
  ipvs_udp_timeout:
    description:
      - Seconds after which IPVS forgets an idle UDP flow. V(0) leaves the number of the kernel.
    type: int
    default: 0
extends_documentation_fragment:
  - kubenode.servicenet._services
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Serve the Services of the snapshot that lies on the node
  kubenode.servicenet.ipvs_services:
    snapshot: /var/lib/servicenet/snapshot.jsonl.gz
    node_name: node-a
    node_ips: [198.18.1.1]
    pod_cidrs: [10.128.0.0/9]
    ipvs_scheduler: lc

- name: Show what would change, service by service
  kubenode.servicenet.ipvs_services:
    node_name: node-a
    pod_cidrs: [10.128.0.0/9]
  check_mode: true
  diff: true

- name: Take everything away again
  kubenode.servicenet.ipvs_services:
    state: absent
"""

RETURN = r"""
mode:
  description: The mode that was programmed.
  type: str
  returned: success
  sample: ipvs
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
  description: How many steps the changes take, each for ipset, IPVS, iptables or the device.
  type: int
  returned: O(state=present)
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._mode_ipvs import make_mode  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._services_module import run_module  # noqa: PLC0415

    run_module("ipvs", make_mode)


if __name__ == "__main__":
    main()

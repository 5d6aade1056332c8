# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module that programs Services has.

This doc fragment is private to the collection: nothing outside kubenode.servicenet may use it.
"""

from __future__ import annotations


class ModuleDocFragment:
    """For the modules iptables_services, nftables_services, ipvs_services and userspace_services."""

    DOCUMENTATION = r"""
options:
  snapshot:
    description:
      - The snapshot of the cluster on the node, as M(kubenode.servicenet.cluster_snapshot) writes it.
    type: path
    default: /var/lib/servicenet/snapshot.jsonl.gz
  state:
    description:
      - V(present) makes the rules those of the snapshot. V(absent) takes all rules of this collection away and leaves
        everything of others.
    type: str
    choices: [present, absent]
    default: present
  node_name:
    description:
      - The name that the cluster knows this node by, as in the C(nodeName) of its endpoints. Default is the host name.
        A machine that is no node of the cluster has no local endpoints.
    type: str
  zone:
    description:
      - The topology zone of the node, for topology hints. Default is the label C(topology.kubernetes.io/zone) of its
        Node object.
    type: str
  node_ips:
    description:
      - The primary address of the node, one for each family. Default are the addresses of its Node object.
    type: list
    elements: str
    default: []
  ip_families:
    description:
      - The families to program.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  nodeport_addresses:
    description:
      - CIDRs of the node's addresses that serve node ports; V(primary) stands for O(node_ips). The default is that of
        kube-proxy in the same mode. Where CIDRs of one family only are given, the other family serves on all addresses.
    type: list
    elements: str
    default: []
  masquerade_all:
    description:
      - Masquerade everything that is sent to a ClusterIP.
    type: bool
    default: false
  masquerade_bit:
    description:
      - The bit of the packet mark that asks for masquerading, 0 to 31.
    type: int
    default: 14
  detect_local_mode:
    description:
      - How traffic of local Pods is told from other traffic, which is masqueraded on its way to a ClusterIP.
        V(ClusterCIDR) goes by O(pod_cidrs) and, if there are none, takes nothing for local and masquerades nothing;
        V(NodeCIDR) by the Pod CIDRs of the Node object (or O(pod_cidrs)); V(BridgeInterface) and
        V(InterfaceNamePrefix) by the interface that it comes in through; V(none) not at all.
    type: str
    choices: [ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix, none]
    default: ClusterCIDR
  pod_cidrs:
    description:
      - CIDRs of the cluster's Pods (V(ClusterCIDR)) or of this node's (V(NodeCIDR)).
    type: list
    elements: str
    default: []
  bridge_interface:
    description:
      - The interface for V(BridgeInterface).
    type: str
    default: ""
  interface_name_prefix:
    description:
      - What the names of Pod interfaces begin with, for V(InterfaceNamePrefix).
    type: str
    default: ""
  service_proxy_name:
    description:
      - Handle the Services whose label C(service.kubernetes.io/service-proxy-name) has this value. The default is those
        without the label.
    type: str
    default: ""
  max_removed_percent:
    description:
      - Refuse a snapshot that lacks more than this share of the Services, or of the ready endpoints, that the one
        applied before had. V(100) allows everything.
    type: int
    default: 50
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
  snapshot_digest:
    description:
      - The digest of the snapshot that the node is to serve. If O(snapshot) has another one or can't be read, nothing
        is done but to return RV(ignore:snapshot_wanted), so that a snapshot is copied only to nodes that lack it.
    type: str
    default: ""
  snapshot_arrived:
    description:
      - A snapshot that was copied to the node just now. It takes the place of O(snapshot) before anything else is done,
        if it is another one. M(kubenode.servicenet.service_rules) hands snapshots over in this way.
    type: path
  lock_timeout:
    description:
      - How many seconds to wait for another run to end.
    type: int
    default: 60
  kept_states:
    description:
      - How many of the states before the one in force the node keeps, for M(kubenode.servicenet.service_rollback).
    type: int
    default: 5
  confirm_seconds:
    description:
      - How long a change of the snapshot or of the options waits for M(kubenode.servicenet.service_confirm). If that
        does not come, the node goes back to the state before by itself, even if this module was killed. V(0) does not
        wait.
      - A repair of what somebody altered does not wait.
    type: int
    default: 0
  confirm_hold_seconds:
    description:
      - How long a node is held at the state before, when a change went back by itself. V(0) lets the next run try
        again.
    type: int
    default: 600
  set_sysctls:
    description:
      - Set the kernel settings that the Services need, and put them back with O(state=absent). Otherwise each wrong one
        is a warning.
    type: bool
    default: true
  beside_kube_proxy:
    description:
      - Work on a node where kube-proxy runs or left its rules. Otherwise that is an error.
    type: bool
    default: false
  remove_kube_proxy:
    description:
      - Remove the rules that a kube-proxy left, once the rules of this module are in force. These are its chains in
        iptables with the jumps to them, and its tables in nftables. Nothing else is touched.
      - It is an error while kube-proxy runs.
    type: bool
    default: false
  conntrack_max_per_core:
    description:
      - Entries of connection tracking for each CPU. V(0) leaves the kernel's number, which is only ever raised.
    type: int
    default: 32768
  conntrack_min:
    description:
      - The least entries of connection tracking, where O(conntrack_max_per_core) is not V(0).
    type: int
    default: 131072
  conntrack_tcp_established_timeout:
    description:
      - Seconds that an idle TCP connection is tracked. V(0) leaves the kernel's number.
    type: int
    default: 86400
  conntrack_tcp_close_wait_timeout:
    description:
      - Seconds that a half closed TCP connection is tracked. V(0) leaves the kernel's number.
    type: int
    default: 3600
  conntrack_tcp_be_liberal:
    description:
      - Let TCP packets outside the window pass instead of calling them invalid.
    type: bool
    default: false
  conntrack_udp_timeout:
    description:
      - Seconds that an unanswered UDP flow is tracked. V(0) leaves the kernel's number.
    type: int
    default: 0
  conntrack_udp_stream_timeout:
    description:
      - Seconds that a UDP flow is tracked. V(0) leaves the kernel's number.
    type: int
    default: 0
attributes:
  check_mode:
    description: Can run in check mode and tell what would change without changing it.
    support: full
  diff_mode:
    description: Names the services and endpoints that change.
    support: full
  idempotent:
    description: A second run with the same snapshot and options changes nothing and writes nothing.
    support: full
  platform:
    description: Where it runs.
    platforms: linux
    support: full
"""

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
    choices: [auto, iptables, nftables, ipvs, userspace]
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
  explain:
    description:
      - Tell as well where one packet goes, the first of a new flow. The rules that were read back from the kernel are
        walked as the kernel walks them; those of other programs are not looked at.
      - In the mode V(userspace) the way goes on through the proxy; every endpoint sees the node there, which counts as
        masqueraded.
      - In the mode V(ipvs) it goes on through the virtual server. The chance of an endpoint is that of its weight; how
        many connections it has, and what a hash of the client's address gives, is not looked at.
    type: dict
    suboptions:
      source:
        description: The address that sends the packet, or V(node) for a process of this node.
        type: str
        required: true
      destination:
        description: The address that it is sent to.
        type: str
        required: true
      port:
        description: The port that it is sent to.
        type: int
        required: true
      protocol:
        description: The protocol.
        type: str
        choices: [tcp, udp, sctp]
        default: tcp
      interface:
        description: The interface that it comes in by. Required where local Pods are told by their interface.
        type: str
        default: ""
  state_dir:
    description:
      - Where the node keeps what it applied last.
    type: path
    default: /var/lib/servicenet
  run_dir:
    description:
      - Where the node keeps what a boot forgets; the mode V(userspace) looks for its nginx there.
    type: path
    default: /run/servicenet
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

- name: Ask where a Pod's packet goes
  kubenode.servicenet.service_rules_info:
    explain:
      source: 10.128.0.13
      destination: 10.96.0.10
      port: 80
  register: told

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
applied_at:
  description: When that snapshot was applied first, in seconds since 1970 by the clock of the node; 0 if none was.
  type: int
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
held:
  description: At what the node is held, why, until when, and what releases it; empty if it is not.
  type: str
  returned: always
kept:
  description:
    - The states that M(kubenode.servicenet.service_rollback) can go back to, the newest first, each with C(digest),
      C(mode), C(kept_at), C(services) and C(ready_endpoints).
  type: list
  elements: dict
  returned: always
explanation:
  description: The answer to O(explain), empty if nothing was asked or no mode was programmed.
  type: dict
  returned: always
  contains:
    packet:
      description: The packet as it was understood; C(source) is an address, C(from_node) whether the node sends it.
      type: dict
    service:
      description: The service port whose frontend the destination is, empty if the applied snapshot has none.
      type: str
    verdict:
      description: >-
        V(endpoint), V(reject), V(drop), V(none) if no rule of this collection takes it,
        V(closed) if a proxy without endpoints accepts and ends it, or V(mixed).
      type: str
    outcomes:
      description:
        - Each end that the packet may come to, at most 100, with C(verdict), C(address), C(port), C(masqueraded) and
          C(probability), which holds for a client that session affinity does not remember.
      type: list
      elements: dict
    outcomes_count:
      description: How many ends there are in all.
      type: int
    affinity:
      description: Seconds for which a client is sent to the same endpoint again, 0 if it is not.
      type: int
    met:
      description:
        - The rules and elements that hold for some part of such packets, in order, at most 100, with C(where), C(rule),
          C(service) (empty for one that serves all) and C(altered), true for one that this collection did not write.
      type: list
      elements: dict
    met_count:
      description: How many those are in all.
      type: int
    not_understood:
      description: Rules of others in the chains of this collection that could not be understood and were passed over.
      type: list
      elements: str
    as_wanted:
      description: Whether this is what the applied snapshot wants.
      type: bool
    wanted:
      description:
        - What it wants, if that is something else, with C(verdict), C(outcomes), C(outcomes_count) and C(affinity).
      type: dict
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._inspecting import ARGUMENTS, info  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._state_modules import run_info_module  # noqa: PLC0415

    run_info_module(ARGUMENTS, info)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_probe
short_description: Open real connections to Services and tell who answered
description:
  - Opens TCP connections, sends UDP datagrams and HTTP requests, and asks DNS servers, from the host that it runs on.
    For each target it returns who answered how often, what failed and why, and how long it took.
  - It changes nothing, so it does the same in check mode.
  - Targets are given one by one, or taken from a snapshot of the cluster.
options:
  targets:
    description: What to ask.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the target is called in the results.
        type: str
        required: true
      host:
        description:
          - An address or a name; a name is looked up anew for each attempt.
          - For V(dns) it is the server; the default is the first name server of the host's own resolver. Otherwise it
            is required.
        type: str
        default: ""
      port:
        description: The port. The default is 80 for V(http) and 53 for V(dns); otherwise it is required.
        type: int
      protocol:
        description:
          - V(tcp) is a connection. Who answered is the first line that the server says of its own accord, else the
            address that was reached.
          - V(udp) is an empty line as a datagram that must be answered.
          - V(http) is a GET. Who answered is the first line of the body. A status of 500 or more is a failure.
          - V(dns) is a query. Who answered is what the records say.
        type: str
        choices: [tcp, udp, http, dns]
        default: tcp
      attempts:
        description: How many times; each is a new connection.
        type: int
        default: 3
      timeout:
        description: Seconds for each attempt.
        type: float
        default: 2
      path:
        description: The path of the URL for V(http).
        type: str
        default: /
      query:
        description: The name to look up for V(dns). It is taken as absolute. Required there.
        type: str
        default: ""
      record_type:
        description: The type of the records for V(dns).
        type: str
        choices: [A, AAAA, CNAME, PTR, SRV, TXT]
        default: A
  snapshot:
    description:
      - A snapshot of the cluster, as M(kubenode.servicenet.cluster_snapshot) writes it. Each TCP port of a ClusterIP
        that has ready endpoints for this node becomes a target.
    type: path
  services:
    description: Of O(snapshot) only these Services, as namespace/name. One that has nothing to probe is an error.
    type: list
    elements: str
    default: []
  limit:
    description:
      - Of O(snapshot) at most so many targets, spread evenly over the cluster; V(0) is all. It does not apply to
        O(services).
    type: int
    default: 50
  attempts:
    description: Attempts for each target of O(snapshot).
    type: int
    default: 3
  timeout:
    description: Seconds for each attempt at a target of O(snapshot).
    type: float
    default: 2
  node_name:
    description:
      - The name of the node's Node object, which decides which endpoints a Service with a traffic policy or hints has
        here. The default is the host name.
    type: str
  zone:
    description: The zone of the node. The default is the label of its Node object.
    type: str
  ip_families:
    description: The address families of O(snapshot) to probe.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  service_proxy_name:
    description: Probe the Services with this label C(service.kubernetes.io/service-proxy-name), not those without.
    type: str
    default: ""
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing) when in diff mode.
    support: N/A
    details:
      - It changes nothing.
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Ask one Service ten times
  kubenode.servicenet.service_probe:
    targets:
      - name: web
        host: 10.96.0.10
        port: 80
        protocol: http
        attempts: 10
  register: probed

- name: Look up a Service's name at the resolver of the node
  kubenode.servicenet.service_probe:
    targets:
      - name: the name of web
        protocol: dns
        query: web.shop.svc.cluster.local

- name: Probe a sample of the cluster's Services
  kubenode.servicenet.service_probe:
    snapshot: /var/lib/servicenet/snapshot.jsonl.gz
    limit: 20
"""

RETURN = r"""
results:
  description: One for each target, in the order of the targets.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name of the target; of a target from the snapshot namespace/name:port.
      type: str
      sample: shop/web:http
    host:
      description: What was asked.
      type: str
      sample: 10.96.0.10
    port:
      description: The port that was asked.
      type: int
      sample: 80
    protocol:
      description: As in O(targets[].protocol).
      type: str
      sample: http
    attempts:
      description: How many attempts were made.
      type: int
      sample: 10
    answered:
      description: How many of them were answered.
      type: int
      sample: 10
    answers:
      description: How often each answerer answered.
      type: dict
      sample: {pod-a1: 6, pod-b1: 4}
    failures:
      description: How often each reason kept an attempt from being answered.
      type: dict
      sample: {timed out: 1}
    latency_ms:
      description: Keys C(min), C(median) and C(max) in milliseconds; empty if nothing was answered.
      type: dict
      sample: {min: 0.2, median: 0.3, max: 1.1}
failing:
  description: The names of the targets of which at least one attempt was not answered.
  type: list
  elements: str
  returned: success
table:
  description: The results as lines of text for people, those that failed first.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once

TARGET = {
    "name": {"type": "str", "required": True},
    "host": {"type": "str", "default": ""},
    "port": {"type": "int"},
    "protocol": {"type": "str", "choices": ["tcp", "udp", "http", "dns"], "default": "tcp"},
    "attempts": {"type": "int", "default": 3},
    "timeout": {"type": "float", "default": 2},
    "path": {"type": "str", "default": "/"},
    "query": {"type": "str", "default": ""},
    "record_type": {"type": "str", "choices": ["A", "AAAA", "CNAME", "PTR", "SRV", "TXT"], "default": "A"},
}
ARGUMENTS = {
    "targets": {"type": "list", "elements": "dict", "options": TARGET, "default": []},
    "snapshot": {"type": "path"},
    "services": {"type": "list", "elements": "str", "default": []},
    "limit": {"type": "int", "default": 50},
    "attempts": {"type": "int", "default": 3},
    "timeout": {"type": "float", "default": 2},
    "node_name": {"type": "str"},
    "zone": {"type": "str"},
    "ip_families": {"type": "list", "elements": "str", "choices": ["ipv4", "ipv6"], "default": ["ipv4", "ipv6"]},
    "service_proxy_name": {"type": "str", "default": ""},
}


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError  # noqa: PLC0415
    from ansible_collections.kubenode.servicenet.plugins.module_utils._probing import run  # noqa: PLC0415

    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    # An empty list is there by default, so the argument spec can't say that one option needs another.
    if not module.params["snapshot"]:
        if module.params["services"]:
            module.fail_json(
                msg="The services are looked up in a snapshot: give snapshot, too, or name addresses in targets."
            )
        if not module.params["targets"]:
            module.fail_json(msg="There is nothing to probe: give targets, snapshot or both.")
    try:
        result = run(module.params)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

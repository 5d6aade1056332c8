#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_dns_resolver
short_description: Have the resolver of a node ask the CoreDNS on the node
description:
  - Finds out who runs the node's resolver and tells it by its own means. systemd-resolved asks CoreDNS for the
    cluster's names, as the server behind the device C(servicenet0), or by a drop-in where there is no such device.
    NetworkManager gets a drop-in with CoreDNS as the DNS server, a plain C(/etc/resolv.conf) CoreDNS as its only
    server.
  - Nothing is changed before CoreDNS has answered a query, and everything is put back if it does not answer through the
    resolver afterwards.
options:
  state:
    description:
      - V(absent) puts back exactly what was there before. A file that somebody else has changed since stays.
    type: str
    choices: [present, absent]
    default: present
  servers:
    description:
      - The addresses that CoreDNS listens on.
    type: list
    elements: str
    default: ["169.254.20.10"]
  port:
    description:
      - The port that CoreDNS listens on.
    type: int
    default: 53
  domain:
    description:
      - The cluster domain.
    type: str
    default: cluster.local
  zones:
    description:
      - The zones that CoreDNS serves, for systemd-resolved, as M(kubenode.servicenet.cluster_dns_zones) returns them.
        The cluster domain is always among them.
    type: list
    elements: str
    default: []
  state_dir:
    description:
      - Where the former content is kept.
    type: path
    default: /var/lib/servicenet
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the result of the real run without changing anything.
  diff_mode:
    support: full
    description: Returns the content of the file that tells the resolver.
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Have the node resolve the names of the cluster
  kubenode.servicenet.cluster_dns_resolver:
    servers: [169.254.20.10]

- name: Put back the resolver's former settings
  kubenode.servicenet.cluster_dns_resolver:
    state: absent
"""

RETURN = r"""
kind:
  description: Who runs the resolver.
  type: str
  returned: success
  sample: systemd-resolved
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, dns_names
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import resolver

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "servers": {"type": "list", "elements": "str", "default": ["169.254.20.10"]},
    "port": {"type": "int", "default": 53},
    "domain": {"type": "str", "default": "cluster.local"},
    "zones": {"type": "list", "elements": "str", "default": []},
    "state_dir": {"type": "path", "default": "/var/lib/servicenet"},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.run_command_environ_update = {"LANG": "C.UTF-8", "LC_ALL": "C", "LANGUAGE": "C"}
    params = module.params

    def run(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        rc, out, err = module.run_command(argv, data=data)
        return rc, out, err

    try:
        domain = dns_names.cluster_domain(params["domain"])
        request = resolver.Request(
            corefile.listeners(params["servers"]),
            params["port"],
            domain,
            tuple(sorted({domain, *params["zones"]})),
            params["state_dir"],
            module.check_mode,
        )
        outcome = (resolver.present if params["state"] == "present" else resolver.absent)(request, run)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, Any] = {"changed": outcome.changed, "kind": outcome.kind}
    if module._diff:
        result["diff"] = {
            "before_header": "the node's resolver",
            "after_header": "the node's resolver",
            "before": "".join(f"{line}\n" for line in outcome.before),
            "after": "".join(f"{line}\n" for line in outcome.after),
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()

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

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._dns_modules import run_resolver_module  # noqa: PLC0415

    run_resolver_module()


if __name__ == "__main__":
    main()

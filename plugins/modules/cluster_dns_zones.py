#!/usr/bin/python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_dns_zones
short_description: Write the DNS zones of a Kubernetes cluster and the Corefile for a CoreDNS on the node
description:
  - Makes zone files from a snapshot of the cluster (see M(kubenode.servicenet.cluster_snapshot)) with the names that
    CoreDNS's kubernetes plugin would answer for, and a Corefile that serves them. The node needs no API server.
  - A zone gets another serial exactly when its records change, and every file is replaced in one step. A CoreDNS
    that runs finds a changed zone by itself within O(zone_reload_seconds).
  - The TXT record C(_snapshot) of each zone is the digest of the zone's records, so that a query shows which state is
    served.
  - What can't be served is reported by name, and all the rest is served.
options:
  snapshot:
    description:
      - The snapshot of the cluster on the node. Not used with O(mode=kubernetes).
    type: path
    default: /var/lib/servicenet/snapshot.jsonl.gz
  state:
    description:
      - V(absent) removes the zone files, the Corefile and the state of this module. Files that it did not write stay.
    type: str
    choices: [present, absent]
    default: present
  mode:
    description:
      - V(zones) serves zone files. V(kubernetes) has CoreDNS ask the API server itself.
    type: str
    choices: [zones, kubernetes]
    default: zones
  kubeconfig:
    description:
      - A kubeconfig on the node for CoreDNS, required with O(mode=kubernetes). Only its path is used here.
    type: path
  domain:
    description:
      - The cluster domain.
    type: str
    default: cluster.local
  zone_dir:
    description:
      - Where the zone files are.
    type: path
    default: /var/lib/servicenet/zones
  corefile:
    description:
      - Where the Corefile is.
    type: path
    default: /etc/servicenet/Corefile
  listen_addresses:
    description:
      - The addresses of the node that CoreDNS listens on. No wildcards; other DNS servers of the node keep their
        addresses. A program that has the port on one of them is an error that names it.
    type: list
    elements: str
    default: ["169.254.20.10"]
  port:
    description:
      - The port that CoreDNS listens on.
    type: int
    default: 53
  upstreams:
    description:
      - At most 15 DNS servers for all other names, as address, V(address:port) or V([address]:port).
      - They are written into the Corefile, and not the path of a file that may name this CoreDNS one day. A server that
        would ask this one back is an error.
      - Without any, the ones that the node's own resolver uses are taken. If it has none, only names of the cluster are
        answered, with a warning.
    type: list
    elements: str
    default: []
  forward:
    description:
      - V(false) passes no name on, so that only names of the cluster are answered.
    type: bool
    default: true
  ttl:
    description:
      - The time in seconds that clients may keep a record, 0 to 3600.
    type: int
    default: 5
  pods:
    description:
      - V(verified) gives each Pod of the snapshot a name such as C(10-128-0-1.default.pod.cluster.local); the snapshot
        has to hold Pods then.
    type: str
    choices: [disabled, verified]
    default: disabled
  reverse_cidrs:
    description:
      - The networks whose addresses have names. Without any, those of the ServiceCIDRs in the snapshot.
      - Zones lie on byte (IPv4) or nibble (IPv6) boundaries. What is in such a zone and not in the cluster is passed
        on to the upstreams.
    type: list
    elements: str
    default: []
  endpoint_names:
    description:
      - Give the endpoints of Services with a ClusterIP names, too. The DNS specification does not ask for them, and
        they are most of a big zone.
    type: bool
    default: false
  cache_seconds:
    description:
      - How long names of other domains are cached; V(0) switches the cache off. Names of the cluster are never cached.
    type: int
    default: 30
  zone_reload_seconds:
    description:
      - How often CoreDNS looks whether a zone file has another serial.
    type: int
    default: 2
  health_port:
    description:
      - The port on 127.0.0.1 that says whether CoreDNS runs; V(0) is none.
    type: int
    default: 9254
  ready_port:
    description:
      - The port on 127.0.0.1 that says whether CoreDNS is ready; V(0) is none.
    type: int
    default: 9255
  metrics_port:
    description:
      - The port on 127.0.0.1 with metrics for Prometheus; V(0) is none.
    type: int
    default: 9253
  max_removed_percent:
    description:
      - A snapshot that lacks more than this share of the Services, or of the ready endpoints, of the one that is served
        is refused, and the old zones stay.
    type: int
    default: 50
  state_dir:
    description:
      - Where this module remembers what it wrote.
    type: path
    default: /var/lib/servicenet
  run_dir:
    description:
      - Where the lock is that lets one run at a time write.
    type: path
    default: /run/servicenet
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the result of the real run without changing anything.
  diff_mode:
    support: full
    description: Returns the records that come and go; where they are many, how many of each Service.
author:
  - kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Serve the names of the cluster from the snapshot
  kubenode.servicenet.cluster_dns_zones:
    snapshot: /var/lib/servicenet/snapshot.jsonl.gz
    listen_addresses: [169.254.20.10]
    upstreams: [198.18.0.53]
    reverse_cidrs: [10.96.0.0/12, 10.128.0.0/14]

- name: Have CoreDNS ask the API server
  kubenode.servicenet.cluster_dns_zones:
    mode: kubernetes
    kubeconfig: /etc/servicenet/coredns.kubeconfig

- name: Show which records would change
  kubenode.servicenet.cluster_dns_zones:
  check_mode: true
  diff: true
"""

RETURN = r"""
corefile_changed:
  description: Whether the Corefile is another one, so that CoreDNS should be reloaded.
  type: bool
  returned: success
zones_changed:
  description: The zones with a new serial.
  type: list
  elements: str
  returned: success
  sample: [cluster.local., 96.10.in-addr.arpa.]
zones:
  description: All zones.
  type: list
  elements: str
  returned: O(state=present)
records:
  description: How many records the zones have.
  type: int
  returned: O(state=present) and O(mode=zones)
records_added:
  description: How many records came.
  type: int
  returned: O(state=present)
records_removed:
  description: How many records went.
  type: int
  returned: O(state=present)
warnings_count:
  description: How many things of the snapshot are not served, or not wholly. The first hundred are warnings.
  type: int
  returned: O(state=present)
digest:
  description: The digest of the snapshot.
  type: str
  returned: O(state=present) and O(mode=zones)
"""

from ansible_collections.kubenode.servicenet.plugins.module_utils._archive import compile_once


def main() -> None:
    # What is imported above this line is compiled twice.
    compile_once()
    from ansible_collections.kubenode.servicenet.plugins.module_utils._dns_modules import run_zones_module  # noqa: PLC0415

    run_zones_module()


if __name__ == "__main__":
    main()

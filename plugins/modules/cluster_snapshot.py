#!/usr/bin/python

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_snapshot
short_description: Read the Services of a Kubernetes cluster into a snapshot file
description:
  - Reads Nodes, Namespaces, Services, EndpointSlices, Endpoints and ServiceCIDRs from an API server, from manifests or
    from an older snapshot, and writes them as one canonical file. The other modules of this collection read nothing
    else of the cluster.
  - It is meant to run on the controller, with C(delegate_to); the role
    P(kubenode.servicenet.cluster_snapshot#role) does that and hands the file to the nodes.
  - The same cluster state always gives the same file. Only what the rules and DNS records need gets into it, in no
    case Secrets or the contents of Pods. It shows the topology of the cluster, so its mode is C(0640).
  - An object that is broken or hostile is left out with a warning that names it; all others go on. If the source can't
    be read as a whole, the task fails and the old snapshot stays.
  - With O(source=manifests) the hosts of O(inventory) are among the endpoints. With another source they come from there
    and O(inventory) changes nothing.
  - Lists are read page by page. A list that lapses while it is read (410) is started again; 429, 5xx and broken
    connections are tried again with growing pauses, or after the time that the API server asks for.
  - Where the snapshot is of the same API server and the same options, the API server is first asked what happened
    since. Only if something did that a snapshot would show, or if it does not know any more, the lists are read again.
    Without the right to watch they always are.
  - Where it would run on the controller with the Python of Ansible, as the role has it, Ansible does it in a process of
    its own. No module is made then and no further Python started.
  - Beside the snapshot stands a small file with the name O(dest) and C(.source.json) appended. It says where and when
    the state was read. It is written after each successful read and does not count as a change, because the snapshot
    stays the same.
options:
  source:
    description:
      - Where the state comes from.
      - V(cluster) is an API server.
      - V(manifests) are the files and directories of O(manifests).
      - V(file) is an older snapshot, the one of O(path).
    type: str
    choices: [cluster, manifests, file]
    default: cluster
  dest:
    description:
      - The snapshot to write. It is replaced in one step, and only if the state differs. Its directory is made if it
        is missing.
      - Keep one for each cluster. The guard of O(max_removed_percent) compares with what is there.
    type: path
    required: true
  manifests:
    description:
      - Files and directories with Kubernetes objects in YAML (many documents in a file are fine) or JSON, single or in
        lists. Of a directory all files that end in C(.yaml), C(.yml) or C(.json) and aren't hidden are read, at any
        depth, in the order of their names.
      - Of objects with the same kind and name the first one is used.
      - A Service with a selector that has neither EndpointSlices nor Endpoints in them gets the slices that the
        endpoints controller would make of their Pods. Without any Node, every Pod's Node counts as present.
    type: list
    elements: path
    default: []
  path:
    description:
      - The older snapshot for O(source=file). Without it, the one of O(dest) is read and checked.
    type: path
  select:
    description:
      - A JMESPath expression that picks the Services of the snapshot.
      - One that begins with V([) is asked of a list that holds one Service, for example
        V([?spec.type=='LoadBalancer']); any other of the Service itself, for example V(metadata.labels.tier == 'web').
        A Service is picked if the answer is true as JMESPath means it, which is neither false nor null nor empty.
      - A Service of which it can't be asked is left out with a warning.
      - With O(source=file) only the fields that a snapshot keeps can be asked for.
    type: str
  namespaces:
    description:
      - Only objects of these namespaces. From an API server they are listed namespace by namespace, so rights in these
        namespaces are enough, save for Nodes, Namespaces and ServiceCIDRs.
      - Without it, all namespaces.
    type: list
    elements: str
    default: []
  pods:
    description:
      - Whether Pods get into the snapshot, with nothing but their addresses. Only DNS records of Pods need them.
    type: bool
    default: false
  page_size:
    description:
      - How many objects the API server is asked for at a time.
    type: int
    default: 500
  max_removed_percent:
    description:
      - A snapshot that lacks more than this share of the Services of the old one, or of its ready endpoints, is
        refused. This guards against an empty or half answer. V(100) switches the guard off.
    type: int
    default: 50
  on_unreachable:
    description:
      - What to do if the API server can't be reached, does not answer in time, or is overloaded.
      - V(fail) is an error. V(keep) takes the snapshot that is there, says so in a warning and in RV(outage), and is an
        error only if there is none. In both cases the snapshot stays as it is.
      - Missing rights and wrong credentials are errors in any case.
    type: str
    choices: [fail, keep]
    default: fail
  max_age_seconds:
    description:
      - Beyond this age of the state, RV(too_old) is true and a warning tells it. V(0) is no limit.
    type: int
    default: 0
  cluster_ip_ranges:
    description:
      - For O(source=manifests), the ranges of ClusterIPs, at most one a family, for example V(10.96.0.0/12). The first
        one's family is that of Services that name none.
      - A Service without an address gets one by the rules of Kubernetes, from the upper band of its range. The choice
        is kept in a file with the name O(dest) and C(.allocations.json) appended, so that it stays the same. A Service
        that asks for an address outside of the ranges, or for one that another has, is an error.
      - Without it, no Service gets an address.
    type: list
    elements: str
    default: []
  node_port_range:
    description:
      - For O(source=manifests), the range of node ports, for example V(30000-32767). Ports that need a node port and
        have none get one, in the same way as addresses. Without it, none gets one.
    type: str
    default: ""
extends_documentation_fragment:
  - kubenode.servicenet._cluster
  - kubenode.servicenet._inventory
attributes:
  check_mode:
    description: Can run in check mode and return what it would change, without changing it.
    support: full
    details:
      - The one file that check mode writes is a scratch file with the new snapshot, if it differs from the old one. It
        is named in RV(path), so that what follows can be checked against it. Whoever asks for it removes it; the role
        does.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing) when in diff mode.
    support: full
    details:
      - The diff names Services, not their contents.
requirements:
  - kubernetes for O(source=cluster)
  - PyYAML for O(source=manifests)
  - jmespath for O(select)
author:
  - The kubenode.servicenet developers (@kubenode)
"""

EXAMPLES = r"""
- name: Read a cluster by its kubeconfig
  kubenode.servicenet.cluster_snapshot:
    kubeconfig: /etc/kubernetes/reader.conf
    dest: /var/cache/servicenet/prod.jsonl.gz
  delegate_to: localhost
  run_once: true

- name: Read a cluster by address, token and CA
  kubenode.servicenet.cluster_snapshot:
    host: https://198.18.0.1:6443
    api_key: "{{ reader_token }}"
    ca_cert: /etc/kubernetes/ca.crt
    dest: /var/cache/servicenet/prod.jsonl.gz
  delegate_to: localhost
  run_once: true

- name: Take the Services of two namespaces from manifests
  kubenode.servicenet.cluster_snapshot:
    source: manifests
    manifests:
      - /srv/manifests
    namespaces:
      - shop
      - web
    dest: /var/cache/servicenet/lab.jsonl.gz
  delegate_to: localhost

- name: Go back to an older state, whatever it lacks
  kubenode.servicenet.cluster_snapshot:
    source: file
    path: /var/backups/prod.jsonl.gz
    max_removed_percent: 100
    dest: /var/cache/servicenet/prod.jsonl.gz
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The file that holds the new snapshot, which is O(dest), or in check mode a scratch file.
  returned: success
  type: str
  sample: /var/cache/servicenet/prod.jsonl.gz
scratch:
  description: Whether RV(path) is a scratch file of check mode.
  returned: success
  type: bool
  sample: false
digest:
  description: SHA-256 of the state. Equal states have equal digests.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
counts:
  description: How many objects the snapshot has.
  returned: success
  type: dict
  contains:
    services:
      description: Services.
      type: int
    endpoints:
      description: Endpoints of all Services.
      type: int
    ready_endpoints:
      description: Those that are ready.
      type: int
    nodes:
      description: Nodes.
      type: int
    namespaces:
      description: Namespaces.
      type: int
    pods:
      description: Pods.
      type: int
    service_cidrs:
      description: ServiceCIDRs.
      type: int
services:
  description:
    - What differs from the old snapshot.
    - RV(services.added), RV(services.removed) and RV(services.changed) each have C(total), and C(names) with the first
      100.
  returned: success
  type: dict
  contains:
    added:
      description: Services that are new.
      type: dict
    removed:
      description: Services that are gone.
      type: dict
    changed:
      description: Services that differ, or whose endpoints do.
      type: dict
  sample:
    added: {total: 1, names: [default/web]}
    removed: {total: 0, names: []}
    changed: {total: 0, names: []}
refused:
  description: Objects that were left out because they are broken, at most 1000.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind, or V(Manifest) for a document that can't be read.
      type: str
    name:
      description: Namespace and name, or where the document stands.
      type: str
    reason:
      description: What is wrong.
      type: str
refused_total:
  description: How many objects were left out.
  returned: success
  type: int
  sample: 0
source:
  description: Where the state comes from. The C(type) is the value of O(source).
  returned: success
  type: dict
  sample:
    type: cluster
    server: https://198.18.0.1:6443
resource_versions:
  description:
    - The resource version of each list, by its name, for example C(services), or C(shop/services) if it was listed in
      a namespace.
    - Empty if the state does not come from an API server.
  returned: success
  type: dict
  sample: {services: "4711", endpointslices: "4712"}
age:
  description: Seconds since the state was read from its cluster, or a watch showed that nothing had changed.
  returned: success
  type: int
  sample: 0
too_old:
  description: Whether that is more than O(max_age_seconds).
  returned: success
  type: bool
  sample: false
read_by:
  description:
    - How an API server was read. V(watch) if nothing had changed, V(list) if the lists were read, V(kept) if it could
      not be reached; empty if O(source) is not V(cluster).
  returned: success
  type: str
  sample: watch
outage:
  description: Why the API server could not be read, if RV(read_by) is V(kept); otherwise empty.
  returned: success
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.reading import arguments, read


def main() -> None:
    """The entry point."""
    module = AnsibleModule(argument_spec=arguments(), supports_check_mode=True)
    result = read(module.params, module.check_mode, module._diff)
    if result.get("failed"):
        module.fail_json(**result)
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

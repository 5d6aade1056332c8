#!/usr/bin/python

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_slices
short_description: Keep the EndpointSlices and Endpoints of a Kubernetes cluster
description:
  - Does one pass of what the endpoints controllers of kube-controller-manager do. It reads Services, Pods, Nodes and
    the records that are there, computes what must be there, and writes only what differs.
  - Existing slices are filled and updated, never rebalanced, so one changed Pod is one write.
  - Endpoints that people write by hand for Services without a selector are mirrored into slices.
  - Everything that it writes carries O(managed_by) in its managed-by label. Objects with another label are never
    touched.
  - A cluster whose own controllers keep these records is recognised, and nothing is written unless
    O(beside_controller) is set.
  - It runs on the controller, delegated to localhost; the role P(kubenode.servicenet.service_endpoints#role) does that.
  - Hosts that are published behind a Service (O(inventory)) stay published where the option is not given; an empty list
    removes them.
  - A pass that is cut off leaves nothing twice and nothing lost; the next one completes it.
options:
  state:
    description:
      - V(present) brings the records up to date; V(absent) deletes all that carry O(managed_by).
    type: str
    choices: [present, absent]
    default: present
  write:
    description:
      - Which records are written. V(endpoints) are for consumers that know no slices; Kubernetes calls them deprecated.
      - Records of the other kind that were written earlier are deleted.
    type: str
    choices: [endpointslices, endpoints, both]
    default: endpointslices
  namespaces:
    description:
      - Only Services of these namespaces. Without it, all.
    type: list
    elements: str
    default: []
  managed_by:
    description:
      - The value of the labels C(endpointslice.kubernetes.io/managed-by) and C(endpoints.kubernetes.io/managed-by).
        Mirrored slices have C(mirroring.) before it, those of O(inventory) have C(inventory.).
      - With another value, what was written under the old one stays until it is deleted with O(state=absent).
    type: str
    default: servicenet.kubenode.io
  max_endpoints:
    description:
      - How many endpoints a slice may have, at most 1000.
    type: int
    default: 100
  beside_controller:
    description:
      - Write even where the cluster has a controller of its own for these records. Then every Service has both.
    type: bool
    default: false
  workers:
    description:
      - How many Services are written at a time.
    type: int
    default: 8
  page_size:
    description:
      - How many objects the API server is asked for at a time.
    type: int
    default: 500
  progress_file:
    description:
      - A file to which a line is appended after each 500 records that were written, and after the last one if there are
        more. It makes no difference to what is written.
      - Without it, the lines are shown while the task goes on, if it runs in the foreground on the machine that Ansible
        runs on. They are in the system's log in any case.
    type: path
extends_documentation_fragment:
  - kubenode.servicenet._cluster
  - kubenode.servicenet._inventory
attributes:
  check_mode:
    description: Can run in check mode and return what it would change, without changing it.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing) when in diff mode.
    support: full
    details:
      - The diff has a line for each record that differs.
author:
  - The kubenode.servicenet developers (@kubenode)
seealso:
  - module: kubenode.servicenet.cluster_snapshot
"""

EXAMPLES = r"""
- name: Keep the EndpointSlices of a cluster without endpoint controllers
  kubenode.servicenet.endpoint_slices:
    kubeconfig: /etc/kubernetes/endpoints.conf
  delegate_to: localhost
  run_once: true

- name: Publish two database hosts behind the Service shop/db, if they accept connections
  kubenode.servicenet.endpoint_slices:
    kubeconfig: /etc/kubernetes/endpoints.conf
    inventory:
      - service: db
        namespace: shop
        hosts:
          - address: 198.18.0.21
            hostname: db-1
          - address: 198.18.0.22
            hostname: db-2
            ports:
              postgres: 5433
  delegate_to: localhost
  run_once: true

- name: Remove all that was written
  kubenode.servicenet.endpoint_slices:
    kubeconfig: /etc/kubernetes/endpoints.conf
    state: absent
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
counts:
  description: How many records were written, or would be in check mode.
  returned: success
  type: dict
  contains:
    created:
      description: New records.
      type: int
    updated:
      description: Changed records.
      type: int
    deleted:
      description: Removed records.
      type: int
  sample: {created: 2, updated: 1, deleted: 0}
services:
  description: The Services whose records differ; RV(services.names) has the first 100.
  returned: success
  type: dict
  contains:
    total:
      description: How many.
      type: int
    names:
      description: Namespace and name of each.
      type: list
      elements: str
  sample: {total: 1, names: [shop/web]}
own_controller:
  description: What shows that the cluster has a controller of its own for these records, a sentence each.
  returned: success
  type: list
  elements: str
  sample: []
skipped_for_controller:
  description: Whether nothing was written for that reason.
  returned: success
  type: bool
  sample: false
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.arguments import (
    auth_arguments,
    auth_options,
    inventory_arguments,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.connection import (
    KUBERNETES_IMPORT_ERROR,
    connect,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import PassOptions, run_pass
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError, ServicenetError

# Between two lines of progress.
PROGRESS_STEP = 500


def main() -> None:
    """The entry point."""
    argument_spec = auth_arguments()
    argument_spec.update(
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        write={"type": "str", "choices": ["endpointslices", "endpoints", "both"], "default": "endpointslices"},
        namespaces={"type": "list", "elements": "str", "default": []},
        managed_by={"type": "str", "default": "servicenet.kubenode.io"},
        max_endpoints={"type": "int", "default": 100},
        beside_controller={"type": "bool", "default": False},
        inventory=inventory_arguments(),
        workers={"type": "int", "default": 8},
        page_size={"type": "int", "default": 500},
        progress_file={"type": "path"},
    )
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    if KUBERNETES_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("kubernetes"), exception=KUBERNETES_IMPORT_ERROR)
    params = module.params
    options = PassOptions(
        check=module.check_mode, **{name: params[name] for name in PassOptions._fields if name != "check"}
    )

    def progress(done: int, total: int) -> None:
        if done % PROGRESS_STEP == 0 or done == total:
            line = f"{done} of {total} endpoint records written"
            module.log(line)
            if params["progress_file"] and total > PROGRESS_STEP:
                with contextlib.suppress(OSError), open(params["progress_file"], "a", encoding="utf-8") as file:
                    file.write(f"{line}\n")

    try:
        if not 1 <= options.max_endpoints <= 1000:
            raise OptionError("max_endpoints must be from 1 to 1000.")
        result = run_pass(connect(auth_options(params)), options, progress)
    except ServicenetError as wrong:
        module.fail_json(msg=str(wrong))
    for warning in result.pop("warnings"):
        module.warn(warning)
    if not module._diff:
        del result["diff"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()

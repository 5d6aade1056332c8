# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is private to the collection: nothing outside kubenode.servicenet may use it.

from __future__ import annotations


class ModuleDocFragment:
    # Hosts behind Services, for every module that makes endpoint records
    DOCUMENTATION = r"""
options:
  inventory:
    description:
      - Hosts that stand behind Services without a selector. They are published as slices of their own.
    type: list
    elements: dict
    suboptions:
      service:
        description: The name of the Service. It must exist and have no selector.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        default: default
      probe:
        description:
          - How a host shows that it is ready. The module asks it from where it runs.
          - V(tcp) is a connection; V(http) and V(https) a GET request that is answered with a status from 200 to 399. A
            certificate is not checked. V(none) takes every host as ready.
        type: str
        choices: [tcp, http, https, none]
        default: tcp
      probe_port:
        description:
          - The port to ask. Without it, the host's first TCP port. A host that has none counts as not ready, with a
            warning.
        type: int
      probe_path:
        description: The path to ask for with O(inventory[].probe=http) and O(inventory[].probe=https).
        type: str
        default: /
      probe_timeout:
        description: Seconds to wait for a connection, and for an answer.
        type: int
        default: 2
      hosts:
        description: The hosts.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: The name of the host, for messages.
            type: str
          address:
            description: Its IP address.
            type: str
            required: true
          ports:
            description:
              - Port numbers by the name of the Service's port; the name is empty for a port without a name.
              - Where one is missing, the Service's numeric C(targetPort) counts.
            type: dict
          hostname:
            description: The name under which DNS knows the host below the Service, if it is headless.
            type: str
          node_name:
            description: The name of the cluster's Node, if the host is one.
            type: str
          zone:
            description: The zone of the host.
            type: str
"""

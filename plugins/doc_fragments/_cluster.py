# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is private to the collection: nothing outside kubenode.servicenet may use it.

from __future__ import annotations


class ModuleDocFragment:
    # Options of every module that talks to an API server
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The kubeconfig file that says how the API server is reached. It is only read.
      - Without O(kubeconfig), O(context) and O(host) the service account of the Pod that the module runs in is used,
        and outside of a Pod the file that the environment variable E(KUBECONFIG) names, or C(~/.kube/config).
      - If it is not given, the environment variable E(K8S_AUTH_KUBECONFIG) is used.
    type: path
  context:
    description:
      - The context of the kubeconfig; without it, its current one.
      - If it is not given, the environment variable E(K8S_AUTH_CONTEXT) is used.
    type: str
  host:
    description:
      - The URL of the API server, for example V(https://198.18.0.1:6443). It stands above the one of the kubeconfig.
      - If it is not given, the environment variable E(K8S_AUTH_HOST) is used.
    type: str
  api_key:
    description:
      - A bearer token. It stands above the credentials of the kubeconfig.
      - If it is not given, the environment variable E(K8S_AUTH_API_KEY) is used.
    type: str
  ca_cert:
    description:
      - A file with the certificates of the CAs that may have signed the certificate of the API server.
      - If it is not given, the environment variable E(K8S_AUTH_SSL_CA_CERT) is used.
    type: path
  validate_certs:
    description:
      - Whether the certificate of the API server must be valid. V(false) lets anybody between play the API server.
      - If it is not given, the environment variable E(K8S_AUTH_VERIFY_SSL) is used.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for a connection, and for an answer of the API server to go on.
    type: int
    default: 30
requirements:
  - kubernetes (Python library, on the host that the module runs on) to talk to an API server
"""

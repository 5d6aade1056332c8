# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every module that talks to an API server; documented in the fragment of the same purpose.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import env_fallback

from .connection import Options


def auth_arguments() -> dict[str, Any]:
    """The argument specification."""
    return {
        "kubeconfig": {"type": "path", "fallback": (env_fallback, ["K8S_AUTH_KUBECONFIG"])},
        "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
        "host": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_HOST"])},
        "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_API_KEY"])},
        "ca_cert": {"type": "path", "fallback": (env_fallback, ["K8S_AUTH_SSL_CA_CERT"])},
        "validate_certs": {"type": "bool", "default": True, "fallback": (env_fallback, ["K8S_AUTH_VERIFY_SSL"])},
        "timeout": {"type": "int", "default": 30},
    }


def auth_options(params: Mapping[str, Any]) -> Options:
    """The values of these options; an empty text counts as not given, so that a role can pass its variables on."""
    texts = {name: params[name] or None for name in ("kubeconfig", "context", "host", "api_key", "ca_cert")}
    return Options(validate_certs=params["validate_certs"], timeout=float(params["timeout"]), **texts)


def inventory_arguments() -> dict[str, Any]:
    """The specification of the option inventory."""
    host = {
        "name": {"type": "str"},
        "address": {"type": "str", "required": True},
        "ports": {"type": "dict"},
        "hostname": {"type": "str"},
        "node_name": {"type": "str"},
        "zone": {"type": "str"},
    }
    entry = {
        "service": {"type": "str", "required": True},
        "namespace": {"type": "str", "default": "default"},
        "probe": {"type": "str", "choices": ["tcp", "http", "https", "none"], "default": "tcp"},
        "probe_port": {"type": "int"},
        "probe_path": {"type": "str", "default": "/"},
        "probe_timeout": {"type": "int", "default": 2},
        "hosts": {"type": "list", "elements": "dict", "required": True, "options": host},
    }
    return {"type": "list", "elements": "dict", "options": entry}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What cluster_snapshot is, whoever runs it: its arguments, and from their values to its result.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError

from .arguments import auth_arguments, auth_options, inventory_arguments
from .connection import KUBERNETES_IMPORT_ERROR
from .refresh import Options, refresh
from .selection import JMESPATH_IMPORT_ERROR
from .yaml_documents import YAML_IMPORT_ERROR


def arguments() -> dict[str, Any]:
    """The argument specification."""
    return {
        **auth_arguments(),
        "source": {"type": "str", "choices": ["cluster", "manifests", "file"], "default": "cluster"},
        "dest": {"type": "path", "required": True},
        "manifests": {"type": "list", "elements": "path", "default": []},
        "path": {"type": "path"},
        "select": {"type": "str"},
        "namespaces": {"type": "list", "elements": "str", "default": []},
        "pods": {"type": "bool", "default": False},
        "page_size": {"type": "int", "default": 500},
        "max_removed_percent": {"type": "int", "default": 50},
        "cluster_ip_ranges": {"type": "list", "elements": "str", "default": []},
        "node_port_range": {"type": "str", "default": ""},
        "on_unreachable": {"type": "str", "choices": ["fail", "keep"], "default": "fail"},
        "max_age_seconds": {"type": "int", "default": 0},
        "inventory": inventory_arguments(),
    }


def read(params: Mapping[str, Any], check: bool, diff: bool) -> dict[str, Any]:
    """Reads the cluster as the values of these arguments say.

    :returns: the result of a task; ``failed``, ``msg`` and perhaps ``exception`` tell what went wrong.
    """
    needed = (
        ("kubernetes", KUBERNETES_IMPORT_ERROR, params["source"] == "cluster"),
        ("PyYAML", YAML_IMPORT_ERROR, params["source"] == "manifests"),
        ("jmespath", JMESPATH_IMPORT_ERROR, bool(params["select"])),
    )
    for library, error, is_needed in needed:
        if error is not None and is_needed:
            return {"failed": True, "msg": missing_required_lib(library), "exception": error}
    names = [name for name in Options._fields if name not in ("auth", "check")]
    options = Options(auth=auth_options(params), check=check, **{name: params[name] for name in names})
    try:
        result = refresh(options)
    except ServicenetError as wrong:
        return {"failed": True, "msg": str(wrong)}
    if not diff:
        del result["diff"]
    return result

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules of the node's DNS: their options, their way into the node layer, their results.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ._core import corefile, dns, dns_names
from ._core.errors import ServicenetError
from ._module import finish, runner_of
from ._node import coredns, resolver

ZONES_ARGUMENTS: dict[str, Any] = {
    "snapshot": {"type": "path", "default": "/var/lib/servicenet/snapshot.jsonl.gz"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "mode": {"type": "str", "choices": [corefile.ZONES, corefile.KUBERNETES], "default": corefile.ZONES},
    "kubeconfig": {"type": "path"},
    "domain": {"type": "str", "default": "cluster.local"},
    "zone_dir": {"type": "path", "default": "/var/lib/servicenet/zones"},
    "corefile": {"type": "path", "default": "/etc/servicenet/Corefile"},
    "listen_addresses": {"type": "list", "elements": "str", "default": ["169.254.20.10"]},
    "port": {"type": "int", "default": 53},
    "upstreams": {"type": "list", "elements": "str", "default": []},
    "forward": {"type": "bool", "default": True},
    "ttl": {"type": "int", "default": 5},
    "pods": {"type": "str", "choices": ["disabled", "verified"], "default": "disabled"},
    "reverse_cidrs": {"type": "list", "elements": "str", "default": []},
    "endpoint_names": {"type": "bool", "default": False},
    "cache_seconds": {"type": "int", "default": 30},
    "zone_reload_seconds": {"type": "int", "default": 2},
    "health_port": {"type": "int", "default": 9254},
    "ready_port": {"type": "int", "default": 9255},
    "metrics_port": {"type": "int", "default": 9253},
    "max_removed_percent": {"type": "int", "default": 50},
    "state_dir": {"type": "path", "default": "/var/lib/servicenet"},
    "run_dir": {"type": "path", "default": "/run/servicenet"},
}

RESOLVER_ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "servers": {"type": "list", "elements": "str", "default": ["169.254.20.10"]},
    "port": {"type": "int", "default": 53},
    "domain": {"type": "str", "default": "cluster.local"},
    "zones": {"type": "list", "elements": "str", "default": []},
    "state_dir": {"type": "path", "default": "/var/lib/servicenet"},
}


def _zones_request(params: dict[str, Any], check: bool) -> coredns.Request:
    """What the options ask for."""
    listen = corefile.listeners(params["listen_addresses"])
    zones = dns.options(
        params["domain"],
        params["ttl"],
        params["pods"],
        listen,
        params["reverse_cidrs"] or None,
        params["endpoint_names"],
    )
    upstreams = params["upstreams"] or resolver.upstreams(params["state_dir"], listen)
    served = corefile.CorefileOptions(
        params["mode"],
        zones.domain,
        listen,
        params["port"],
        (),
        corefile.forwarders(upstreams, listen, params["port"]) if params["forward"] else (),
        params["ttl"],
        params["pods"],
        params["kubeconfig"] or "",
        params["cache_seconds"],
        params["zone_reload_seconds"],
        params["health_port"],
        params["ready_port"],
        params["metrics_port"],
    )
    return coredns.Request(
        params["snapshot"],
        zones if params["mode"] == corefile.ZONES else None,
        served,
        params["zone_dir"],
        params["corefile"],
        params["state_dir"],
        params["run_dir"],
        int(time.time()),
        check,
        params["max_removed_percent"],
    )


def run_zones_module() -> None:
    """The whole of cluster_dns_zones."""
    module = AnsibleModule(
        ZONES_ARGUMENTS, supports_check_mode=True, required_if=[("mode", corefile.KUBERNETES, ["kubeconfig"])]
    )
    present = module.params["state"] == "present"
    try:
        wanted = _zones_request(module.params, module.check_mode)
        outcome = coredns.present(wanted) if present else coredns.absent(wanted)
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    warnings = list(outcome.warnings)
    if present and module.params["forward"] and not wanted.corefile.upstreams:
        warnings.insert(
            0, "This node asks no DNS server, and upstreams names none: only names of the cluster are answered."
        )
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "corefile_changed": outcome.corefile_changed,
        "zones_changed": outcome.zones_changed,
        **outcome.facts,
    }
    finish(module, result, "DNS of the cluster", outcome.before, outcome.after, warnings)


def run_resolver_module() -> None:
    """The whole of cluster_dns_resolver."""
    module = AnsibleModule(RESOLVER_ARGUMENTS, supports_check_mode=True)
    params = module.params
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
        outcome = (resolver.present if params["state"] == "present" else resolver.absent)(request, runner_of(module))
    except ServicenetError as error:
        module.fail_json(msg=str(error))
    result: dict[str, Any] = {"changed": outcome.changed, "kind": outcome.kind}
    finish(module, result, "the node's resolver", outcome.before, outcome.after, outcome.warnings)

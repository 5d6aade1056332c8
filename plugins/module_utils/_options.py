# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the modules that program a mode, as plain data.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any

from ._core import detect_local
from ._core.errors import OptionError
from ._node import addresses

FAMILIES = {"ipv4": 4, "ipv6": 6}

# The options in the words of Ansible: their types, choices and defaults. These are of every *_services module.
ARGUMENTS: dict[str, Any] = {
    "snapshot": {"type": "path", "default": "/var/lib/servicenet/snapshot.jsonl.gz"},
    "snapshot_digest": {"type": "str", "default": ""},
    "snapshot_arrived": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "node_name": {"type": "str"},
    "zone": {"type": "str"},
    "node_ips": {"type": "list", "elements": "str", "default": []},
    "ip_families": {"type": "list", "elements": "str", "choices": ["ipv4", "ipv6"], "default": ["ipv4", "ipv6"]},
    "nodeport_addresses": {"type": "list", "elements": "str", "default": []},
    "masquerade_all": {"type": "bool", "default": False},
    "masquerade_bit": {"type": "int", "default": 14},
    "detect_local_mode": {
        "type": "str",
        "choices": [
            detect_local.CLUSTER_CIDR,
            detect_local.NODE_CIDR,
            detect_local.BRIDGE_INTERFACE,
            detect_local.INTERFACE_NAME_PREFIX,
            detect_local.NO_DETECTOR,
        ],
        "default": detect_local.CLUSTER_CIDR,
    },
    "pod_cidrs": {"type": "list", "elements": "str", "default": []},
    "bridge_interface": {"type": "str", "default": ""},
    "interface_name_prefix": {"type": "str", "default": ""},
    "service_proxy_name": {"type": "str", "default": ""},
    "max_removed_percent": {"type": "int", "default": 50},
    "state_dir": {"type": "path", "default": "/var/lib/servicenet"},
    "run_dir": {"type": "path", "default": "/run/servicenet"},
    "lock_timeout": {"type": "int", "default": 60},
    "kept_states": {"type": "int", "default": 5},
    "confirm_seconds": {"type": "int", "default": 0},
    "confirm_hold_seconds": {"type": "int", "default": 600},
    "set_sysctls": {"type": "bool", "default": True},
    "beside_kube_proxy": {"type": "bool", "default": False},
    "remove_kube_proxy": {"type": "bool", "default": False},
    "conntrack_max_per_core": {"type": "int", "default": 32768},
    "conntrack_min": {"type": "int", "default": 131072},
    "conntrack_tcp_established_timeout": {"type": "int", "default": 86400},
    "conntrack_tcp_close_wait_timeout": {"type": "int", "default": 3600},
    "conntrack_tcp_be_liberal": {"type": "bool", "default": False},
    "conntrack_udp_timeout": {"type": "int", "default": 0},
    "conntrack_udp_stream_timeout": {"type": "int", "default": 0},
}

_VARIANT: dict[str, Any] = {"variant": {"type": "str", "choices": ["auto", "legacy", "nft"], "default": "auto"}}
# What the module of one mode has besides.
OWN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "iptables": {**_VARIANT, "localhost_nodeports": {"type": "bool", "default": True}},
    "nftables": {},
    "ipvs": {
        **_VARIANT,
        "ipvs_scheduler": {
            "type": "str",
            "choices": ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh"],
            "default": "rr",
        },
        "ipvs_local_fallback": {"type": "bool", "default": False},
        "ipvs_drain_seconds": {"type": "int", "default": 3600},
        "ipvs_strict_arp": {"type": "bool", "default": False},
        "ipvs_tcp_timeout": {"type": "int", "default": 0},
        "ipvs_tcpfin_timeout": {"type": "int", "default": 0},
        "ipvs_udp_timeout": {"type": "int", "default": 0},
    },
    "userspace": {
        "userspace_ports": {"type": "str", "default": "12000-29999"},
        "userspace_connect_timeout": {"type": "int", "default": 250},
        "userspace_udp_timeout": {"type": "int", "default": 10},
        "userspace_drain_seconds": {"type": "int", "default": 3600},
        "userspace_max_old_workers": {"type": "int", "default": 32},
        "userspace_max_connections": {"type": "int", "default": 8192},
        "userspace_workers": {"type": "int", "default": 0},
        "userspace_no_endpoints": {"type": "str", "choices": ["reject", "accept"], "default": "reject"},
    },
}

# The modes that can tell without their own code that there is nothing to do, those of service_rules_unchanged.
TOLD_APART = ("iptables", "nftables")

# Those of service_rules.
RULES_ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "mode": {"type": "str", "choices": [*OWN_ARGUMENTS]},
    "keep": {"type": "str", "choices": [*OWN_ARGUMENTS]},
    "options": {"type": "dict", "default": {}},
    "snapshot_source": {"type": "path"},
    "snapshot_is_new": {"type": "bool", "default": False},
}

# What says nothing about the rules themselves.
NOT_RECORDED = (
    *("snapshot", "snapshot_digest", "snapshot_arrived", "state", "max_removed_percent", "state_dir", "run_dir"),
    *("lock_timeout", "remove_kube_proxy", "kept_states", "confirm_seconds", "confirm_hold_seconds"),
)


def families(params: dict[str, Any]) -> tuple[int, ...]:
    """The families that are asked for and that the kernel has: a node without IPv6 gets the IPv4 half."""
    asked = tuple(FAMILIES[family] for family in sorted(set(params["ip_families"])))
    found = asked if addresses.has_ipv6() else tuple(family for family in asked if family != 6)
    if not found:
        raise OptionError(
            "There is no family to program: ip_families is empty, or IPv6 alone and this kernel has none."
        )
    return found


def completed(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of those that are missing: a state file keeps only some, and an older one fewer."""
    return {**{name: argument.get("default") for name, argument in ARGUMENTS.items()}, **options}


def recorded(params: dict[str, Any]) -> dict[str, Any]:
    """The options that the state file keeps: those that the rules are made of."""
    return {option: value for option, value in params.items() if option not in NOT_RECORDED}

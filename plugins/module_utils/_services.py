# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every *_services module does with its options, as plain data: a module and a daemon run the same code.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import platform
from typing import Any, Callable, Dict, Sequence

from ._core import settings as settings_of
from ._core.errors import OptionError, ServicenetError, SnapshotError
from ._core.passes import Pass
from ._core.preflight import problems
from ._core.preflight_model import PreflightOptions, Report
from ._core.resolve import NodeView
from ._core.settings import Settings
from ._core.snapshot import Snapshot, load
from ._mode import Mode
from ._node import addresses, files, left_by_kube_proxy, preflight_facts
from ._node.iptables_tool import LEGACY, loaded_tables
from ._node.others import RULES
from ._node.runner import MissingToolError, Runner
from ._runner import Outcome, Request, absent, present, read_snapshot

FAMILIES = {"ipv4": 4, "ipv6": 6}

# The options in the words of Ansible: their types, choices and defaults.
ARGUMENTS: dict[str, Any] = {
    "snapshot": {"type": "path", "default": "/var/lib/servicenet/snapshot.jsonl.gz"},
    "snapshot_digest": {"type": "str", "default": ""},
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
            settings_of.CLUSTER_CIDR,
            settings_of.NODE_CIDR,
            settings_of.BRIDGE_INTERFACE,
            settings_of.INTERFACE_NAME_PREFIX,
            settings_of.NO_DETECTOR,
        ],
        "default": settings_of.CLUSTER_CIDR,
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

# What says nothing about the rules themselves.
NOT_RECORDED = (
    *("snapshot", "snapshot_digest", "state", "max_removed_percent", "state_dir", "run_dir", "lock_timeout"),
    *("remove_kube_proxy", "kept_states", "confirm_seconds", "confirm_hold_seconds"),
)

MakeMode = Callable[[Settings, Runner], Mode]
Makers = Dict[str, Callable[[Dict[str, Any]], MakeMode]]


def _families(params: dict[str, Any]) -> tuple[int, ...]:
    """The families that are asked for and that the kernel has: a node without IPv6 gets the IPv4 half."""
    asked = tuple(FAMILIES[family] for family in sorted(set(params["ip_families"])))
    found = asked if addresses.has_ipv6() else tuple(family for family in asked if family != 6)
    if not found:
        raise OptionError(
            "There is no family to program: ip_families is empty, or IPv6 alone and this kernel has none."
        )
    return found


def settings(params: dict[str, Any], snapshot: Snapshot) -> Settings:
    """The settings that the options and the own Node object make."""
    name = params["node_name"] or platform.node()
    node = snapshot.node(name)
    node_ips = tuple(params["node_ips"]) or (node.addresses if node is not None else ())
    view = NodeView(
        name,
        params["zone"] if params["zone"] is not None else (node.zone if node is not None else ""),
        node_ips,
        _families(params),
        params["service_proxy_name"],
    )
    detector = settings_of.detector(
        params["detect_local_mode"],
        params["pod_cidrs"],
        node.pod_cidrs if node is not None else (),
        params["bridge_interface"],
        params["interface_name_prefix"],
    )
    return Settings(
        view,
        detector,
        params["masquerade_all"],
        params["masquerade_bit"],
        settings_of.nodeport_cidrs(params["nodeport_addresses"], node_ips),
        params.get("localhost_nodeports", False),
        tuple(sorted(cidr for found in snapshot.of_kind("ServiceCIDR") for cidr in found.cidrs)),
    )


def _preflight_options(name: str, params: dict[str, Any], compiled_by: Settings) -> PreflightOptions:
    # Those of the mode ipvs are only among the options of its module.
    same = [one for one in PreflightOptions._fields if one.startswith(("conntrack_", "ipvs_")) and one in params]
    return PreflightOptions(
        name,
        compiled_by.view.families,
        params["set_sysctls"],
        params["beside_kube_proxy"],
        compiled_by.serves_loopback(),
        name in ("iptables", "ipvs"),
        params["bridge_interface"],
        compiled_by.detector.cidrs,
        **{option: params[option] for option in same},
    )


def _asking_loads(mode: Mode, families: Sequence[int]) -> bool:
    """Does the kernel load tables of iptables-legacy when it is asked for its features? Check mode must not do that."""
    wanted = {"filter", "mangle", "nat"}
    return mode.iptables_variant == LEGACY and any(wanted - {*loaded_tables(f)} for f in families)


def completed(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of those that are missing: a state file keeps only some, and an older one fewer."""
    return {**{name: argument.get("default") for name, argument in ARGUMENTS.items()}, **options}


def recorded(params: dict[str, Any]) -> dict[str, Any]:
    """The options that the state file keeps: those that the rules are made of."""
    return {option: value for option, value in params.items() if option not in NOT_RECORDED}


def request(name: str, params: dict[str, Any], make_mode: MakeMode, run: Runner, check: bool = False) -> Request:
    """What the options ask the runner for.

    :param name: of the mode.
    :param params: every option of ``ARGUMENTS`` and of the mode.
    :param check: only tell what would be done.
    """

    def mode_of(compiled_by: Settings) -> Mode:
        return make_mode(compiled_by, run)

    def preflight(mode: Mode, compiled_by: Settings, done: Pass) -> Report:
        # What the kernel can do does not change between two runs, so only a full pass asks.
        families = compiled_by.view.families
        features = mode.features if done.full and not (check and _asking_loads(mode, families)) else ()
        if not check and done.full:
            preflight_facts.load_conntrack(run)
        # Before the settings are read, some of which only a loaded module has.
        lacking, advice = mode.judge(done.after.rules, done.full, not check)
        gathered = preflight_facts.gather(
            run, done.after.rules, families, mode.iptables_variant, features, besides=mode.sysctls
        )
        if gathered.missing_tool and not check:
            raise ServicenetError(gathered.missing_tool)
        facts = gathered.facts._replace(missing_features=(*lacking, *gathered.facts.missing_features))
        if params["remove_kube_proxy"]:
            # What it left is no error then; that it runs, or left a device, still is.
            facts = facts._replace(kube_proxy=tuple(sign for sign in facts.kube_proxy if not RULES.match(sign)))
        report = problems(facts, done.after.rules, _preflight_options(name, params, compiled_by))
        return report._replace(warnings=(*advice, *report.warnings))

    return Request(
        name,
        params["snapshot"],
        params["state_dir"],
        params["run_dir"],
        lambda snapshot: settings(params, snapshot),
        mode_of,
        preflight,
        recorded(params),
        check,
        params["max_removed_percent"],
        params["lock_timeout"],
    )


def lacks_snapshot(params: dict[str, Any]) -> bool:
    """Is a snapshot asked for by its digest, and the file on the node is another one, broken or missing?"""
    if not params["snapshot_digest"] or params["state"] != "present":
        return False
    try:
        return bool(load(read_snapshot(params["snapshot"])).digest != params["snapshot_digest"])
    except SnapshotError:
        return True


def make_present(asked: Request, params: dict[str, Any], run: Runner) -> Outcome:
    """Makes the node hold what the options ask for, see ``request``; raises ``ServicenetError``."""
    outcome = present(asked)
    return _without_kube_proxy(outcome, run, asked.check) if params["remove_kube_proxy"] else outcome


def make_absent(asked: Request, params: dict[str, Any]) -> Outcome:
    """Takes everything of the mode off the node."""
    try:
        mode = asked.mode(Settings(NodeView("", families=_families(params))))
    except MissingToolError:
        return Outcome(False, [], [], [], [], {})  # rules can't be there without the tool that writes them
    return absent(asked, mode)


def _without_kube_proxy(outcome: Outcome, run: Runner, check: bool) -> Outcome:
    """Removes what a kube-proxy left, now that our own rules are in force."""
    leftovers = left_by_kube_proxy.find(run)
    if leftovers and not check:
        left_by_kube_proxy.remove(leftovers)
    before = [*outcome.before, *(f"left by kube-proxy: {one.what}" for one in leftovers)]
    return outcome._replace(changed=outcome.changed or bool(leftovers), before=before)


def last_run(state_dir: str, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """-> (the first of these modes that has a state file, that file), ("", {}) if none has."""
    for name in names:
        record = files.read_json(f"{state_dir}/{name}.json").value
        if isinstance(record, dict) and isinstance(record.get("options"), dict):
            return name, record
    return "", {}

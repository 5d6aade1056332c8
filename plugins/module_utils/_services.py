# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every *_services module does with its options, as plain data: a module and a daemon run the same code.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import platform
from typing import Any, Callable, Dict, Sequence

from . import _preflight as preflight_of
from ._core import settings as settings_of
from ._core.errors import OptionError, SnapshotError
from ._core.passes import Pass
from ._core.preflight_model import Report
from ._core.resolve import NodeView
from ._core.settings import Settings
from ._core.snapshot import Snapshot, load
from ._mode import Mode
from ._node import files, preflight_facts
from ._node.legacy_tables import LEGACY, loaded_tables
from ._node.lock import Lock, rules_path
from ._node.runner import MissingToolError, Runner
from ._options import families, recorded
from ._outcome import Outcome
from ._runner import Request, absent, left_since_boot, present, read_snapshot

# It shows the topology of the cluster: for its owner and the group, not for everybody.
SNAPSHOT_MODE = 0o640

MakeMode = Callable[[Settings, Runner], Mode]
Makers = Dict[str, Callable[[Dict[str, Any]], MakeMode]]


def settings(params: dict[str, Any], snapshot: Snapshot) -> Settings:
    """The settings that the options and the own Node object make."""
    if not 0 <= params["masquerade_bit"] <= 31:
        raise OptionError(f"masquerade_bit is {params['masquerade_bit']}, and a packet mark has the bits 0 to 31.")
    name = params["node_name"] or platform.node()
    node = snapshot.node(name)
    node_ips = settings_of.node_ips(params["node_ips"], node.addresses if node is not None else ())
    view = NodeView(
        name,
        params["zone"] if params["zone"] is not None else (node.zone if node is not None else ""),
        node_ips,
        families(params),
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
        # Who asks for tolerance has routes on which a packet comes whose connection was not seen to begin.
        not params["conntrack_tcp_be_liberal"],
    )


def _asking_loads(mode: Mode, families: Sequence[int]) -> bool:
    """Does the kernel load tables of iptables-legacy when it is asked for its features? Check mode must not do that."""
    wanted = {"filter", "mangle", "nat"}
    return mode.iptables_variant == LEGACY and any(wanted - {*loaded_tables(f)} for f in families)


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
        served = compiled_by.view.families
        features = mode.features if done.full and not (check and _asking_loads(mode, served)) else ()
        if not check and done.full:
            preflight_facts.load_conntrack(run)
        # Before the settings are read, some of which only a loaded module has.
        lacking, advice = mode.judge(done.after.rules, done.full, not check)
        wanted = preflight_of.options(name, params, served, compiled_by.serves_loopback(), compiled_by.detector.cidrs)
        report = preflight_of.report(
            run,
            done.after.rules,
            wanted,
            mode.iptables_variant,
            features,
            mode.sysctls,
            lacking,
            params["remove_kube_proxy"],
            check,
        )
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


def take_in(params: dict[str, Any], check: bool) -> bool:
    """Puts a snapshot that has arrived where the node's snapshot is -> whether that was another one or none.

    In check mode the options lead to where it arrived from now on.

    :raises ServicenetError: it is damaged, can't be read or written, or another run is at work for too long; the node's
        snapshot stays.
    """
    arrived, place = params["snapshot_arrived"], params["snapshot"]
    if not arrived or params["state"] != "present":
        return False
    data = read_snapshot(arrived)
    if data == files.read_bytes(place):
        return False
    load(data)
    if check:
        params["snapshot"] = arrived
        return True
    with Lock(rules_path(params["run_dir"]), params["lock_timeout"]):
        if data == files.read_bytes(place):
            return False  # another run brought the same
        files.write_atomic(place, data, SNAPSHOT_MODE)
    return True


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
        mode = asked.mode(Settings(NodeView("", families=families(params))))
    except MissingToolError:
        if left_since_boot(asked):
            raise
        return Outcome(False, [], [], [], [], {})  # rules can't be there without the tool that writes them
    return absent(asked, mode)


def _without_kube_proxy(outcome: Outcome, run: Runner, check: bool) -> Outcome:
    """Removes what a kube-proxy left, now that our own rules are in force."""
    from ._node import left_by_kube_proxy  # noqa: PLC0415 - it is asked for at most once in a node's life

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

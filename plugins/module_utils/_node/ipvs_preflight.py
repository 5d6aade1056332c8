# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode needs of the kernel: IPVS, its schedulers, types of sets, and matches of iptables for both.

What is missing is loaded and then tried, for a kernel may have it built in, or have modules that nobody here may load.
A try makes sets of names of their own, and takes them away again. Check mode tries nothing and goes by what modprobe
says.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from .._core.errors import NetlinkError, ToolError
from .._core.ipvs import SETS
from .._core.ipvs_rules import ADDRESS_TYPE
from .._core.preflight_settings import VS_CONNTRACK
from . import iptables_features, preflight_facts, sysctl
from .ipset_tool import IpsetTool
from .iptables_tool import IptablesTool
from .ipvs import Ipvs
from .runner import MissingToolError, Runner, Which, which
from .service_addresses import LOOPBACK

LOADED = "/sys/module"
MODULES = "/lib/modules"
SET_TYPES = tuple(sorted({ADDRESS_TYPE, *SETS.values()}))
NO_DEVICE = (
    f"This kernel has no dummy devices, so the addresses of Services are on the loopback ({LOOPBACK}): load the module"
    " dummy to have them on a device of their own."
)
TRACKING = "ip_vs with connection tracking (CONFIG_IP_VS_NFCT)"


def lacking(
    run: Runner,
    schedulers: Iterable[str],
    families: Sequence[int],
    variant: str,
    load: bool = True,
    find: Which = which,
) -> list[str]:
    """What this kernel lacks, as names for ``NodeFacts.missing_features``; [] if the node is fit.

    :param schedulers: those that Services use, see ``ipvs_options.schedulers_of``.
    :param variant: of iptables.
    :param load: modules are loaded and tried; otherwise nothing on the node changes.
    :raises MissingToolError: ipset or iptables is not installed; only if ``load``.
    """
    wanted = sorted(set(schedulers))
    if not load:
        return _not_there(run, wanted)
    if not has_ipvs():
        run(["modprobe", "ip_vs"])
    preflight_facts.load_conntrack(run)
    missing = _schedulers(run, wanted) if has_ipvs() else ["ip_vs"]
    if not missing and sysctl.read(VS_CONNTRACK) is None:
        missing.append(TRACKING)
    for family in families:
        missing += [f"{name} for IPv{family}" for name in _sets(run, family, variant, find)]
    return missing


def _not_there(run: Runner, schedulers: Iterable[str]) -> list[str]:
    """The modules that are neither loaded nor can be, as far as that can be told without trying."""
    if not os.path.isdir(f"{MODULES}/{os.uname().release}"):
        return [] if has_ipvs() else ["ip_vs"]
    modules = ["ip_vs", *(f"ip_vs_{name}" for name in schedulers), "xt_set", "xt_ipvs", *map(_module, SET_TYPES)]
    there = {"ip_vs"} if has_ipvs() else set()
    return [name for name in modules if name not in there and not _loaded(name) and not _loadable(run, name)]


def _loaded(module: str) -> bool:
    return os.path.isdir(f"{LOADED}/{module}")


def _loadable(run: Runner, module: str) -> bool:
    return run(["modprobe", "--dry-run", "--quiet", module])[0] == 0


def has_ipvs() -> bool:
    """Has the kernel IPVS, loaded or built in?"""
    try:
        with Ipvs():
            return True
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        return False


# ---- schedulers


def _schedulers(run: Runner, names: Iterable[str]) -> list[str]:
    missing = []
    with Ipvs() as ipvs:
        for name in names:
            if ipvs.has_scheduler(name):
                continue
            run(["modprobe", f"ip_vs_{name}"])
            if not ipvs.has_scheduler(name):
                missing.append(f"ip_vs_{name}")
    return missing


# ---- sets, and the matches for them


def _module(kind: str) -> str:
    """The module of a type of set: hash:ip,port is ip_set_hash_ipport."""
    return "ip_set_" + kind.replace(":", "_").replace(",", "")


def _sets(run: Runner, family: int, variant: str, find: Which) -> list[str]:
    """The types of sets that are missing; else the matches of iptables for sets."""
    tool, rules = IpsetTool(run, find), IptablesTool(run, family, variant, find)
    ipset, missing = tool.path, []
    try:
        if not _made(tool, family, SET_TYPES):
            for module in ("ip_set", *map(_module, SET_TYPES)):
                run(["modprobe", module])
            missing = [_module(kind) for kind in SET_TYPES if not _made(tool, family, [kind])]
        return missing or iptables_features.lacking(rules, iptables_features.SET_FEATURES)
    finally:
        for kind in SET_TYPES:
            if _module(kind) not in missing:
                run([ipset, "destroy", _name(kind, family)])


def _name(kind: str, family: int) -> str:
    return iptables_features.PROBE_SET.format(kind=kind.split(":")[1].replace(",", ""), family=family)


def _made(tool: IpsetTool, family: int, kinds: Iterable[str]) -> bool:
    inet = "inet6" if family == 6 else "inet"
    try:
        tool.restore("".join(f"create {_name(kind, family)} {kind} family {inet} skbinfo\n" for kind in kinds))
    except MissingToolError:
        raise
    except ToolError:
        return False
    return True

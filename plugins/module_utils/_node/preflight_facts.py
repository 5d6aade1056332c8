# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gathers the facts of this node that preflight judges. It only reads, and has iptables-restore test what it knows.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Sequence

from .._core.preflight_model import Listener, NodeFacts, node_ports
from .._core.preflight_settings import ALL, CONNTRACK_MAX
from .._core.table import PortRules
from . import addresses, others, sysctl
from .runner import Runner, Which, which


class Gathered(NamedTuple):
    """``missing_tool`` is a sentence if a tool is not installed (in check mode perhaps only not yet), else ""."""

    facts: NodeFacts
    missing_tool: str


def gather(
    run: Runner,
    rules: Sequence[PortRules],
    families: Sequence[int] = (4, 6),
    variant: str = "",
    features: Sequence[str] = (),
    find: Which = which,
    besides: Sequence[str] = (),
) -> Gathered:
    """The facts of this node, as far as they matter for these rules.

    :param variant: the variant of iptables whose features are probed; "" if the mode doesn't use iptables.
    :param features: keys of ``iptables_features.FEATURES`` that the mode needs.
    :param besides: kernel settings that the mode needs besides those of all modes.
    :raises NetlinkError: the kernel doesn't tell its devices or routes.
    """
    interfaces = addresses.interfaces()
    chains = others.nft_chains()
    routes = {family: addresses.routes(family) for family in families}
    names = [*ALL, *besides] + [f"net/ipv4/conf/{interface.name}/rp_filter" for interface in interfaces]
    if 6 in families:
        names += [f"net/ipv6/conf/{interface.name}/accept_ra" for interface in interfaces]
    values = {name: sysctl.read(name) for name in names}
    missing, problems, missing_tool = _probe(run, families, variant, features, find) if variant else ([], [], "")
    facts = NodeFacts(
        interfaces=interfaces,
        routes=routes,
        listeners=_listeners(rules),
        sysctls={name: value for name, value in values.items() if value is not None},
        read_only=frozenset(name for name, value in values.items() if value is not None and not sysctl.writable(name)),
        cpus=os.cpu_count() or 1,
        kube_proxy=tuple(others.kube_proxy(run, interfaces, chains, find)),
        forward_drops=tuple(others.forward_drops(run, families, chains, find)),
        missing_features=tuple(missing),
        tool_problems=tuple(problems),
        kernel=kernel_version(os.uname().release),
    )
    return Gathered(facts, missing_tool)


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of a release such as "6.1.0-18-amd64"; (0, 0) if it begins with none."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return (int(numbers.group(1)), int(numbers.group(2))) if numbers else (0, 0)


def _listeners(rules: Sequence[PortRules]) -> tuple[Listener, ...]:
    wanted = node_ports(rules)
    if not wanted:
        return ()
    from . import listeners  # noqa: PLC0415 - a run that finds nothing to do never needs it

    found = listeners.sockets(wanted)
    owners = listeners.owners(one.inode for one in found) if found else {}
    return tuple(Listener(one.protocol, one.address, one.port, owners.get(one.inode, "")) for one in found)


def _probe(
    run: Runner, families: Sequence[int], variant: str, features: Sequence[str], find: Which
) -> tuple[list[str], list[str], str]:
    from .iptables_features import probe  # noqa: PLC0415 - two modes have no use for it

    return probe(run, families, variant, features, find)


def load_conntrack(run: Runner) -> None:
    """Load connection tracking, so that its settings are there before the rules that load it are.

    Where modprobe fails, the settings that are missing are simply not there yet.
    """
    if sysctl.read(CONNTRACK_MAX) is None:
        run(["modprobe", "nf_conntrack"])

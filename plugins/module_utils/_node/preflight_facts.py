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

from .._core.errors import ToolError
from .._core.preflight_model import Listener, NodeFacts, node_ports
from .._core.preflight_settings import ALL, CONNTRACK_MAX
from .._core.table import PortRules
from . import addresses, listeners, others, sysctl
from .iptables_tool import IptablesTool
from .runner import MissingToolError, Runner, Which, which

PROBE_CHAIN = "SERVICENET-PROBE"
# Extension of iptables -> table and the end of a rule that needs it. What differs between the families is filled in.
FEATURES = {
    "xt_comment": ("filter", "-m comment --comment probe"),
    "xt_conntrack": ("filter", "-m conntrack --ctstate NEW"),
    "xt_addrtype": ("filter", "-m addrtype --dst-type LOCAL"),
    "xt_mark": ("filter", "-m mark --mark 0x4000/0x4000"),
    "xt_statistic": ("filter", "-m statistic --mode random --probability 0.5"),
    "xt_recent": ("filter", "-m recent --rcheck --seconds 1 --reap --name SERVICENET-PROBE --rsource"),
    "xt_bpf": ("filter", '-m bpf --bytecode "1,6 0 0 65535"'),
    "xt_ipvs": ("filter", "-m ipvs --ipvs"),
    "xt_physdev": ("filter", "-m physdev --physdev-is-in"),
    "REJECT": ("filter", "-j REJECT"),
    "MARK": ("mangle", "-j MARK --set-xmark 0x4000/0x4000"),
    "DNAT": ("nat", "-p udp -j DNAT --to-destination {address}"),
    "MASQUERADE": ("nat", "-j MASQUERADE --random-fully"),
    "REDIRECT": ("nat", "-p udp -j REDIRECT --to-ports 53"),
    "xt_set": ("mangle", "-m set --match-set SERVICENET-PROBE-ipport-{family} dst,dst"),
    "SET": ("mangle", "-j SET --map-set SERVICENET-PROBE-ipport-{family} dst,dst --map-mark"),
}
# These can be tried only while there is a set to name.
SET_FEATURES = ("xt_set", "SET")
PROBE_SET = "SERVICENET-PROBE-{kind}-{family}"
PROBE_ADDRESS = {4: "127.0.0.1", 6: "::1"}


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
    :param features: keys of ``FEATURES`` that the mode needs.
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
    missing, problems, missing_tool = probe(run, families, variant, features, find) if variant else ([], [], "")
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
    found = listeners.sockets(node_ports(rules))
    owners = listeners.owners(one.inode for one in found) if found else {}
    return tuple(Listener(one.protocol, one.address, one.port, owners.get(one.inode, "")) for one in found)


def probe(
    run: Runner, families: Sequence[int], variant: str, features: Sequence[str], find: Which = which
) -> tuple[list[str], list[str], str]:
    """The features that iptables lacks here, problems as sentences, and a sentence if the tool is missing."""
    missing: list[str] = []
    problems: list[str] = []
    for family in families:
        tool = IptablesTool(run, family, variant, find)
        try:
            if family == 6 and not tool.available():
                continue
            missing += [f"{name} for IPv{family}" for name in lacking(tool, features)]
        except MissingToolError as error:
            return [], [], str(error)
        except ToolError as error:
            problems.append(str(error))
    return missing, problems, ""


def lacking(tool: IptablesTool, features: Sequence[str]) -> list[str]:
    """The features that the tool or its kernel doesn't know. One call if all is well, else one each to name them."""
    if not features or _accepts(tool, features):
        return []
    return [feature for feature in features if not _accepts(tool, [feature])]


def _accepts(tool: IptablesTool, features: Sequence[str]) -> bool:
    tables: dict[str, list[str]] = {}
    for feature in features:
        table, rule = FEATURES[feature]
        tables.setdefault(table, []).append(rule.format(address=PROBE_ADDRESS[tool.family], family=tool.family))
    text = "".join(
        f"*{table}\n:{PROBE_CHAIN} - [0:0]\n{''.join(f'-A {PROBE_CHAIN} {rule}' + chr(10) for rule in rules)}COMMIT\n"
        for table, rules in tables.items()
    )
    try:
        tool.test(text)
    except MissingToolError:
        raise
    except ToolError:
        return False
    return True


def load_conntrack(run: Runner) -> None:
    """Load connection tracking, so that its settings are there before the rules that load it are.

    Where modprobe fails, the settings that are missing are simply not there yet.
    """
    if sysctl.read(CONNTRACK_MAX) is None:
        run(["modprobe", "nf_conntrack"])

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules that a kube-proxy left when it ended, and how they are taken away: its own chains and tables, by name.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .._core import text_iptables
from .._core.errors import ServicenetError
from .iptables_tool import VARIANTS, IptablesTool, SavedTable
from .legacy_tables import LEGACY, PREFIXES, loaded_tables
from .nft_tool import NftTool
from .others import KUBE_PROXY, OUR_FAMILIES, kube_proxy_processes, nft_chains, nft_tables
from .runner import Runner

# Those of kubelet (KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-MARK-DROP, KUBE-IPTABLES-HINT) are not among them.
OWN_CHAIN = re.compile(
    r"KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|FORWARD|PROXY-FIREWALL|PROXY-CANARY"
    r"|(SVC|SVL|EXT|FW|XLB|SEP)-[A-Z2-7]{16})\Z"
)
_TARGET = re.compile(r" ?-[jg] (\S+)")
TABLES = ("nat", "filter", "mangle")


class Leftover(NamedTuple):
    """``what``: a line for people. ``tool`` takes ``text`` and removes it, all of it or nothing."""

    what: str
    tool: IptablesTool | NftTool
    text: str


def find(run: Runner) -> list[Leftover]:
    """What is there, in the order in which it can be removed. A legacy table that is not loaded is not asked for."""
    tables = [f"{family} {name}" for family, name in nft_tables() if name == KUBE_PROXY and family in OUR_FAMILIES]
    found = [Leftover(f"nftables table {table}", NftTool(run), f"delete table {table}\n") for table in sorted(tables)]
    held = {variant: _holders(variant) for variant in VARIANTS}
    for family, prefix in PREFIXES.items():
        for variant in VARIANTS:
            tool = IptablesTool(run, family, variant)
            names = held[variant][family]
            if not names or not tool.available():
                continue
            for name, table in tool.read(names).items():
                text, count = _removal(name, table)
                if count:
                    found.append(Leftover(f"{count} chains of {prefix}-{variant}, table {name}", tool, text))
    return found


def remove(leftovers: list[Leftover]) -> None:
    """Takes it away.

    :raises ServicenetError: kube-proxy runs; or a rule of somebody else leads to one of its chains, which then stays.
    """
    running = kube_proxy_processes()
    if running:
        raise ServicenetError(f"kube-proxy runs ({running[0]}): its rules are removed only after it was stopped.")
    for leftover in leftovers:
        if isinstance(leftover.tool, NftTool):
            leftover.tool.commit(leftover.text)
        else:
            leftover.tool.restore(leftover.text)


def _holders(variant: str) -> dict[int, list[str]]:
    """Family -> the tables that may hold chains of kube-proxy."""
    if variant == LEGACY:
        return {family: [table for table in TABLES if table in loaded_tables(family)] for family in PREFIXES}
    chains = {(one.family, one.table) for one in nft_chains() if OWN_CHAIN.match(one.name)}
    return {
        family: [table for table in TABLES if ("ip6" if family == 6 else "ip", table) in chains] for family in PREFIXES
    }


def _removal(name: str, table: SavedTable) -> tuple[str, int]:
    """-> (the text that removes kube-proxy's chains and the jumps to them from the built-in ones, number of chains)"""
    own = {chain: rules for chain, rules in table.chains.items() if OWN_CHAIN.match(chain)}
    jumps = {
        chain: tuple(rule for rule in rules if _leads_to(rule, own))
        for chain, rules in table.chains.items()
        if table.policies[chain] != "-"
    }
    hooks: dict[str, text_iptables.Change] = {chain: (rules, None) for chain, rules in jumps.items() if rules}
    gone: dict[str, text_iptables.Change] = {chain: (rules, None) for chain, rules in own.items()}
    return text_iptables.transaction(name, gone, hooks), len(own)


def _leads_to(rule: str, chains: dict[str, tuple[str, ...]]) -> bool:
    return any(target in chains for target in _TARGET.findall(rule))

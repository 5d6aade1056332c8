# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other programs do to Service traffic on this node: a kube-proxy, and filters that drop what is forwarded.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from typing import Iterable, NamedTuple, Sequence

from .._core.errors import NetlinkError
from .._core.preflight_model import Interface
from .legacy_tables import LEGACY, PREFIXES, loaded_tables
from .netlink import NETLINK_NETFILTER, Netlink, attributes, nfgenmsg
from .nft_chains import NFT_MSG_GETCHAIN, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE
from .processes import command, processes
from .runner import Runner, Which, which

NFT_MSG_GETTABLE = (10 << 8) | 1
NFTA_TABLE_NAME = 1
NFTA_CHAIN_HOOK = 4
NFTA_CHAIN_POLICY = 5
NFTA_HOOK_HOOKNUM = 1
NF_INET_FORWARD = 2
NF_DROP = 0
NUMBER = struct.Struct(">I")

FAMILY_NAMES = {1: "inet", socket.AF_INET: "ip", socket.AF_INET6: "ip6"}
OUR_FAMILIES = ("ip", "ip6")
KUBE_PROXY = "kube-proxy"
KUBE_PROXY_DEVICE = "kube-ipvs0"
KUBE_PROXY_CHAIN = "KUBE-SERVICES"
# What ``kube_proxy`` calls rules that were left, other than a process or a device.
RULES = re.compile(r"(nftables table|chain) ")
FIREWALLD_TABLE = "firewalld"
OUR_TABLE = "servicenet"
# Without a time, iptables waits for ever for its lock.
LOCK_SECONDS = "10"


class Chain(NamedTuple):
    """A chain of nftables; ``drops_forwarded`` if it is hooked to forwarding and its policy is drop."""

    family: str
    table: str
    name: str
    drops_forwarded: bool


def nft_tables() -> list[tuple[str, str]]:
    """(family, name) of each nftables table; none if the kernel has no nftables."""
    found: list[tuple[str, str]] = []
    for data, start, end in _dump(NFT_MSG_GETTABLE):
        name = _text(attributes(data, start + 4, end).get(NFTA_TABLE_NAME, b""))
        found.append((FAMILY_NAMES.get(data[start], ""), name))
    return found


def nft_chains() -> list[Chain]:
    """Each chain of nftables in the IP families; iptables-nft's are among them."""
    found: list[Chain] = []
    for data, start, end in _dump(NFT_MSG_GETCHAIN):
        family = FAMILY_NAMES.get(data[start])
        if family is None:
            continue
        chain = attributes(data, start + 4, end)
        hook = attributes(chain.get(NFTA_CHAIN_HOOK, b"")).get(NFTA_HOOK_HOOKNUM)
        drops = (
            hook is not None
            and NUMBER.unpack(hook)[0] == NF_INET_FORWARD
            and NFTA_CHAIN_POLICY in chain
            and NUMBER.unpack(chain[NFTA_CHAIN_POLICY])[0] == NF_DROP
        )
        found.append(Chain(family, _text(chain[NFTA_CHAIN_TABLE]), _text(chain[NFTA_CHAIN_NAME]), drops))
    return found


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _dump(kind: int) -> list[tuple[bytes, int, int]]:
    try:
        with Netlink(NETLINK_NETFILTER, "list nftables") as netlink:
            return netlink.dump(kind, nfgenmsg(socket.AF_UNSPEC))
    except NetlinkError as error:
        if error.code == errno.EINTR:
            raise
        # A kernel without nftables has no rules of anybody in it; whoever needs nftables learns it from its own tool.
        return []


def kube_proxy_processes() -> list[str]:
    """Processes called kube-proxy in this network namespace."""
    here = os.stat("/proc/thread-self/ns/net").st_ino
    return [f"process {pid}" for pid in processes() if command(pid) == KUBE_PROXY and _namespace(pid) == here]


def _namespace(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def kube_proxy(run: Runner, interfaces: Iterable[Interface], chains: Iterable[Chain], find: Which = which) -> list[str]:
    """What shows that a kube-proxy works here, or that one left its rules; each as a noun phrase.

    The chains that kubelet makes (KUBE-FIREWALL, KUBE-KUBELET-CANARY) are no sign of it.
    """
    found = kube_proxy_processes()
    found += [f"nftables table {family} {name}" for family, name in nft_tables() if name == KUBE_PROXY]
    found += [
        f"chain {chain.name} in nftables table {chain.family} {chain.table}"
        for chain in chains
        if chain.name == KUBE_PROXY_CHAIN
    ]
    for family in PREFIXES:
        if _legacy_chain(run, family, "nat", KUBE_PROXY_CHAIN, find):
            found.append(f"chain {KUBE_PROXY_CHAIN} of {PREFIXES[family]}-legacy")
    found += [f"device {one.name}" for one in interfaces if one.name == KUBE_PROXY_DEVICE]
    return found


def forward_drops(run: Runner, families: Sequence[int], chains: Iterable[Chain], find: Which = which) -> list[str]:
    """Filters of others that drop forwarded packets unless a rule accepts them; each as a noun phrase."""
    wanted = {"inet", *("ip" if family == 4 else "ip6" for family in families)}
    found = [
        f"chain {chain.name} of nftables table {chain.family} {chain.table}"
        for chain in chains
        if chain.drops_forwarded and chain.family in wanted and chain.table != OUR_TABLE
    ]
    # firewalld's chain accepts by policy, and ends in a rule that rejects.
    found += [
        f"nftables table {family} {name}"
        for family, name in nft_tables()
        if name == FIREWALLD_TABLE and family in wanted
    ]
    for family in families:
        if _legacy_chain(run, family, "filter", "FORWARD", find).startswith("-P FORWARD DROP"):
            found.append(f"chain FORWARD of {PREFIXES[family]}-legacy")
    return found


def _legacy_chain(run: Runner, family: int, table: str, chain: str, find: Which) -> str:
    """A chain as iptables-legacy shows it, or "". A table that isn't loaded is not asked for: that would load it."""
    if table not in loaded_tables(family):
        return ""
    from .iptables_tool import programs  # noqa: PLC0415 - most nodes have no such table, and never need it

    located = programs(family, LEGACY, run, find)
    if located is None:
        return ""
    rc, out, _err = run([located.main, "-w", LOCK_SECONDS, "-t", table, "-S", chain])
    return out if rc == 0 else ""

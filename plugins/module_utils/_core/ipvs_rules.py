# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ipvs mode's iptables rules: their number depends on nothing but the settings, Services are entries of sets.

    mangle PREROUTING   drops sources that are not allowed; marks what is to be masqueraded, and what is for a virtual
                        server that is found by a mark
    mangle OUTPUT       the same for the node's own packets
    filter INPUT        refuses what has no endpoint, and ports that an address of Services does not have; takes the
                        mark off what others have translated
    filter OUTPUT       the same, which is sooner for a process of the node
    filter FORWARD      lets answers through
    nat POSTROUTING     masquerades what is marked, and what reaches itself

A virtual server gets its packets on their way in, so the filter sees them before it does; the node's own packets meet
it before the filter.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import text_iptables as text
from .ipvs import SETS, container
from .passes import Program
from .settings import Settings, is_loopback
from .text_iptables import Change, Rules

PREFIX = "SERVICENET-IPVS"
# Table -> built-in chain -> our chain that it leads to.
HOOKS = {
    "mangle": {"PREROUTING": f"{PREFIX}-PRE", "OUTPUT": f"{PREFIX}-OUT"},
    "nat": {"POSTROUTING": f"{PREFIX}-POST"},
    "filter": {"INPUT": f"{PREFIX}-INPUT", "FORWARD": f"{PREFIX}-FORWARD", "OUTPUT": f"{PREFIX}-OUTPUT"},
}
# Of all sets, these hold marks beside their entries.
WITH_MARKS = ("SPLIT", "NP", "NPOUT")
# The addresses that the node holds for Services, and the marks of our virtual servers, each written as an address.
ADDRESSES = "VIP"
ADDRESS_TYPE = "hash:ip"
MARKS = "MARK"
# The upper byte of those.
UPPER_BYTE = 0x5E
MOST_ENTRIES = 1 << 20

_PORT = "dst,dst"


def set_name(family: int, name: str) -> str:
    """The name of a set in the kernel."""
    return f"SERVICENET-{name}-{family}"


def declarations(family: int) -> dict[str, str]:
    """The sets by their short names, each with the line for ipset that makes it."""
    kinds = {ADDRESSES: ADDRESS_TYPE, MARKS: ADDRESS_TYPE, **SETS}
    return {
        name: f"create {set_name(family, name)} {kind} family {'inet' if family == 4 or name == MARKS else 'inet6'}"
        f" maxelem {MOST_ENTRIES}{' skbinfo' if name in WITH_MARKS else ''}"
        for name, kind in kinds.items()
    }


def frame(settings: Settings) -> Program:
    """What does not depend on Services: the sets as such (``4/sets/INT``), the chains, and our jumps in the built-in
    ones (``4/chain/mangle/PREROUTING``)."""
    program: Program = {}
    for family in settings.view.families:
        program.update(dict.fromkeys((container(family, "sets", name) for name in declarations(family)), True))
        rules = _Rules(settings, family)
        for table, chains in (("mangle", rules.mangle()), ("nat", rules.nat()), ("filter", rules.filter())):
            for chain, content in chains.items():
                program[container(family, "chain", table, chain)] = content
            for hook, chain in HOOKS[table].items():
                program[container(family, "chain", table, hook)] = (f"-j {chain}",)
    return program


class _Rules:
    """The chains of one family."""

    def __init__(self, settings: Settings, family: int) -> None:
        self.settings, self.family = settings, family
        self.mark = text.set_mark(settings.mark)

    def _in(self, name: str, how: str = _PORT) -> str:
        return f"-m set --match-set {set_name(self.family, name)} {how}"

    def _not_in(self, name: str, how: str = _PORT) -> str:
        return f"-m set ! --match-set {set_name(self.family, name)} {how}"

    def _map(self, name: str) -> str:
        return f"-j SET --map-set {set_name(self.family, name)} {_PORT} --map-mark"

    def _local_pods(self) -> Rules:
        """Matches for packets of local Pods; () without a detector."""
        detector = self.settings.detector
        if detector.interface:
            return (f"-i {detector.interface}",)
        return tuple(f"-s {cidr}" for cidr in detector.cidrs_of(self.family))

    def _node_ports(self, target: str) -> Rules:
        """Rules for what is sent to an address that serves node ports."""
        other = self._not_in(ADDRESSES, "dst")
        local = f"-m addrtype --dst-type LOCAL {other} {target}"
        cidrs = self.settings.node_port_cidrs(self.family)
        if cidrs:
            return tuple(f"-d {cidr} {local}" for cidr in cidrs if not is_loopback(cidr))
        return (f"! -d {'::1/128' if self.family == 6 else '127.0.0.0/8'} {local}",)

    def mangle(self) -> dict[str, Rules]:
        """Marks, and sources that are not allowed."""
        settings, pods = self.settings, self._local_pods()
        allowed = f"-m conntrack --ctstate NEW {self._in('LIMIT')} {self._not_in('ALLOW', 'dst,dst,src')} -j DROP"
        external = f"{self._in('EXT')} {self.mark}"
        internal = f"{self._in('INT')} {self.mark}"
        from_outside = (internal,) if settings.masquerade_all or settings.detector.exists_for(self.family) else ()
        from_pods = (internal,) if settings.masquerade_all else ()
        return {
            f"{PREFIX}-PRE": (
                # What comes by the loopback was here before, when it left.
                "-i lo -j RETURN",
                allowed,
                *(f"{match} -g {PREFIX}-POD" for match in pods),
                *from_outside,
                external,
                self._map("SPLIT"),
                *self._node_ports(f"-j {PREFIX}-NPOUT"),
            ),
            f"{PREFIX}-POD": (*from_pods, external, *self._node_ports(f"-j {PREFIX}-NP")),
            f"{PREFIX}-NP": (self._map("NP"),),
            f"{PREFIX}-NPOUT": (self._map("NP"), self._map("NPOUT")),
            # The node takes the address of the Service as its own source, so it has to be masqueraded in any case.
            f"{PREFIX}-OUT": (
                allowed,
                internal,
                external,
                f"{self._in('SPLIT')} {self.mark}",
                *self._node_ports(f"-j {PREFIX}-NPHOST"),
            ),
            f"{PREFIX}-NPHOST": (self._map("NP"), f"{self._in('NP')} {self.mark}"),
        }

    def nat(self) -> dict[str, Rules]:
        """Masquerading."""
        mark = self.settings.mark
        return {
            f"{PREFIX}-POST": (
                f"! -o lo -m ipvs --ipvs {text.reaches_itself(self.family)} -j MASQUERADE --random-fully",
                f"-m ipvs --ipvs -m mark --mark 0x{mark:x}/0x{mark:x} -j MASQUERADE --random-fully",
            )
        }

    def filter(self) -> dict[str, Rules]:
        """What is refused."""
        reject = text.reject(self.family)
        ping = "ipv6-icmp" if self.family == 6 else "icmp"
        defined = " ".join(self._not_in(name) for name in ("INT", "EXT", "SPLIT"))
        new = "-m conntrack --ctstate NEW -j"
        upper = 0xFF << 24 & ~self.settings.mark
        ours = f"-m mark --mark 0x{UPPER_BYTE << 24 & upper:x}/0x{upper:x}"
        return {
            f"{PREFIX}-INPUT": (
                # What another mode has translated meanwhile is its own. IPVS would remember the translated packet, and
                # take those of a later connection from the same port, which that mode leads to a server of this node.
                f"{ours} -m conntrack --ctstate DNAT -j MARK --set-xmark 0x0/0xffffffff",
                f"{new} {PREFIX}-OUTSIDE",
                f"{new} {PREFIX}-REFUSE",
            ),
            f"{PREFIX}-OUTPUT": (f"{new} {PREFIX}-REFUSE",),
            f"{PREFIX}-FORWARD": ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",),
            f"{PREFIX}-OUTSIDE": (
                "-i lo -j RETURN",
                *(f"{match} -j RETURN" for match in self._local_pods()),
                f"{self._in('DROPOUT')} -j DROP",
                *self._node_ports(f"{self._in('NPDROPOUT')} -j DROP"),
            ),
            f"{PREFIX}-REFUSE": (
                f"{self._in('REJECT')} {reject}",
                f"{self._in('DROP')} -j DROP",
                *self._node_ports(f"{self._in('NPREJECT')} {reject}"),
                f"! -p {ping} {self._in(ADDRESSES, 'dst')} {defined} {reject}",
            ),
        }


def ours(table: str, chain: str, rules: Rules) -> Rules | None:
    """What of a chain in the kernel is ours: our own chains, our jumps in a built-in one, None of the others."""
    if chain in HOOKS[table]:
        return tuple(rule for rule in rules if rule.startswith(f"-j {PREFIX}-")) or None
    return rules if chain.startswith(f"{PREFIX}-") else None


def transaction(table: str, changes: Mapping[str, Change]) -> str:
    """The input of iptables-restore for changed chains of one table and family, by the names of the chains."""
    hooks = {chain: change for chain, change in changes.items() if chain in HOOKS[table]}
    return text.transaction(table, {chain: changes[chain] for chain in changes if chain not in hooks}, hooks)

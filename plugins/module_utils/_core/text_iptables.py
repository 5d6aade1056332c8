# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The texts of iptables rules and of iptables-restore's input, spelled as iptables-save prints them.

A rule is the text after ``-A CHAIN``. Because the spelling is that of iptables-save, what a table holds compares with
what is wanted as text.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional, Tuple

Rules = Tuple[str, ...]
# What a chain held and what it is to hold; None where there is no such chain.
Change = Tuple[Optional[Rules], Optional[Rules]]

_EVERY_BIT = {4: "255.255.255.255", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
_REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}


def host(address: str) -> str:
    """An address as a match prints it."""
    return f"{address}/128" if ":" in address else f"{address}/32"


def low_bits(family: int, value: int, mask: int) -> str:
    """A match on the low bits of a destination, at most 16 of them: ``-d 0.0.0.5/0.0.0.15``."""
    if family == 4:
        return f"-d 0.0.{value >> 8}.{value & 255}/0.0.{mask >> 8}.{mask & 255}"
    return f"-d ::{value:x}/::{mask:x}" if value else f"-d ::/::{mask:x}"


def destination_port(protocol: str, ports: str) -> str:
    """A match on protocol and port, or a range of ports ``low:high``."""
    name = protocol.lower()
    return f"-p {name} -m {name} --dport {ports}"


def frontend(address: str, protocol: str, port: int) -> str:
    """A match on a destination address and port."""
    return f"-d {host(address)} {destination_port(protocol, str(port))}"


def chance(left: int) -> str:
    """A match that holds once in ``left`` times; empty for 1."""
    return share(1, left)


def share(part: int, whole: int) -> str:
    """A match that holds ``part`` in ``whole`` times; empty if they are equal."""
    if part == whole:
        return ""
    # The kernel keeps 31 bits of it, and iptables-save prints what the kernel keeps.
    kept = round(part / whole * (1 << 31)) / (1 << 31)
    return f"-m statistic --mode random --probability {kept:.11f} "


def remember(family: int, name: str) -> str:
    """A match that always holds and remembers the client's address in a list."""
    return f"-m recent --set --name {name} --mask {_EVERY_BIT[family]} --rsource "


def remembered(family: int, name: str, seconds: int) -> str:
    """A match that holds for a client that is in the list for less than ``seconds``, and begins its time again."""
    return f"-m recent --update --seconds {seconds} --reap --name {name} --mask {_EVERY_BIT[family]} --rsource "


def dnat(address: str, port: int) -> str:
    """The target that sends a connection to a backend."""
    return f"-j DNAT --to-destination {f'[{address}]' if ':' in address else address}:{port}"


def set_mark(mark: int) -> str:
    """The target that sets a bit of the packet mark."""
    return f"-j MARK --set-xmark 0x{mark:x}/0x{mark:x}"


def clear_mark(mark: int) -> str:
    """The target that clears a bit of the packet mark."""
    return f"-j MARK --set-xmark 0x0/0x{mark:x}"


def reject(family: int) -> str:
    """The target that answers "port unreachable"."""
    return f"-j REJECT --reject-with {_REJECT[family]}"


def reaches_itself(family: int) -> str:
    """A match that holds where the source address is the destination: a few steps of BPF, since no other match compares
    two fields of a packet."""
    words, source, destination = (1, 12, 16) if family == 4 else (4, 8, 24)
    steps = []
    for word in range(words):
        steps += [f"32 0 0 {source + 4 * word}", "7 0 0 0", f"32 0 0 {destination + 4 * word}"]
        steps.append(f"29 0 {4 * (words - word) - 3} 0")
    steps += ["6 0 0 65535", "6 0 0 0"]
    return f'-m bpf --bytecode "{len(steps)},{",".join(steps)}"'


# ------------------------------------------------------------------------------------------- iptables-restore's input


def transaction(table: str, chains: Mapping[str, Change], hooks: Mapping[str, Change]) -> str:
    """The input of ``iptables-restore --noflush`` for one table: it takes the changes as a whole or not at all.

    ``chains`` are our own; ``hooks`` name a built-in chain and our jumps in it, before and after.
    """
    declared = [f":{chain} - [0:0]" for chain in chains]
    rules = [f"-A {chain} {rule}" for chain, (_old, new) in chains.items() for rule in new or ()]
    jumps = []
    for chain, (old, new) in hooks.items():
        if (old or ()) != (new or ()):
            jumps += [f"-D {chain} {rule}" for rule in old or ()]
            jumps += [f"-I {chain} 1 {rule}" for rule in reversed(new or ())]
    removed = [f"-X {chain}" for chain, (_old, new) in chains.items() if new is None]
    lines = [*declared, *rules, *jumps, *removed]
    return "\n".join([f"*{table}", *lines, "COMMIT", ""]) if lines else ""


def union(old: Rules | None, new: Rules | None) -> Rules:
    """The new rules and behind them the old ones that are not among them."""
    wanted = set(new or ())
    return (*(new or ()), *(rule for rule in old or () if rule not in wanted))


def choices(prefix: str, targets: Sequence[str]) -> Rules:
    """One rule a target, each with an equal chance: the first holds once in n times, the next once in n-1, and on."""
    return tuple(f"{prefix}{chance(len(targets) - i)}{target}" for i, target in enumerate(targets))

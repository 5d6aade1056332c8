# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frontends that the chains of the iptables mode serve, read back from the rules.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re

from .iptables import parts
from .live import LiveFrontend
from .passes import Program

_FRONTEND = re.compile(r"(?:-d (\S+)/(?:32|128) )?-p (tcp|udp|sctp) -m \2 --dport (\d+) (.*)\Z")
_DNAT = re.compile(r"-j DNAT --to-destination (?:\[([0-9a-f:]+)\]|([0-9.]+)):(\d+)")
_GOTO = re.compile(r"-[gj] (SERVICENET-\S+)")
_LEAVES = ("SERVICENET-IP-", "SERVICENET-NP-", "SERVICENET-V-")


def frontends(program: Program) -> list[LiveFrontend]:
    """Every frontend that a leaf names, with the backends behind it and what the filter table does with the rest."""
    backends: dict[tuple[int, str, str, int], set[tuple[str, int]]] = {}
    refused: dict[tuple[int, str, str, int], str] = {}
    for name, rules in program.items():
        family, table, chain = parts(name)
        if not chain.startswith(_LEAVES):
            continue
        for rule in rules:
            match = _FRONTEND.match(rule)
            if match is None:
                continue
            address, protocol, port, action = match.groups()
            key = (family, address or "", protocol.upper(), int(port))
            if table == "nat":
                backends.setdefault(key, set()).update(_reached(program, family, action))
            else:
                refused[key] = "reject" if "-j REJECT" in action else "drop"
    return [
        LiveFrontend(*key, tuple(sorted(backends.get(key, ()))), refused.get(key, ""))
        for key in sorted({**backends, **refused})
    ]


def _reached(program: Program, family: int, action: str) -> set[tuple[str, int]]:
    """The backends that a rule leads to, itself or through other chains."""
    found: set[tuple[str, int]] = set()
    todo, seen = [action], set()
    while todo:
        rule = todo.pop()
        target, chain = _DNAT.search(rule), _GOTO.search(rule)
        if target:
            found.add((target.group(1) or target.group(2), int(target.group(3))))
        elif chain and chain.group(1) not in seen:
            seen.add(chain.group(1))
            todo.extend(program.get(f"{family}/nat/{chain.group(1)}", ()))
    return found

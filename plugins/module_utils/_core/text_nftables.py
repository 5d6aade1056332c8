# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How nftables rules are spelled, in forms that nft 1.0.6 and 1.1.3 both take, and list without losing their way.

What looks roundabout is so for a reason: a ``dnat ... map`` is refused if the protocol of its key and the one that the
map's data was declared by differ, and ``th`` is none of them; ``ct original proto-dst`` has no type without a protocol.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Tuple

TABLE = "servicenet"
PROTOCOLS = ("tcp", "udp", "sctp")
NUMBERS = {"TCP": "6", "UDP": "17", "SCTP": "132"}
# A client is forgotten after this long even if its Service is gone; each Service's own timeout is at most this.
MOST_AFFINITY_SECONDS = 86400
MOST_CLIENTS = 1 << 20

Rules = Tuple[str, ...]


class Collection(NamedTuple):
    """A map or set: the types of its keys and its data ("" for a set). ``A`` stands for the type of an address; with
    ``typeof`` expressions stand for types, and ``F`` for ip or ip6."""

    key: str
    data: str = ""
    flags: str = ""
    typeof: bool = False


_FRONTEND = "A . inet_proto . inet_service"
_NODE_PORT = "inet_proto . inet_service"
_BACKEND = "A . inet_service"


def _endpoints() -> dict[str, Collection]:
    """The maps of endpoints. A random number has a type without a name, so ``typeof`` has to declare them; and an
    expression in the data ties a map to its protocol."""
    made = {}
    for p in PROTOCOLS:
        for before in ("", "outside_"):
            index, backend = "numgen random mod 65536", f"F daddr . {p} dport"
            made[f"{before}endpoint_{p}"] = Collection(f"F daddr . {p} dport . {index}", backend, typeof=True)
            made[f"{before}nodeport_endpoint_{p}"] = Collection(f"{p} dport . {index}", backend, typeof=True)
    return made


ENDPOINTS = _endpoints()

# All maps and sets of a table. What a packet looks up in them: see ``nftables.py``.
COLLECTIONS = {
    **ENDPOINTS,
    "service": Collection(_FRONTEND, "verdict"),
    "outside_service": Collection(_FRONTEND, "verdict"),
    "nodeport": Collection(_NODE_PORT, "verdict"),
    "outside_nodeport": Collection(_NODE_PORT, "verdict"),
    "learn": Collection(f"{_FRONTEND} . {_BACKEND}", "verdict"),
    "nodeport_learn": Collection(f"{_NODE_PORT} . {_BACKEND}", "verdict"),
    "affinity": Collection(
        f"A . {_FRONTEND}",
        _BACKEND,
        f"flags dynamic,timeout; size {MOST_CLIENTS}; timeout {MOST_AFFINITY_SECONDS}s;",
    ),
    "cluster_address": Collection("A"),
    "rejected": Collection(_FRONTEND),
    "rejected_nodeport": Collection(_NODE_PORT),
    "restricted": Collection(_FRONTEND),
    "allowed": Collection(f"{_FRONTEND} . A", "", "flags interval;"),
    "hairpin": Collection("A . A . inet_proto . inet_service"),
}

# The keys of the maps of frontends, while a table takes the place of another one.
MEANWHILE = {"meanwhile": Collection(_FRONTEND), "meanwhile_nodeport": Collection(_NODE_PORT)}


def ip(family: int) -> str:
    """The word for a family: in front of addresses, and for its tables."""
    return "ip6" if family == 6 else "ip"


def table(family: int) -> str:
    """The table of a family."""
    return f"{ip(family)} {TABLE}"


def declaration(family: int, name: str, made: Collection) -> str:
    """The command that makes a map or set, or leaves one alone that is there."""
    kind = "map" if made.data else "set"
    of = f"{made.key} : {made.data}" if made.data else made.key
    if made.typeof:
        of = "typeof " + of.replace("F ", f"{ip(family)} ")
    else:
        of = "type " + of.replace("A", "ipv6_addr" if family == 6 else "ipv4_addr")
    return f"add {kind} {table(family)} {name} {{ {of}; {made.flags} }}"


def commented(rule: str) -> str:
    """The rule with its own digest as a comment: nft lists rules in other words, but comments as they are. One that has
    a comment, as it was listed, keeps it."""
    return rule if rule.endswith('"') and ' comment "' in rule else f'{rule} comment "{digest(rule)}"'


def digest(rule: str) -> str:
    """What tells one rule from any other."""
    return "servicenet:" + hashlib.sha256(rule.encode()).hexdigest()[:12]


def chain(family: int, name: str, hook: str, rules: Iterable[str]) -> list[str]:
    """The commands that make a chain hold these rules and nothing else. ``hook`` is "" for one that is jumped to."""
    where = f"{table(family)} {name}"
    return [
        f"add chain {where} {{ {hook} }}" if hook else f"add chain {where}",
        f"flush chain {where}",
        *(f"add rule {where} {commented(rule)}" for rule in rules),
    ]


def elements(verb: str, family: int, name: str, texts: Sequence[str]) -> list[str]:
    """The command that adds or deletes elements: an element a line, so that an error's line names it."""
    if not texts:
        return []
    return [f"{verb} element {table(family)} {name} {{", *(f"{text}," for text in texts), "}"]


def one_of(values: Sequence[str]) -> str:
    """A value, or a set of them."""
    return values[0] if len(values) == 1 else "{ " + ", ".join(values) + " }"


def frontend(family: int) -> str:
    """What a packet's frontend is looked up by."""
    return f"{ip(family)} daddr . meta l4proto . th dport"


def choose(family: int, kind: str, count: int) -> Rules:
    """The rules that send a packet to one of ``count`` endpoints of its frontend.

    :param kind: the name of the maps of endpoints, without the protocol. What is not found there is dropped, never let
        through unchanged: the client sends it again, and by then the maps agree.
    """
    word = ip(family)
    key = "" if "nodeport" in kind else f"{word} daddr . "
    rules = [
        f"meta l4proto {p} dnat {word} to {key}{p} dport . numgen random mod {count} map @{kind}_{p}" for p in PROTOCOLS
    ]
    return (*rules, "drop")


def recall(family: int) -> Rules:
    """The rule that sends a client to the endpoint that it was sent to before."""
    word = ip(family)
    return (f"dnat {word} to {word} saddr . {word} daddr . meta l4proto . th dport map @affinity",)


def learn(family: int) -> Rules:
    """The rules that find the chain that remembers, for a connection that went to an endpoint of a sticky frontend.

    An endpoint that is one no more is not found: a UDP flow that still goes there must not bring it back.
    """
    word = ip(family)
    fresh = "ct state new ct status dnat meta l4proto"
    backend = f"{word} daddr ."
    rules = []
    for p in PROTOCOLS:
        port = "meta l4proto . ct original proto-dst"
        rules.append(f"{fresh} {p} ct original {word} daddr . {port} . {backend} {p} dport vmap @learn")
        rules.append(f"{fresh} {p} {port} . {backend} {p} dport vmap @nodeport_learn")
    return tuple(rules)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What changes, for people: lines that name services, not rules; and which services a drift or an error concerns.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import AbstractSet, Any

from .passes import Changes, Compiler, Program
from .table import CLUSTER_IP, DROP, REJECT, Frontend, PortRules, ServiceTable, Target

# More endpoints than this are counted, not listed.
MOST_LISTED = 6
# Containers that no Service has a part in.
COMMON = "(common rules)"
# Addresses without the length of a prefix, numbers and words.
_WORD = re.compile(r"[0-9A-Za-z:.]+")
# The containers of node ports, in any mode.
_NODE_PORTS = re.compile(r"nodeport|SERVICENET-NP-|/set/NP|/-/")
# The containers of the mode ipvs, whose names say all: their contents are weights and the like.
_TELLING = re.compile(r"\d/(address|real|server|set)/")
PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


def describe(table: ServiceTable) -> list[str]:
    """One sorted line a frontend: ``default/web:http 10.96.0.10:80/tcp -> 2 endpoints: 10.128.0.1:8080, ...``."""
    return sorted(line for entry in table.rules for line in _lines(entry))


def _lines(entry: PortRules) -> Iterator[str]:
    for frontend in entry.frontends:
        where = f"{entry.name} {_frontend(entry, frontend)}/{entry.protocol.lower()}"
        if frontend.kind == CLUSTER_IP:
            yield f"{where} -> {_target(entry.internal)}{_affinity(entry)}"
            continue
        ranges = "" if frontend.source_ranges is None else f" from {', '.join(frontend.source_ranges)}"
        if entry.external == entry.cluster:
            yield f"{where}{ranges} -> {_target(entry.external)}{_affinity(entry)}"
        else:
            outside, inside = _target(entry.external), _target(entry.cluster)
            yield f"{where}{ranges} -> outside: {outside}; inside: {inside}{_affinity(entry)}"


def _frontend(entry: PortRules, frontend: Frontend) -> str:
    if not frontend.address:
        return f"node port {frontend.port} (IPv{entry.family})"
    return f"[{frontend.address}]:{frontend.port}" if entry.family == 6 else f"{frontend.address}:{frontend.port}"


def _target(target: Target) -> str:
    if target.verdict == REJECT:
        return "reject (no endpoints)"
    if target.verdict == DROP:
        return "drop (no endpoint on this node)"
    listed = [f"[{b.address}]:{b.port}" if ":" in b.address else f"{b.address}:{b.port}" for b in target.backends]
    count = f"{len(listed)} endpoint{'s' if len(listed) > 1 else ''}"
    if len(listed) <= MOST_LISTED:
        return f"{count}: {', '.join(listed)}"
    # The digest makes two long lists of the same length two different lines.
    return f"{count} ({hashlib.sha256(' '.join(listed).encode()).hexdigest()[:8]})"


def _affinity(entry: PortRules) -> str:
    return f", sticky for {entry.affinity} s" if entry.affinity else ""


def changed_services(before: ServiceTable, after: ServiceTable) -> list[str]:
    """The names (namespace/name) whose frontends or endpoints differ."""
    old, new = set(before.rules), set(after.rules)
    return sorted({entry.service for entry in old ^ new})


def owner(text: str, rules: Iterable[PortRules], compiler: Compiler) -> str:
    """The first service port that has this text among its rules, or a container of this name; "" if none has."""
    for entry in rules:
        for name, content in compiler.compile([entry]).items():
            if text == name or text in (content if isinstance(content, tuple) else (content,)):
                return entry.name
    return ""


def concerned(containers: Mapping[str, Any], rules: Iterable[PortRules], compiler: Compiler) -> list[str]:
    """The names of the service ports that want something of these containers which they do not hold, or of whose
    addresses or node ports something in them speaks that nobody wants.

    :param containers: container -> what it holds, None if it is not there.
    :returns: sorted names; COMMON if something is nobody's.
    """
    rules = list(rules)
    found: set[str] = set()
    wanted: dict[str, set[str]] = {}
    for entry in rules:
        for name, content in compiler.compile([entry]).items():
            if name in containers:
                wanted.setdefault(name, set()).update(content if isinstance(content, tuple) else [str(content)])
                if not _holds(containers[name], content):
                    found.add(entry.name)
    named = _Named(rules)
    for name, held in containers.items():
        if name in wanted and not isinstance(held, tuple):
            continue  # who wants the element misses it, whatever is there instead
        texts = held if isinstance(held, tuple) else () if held is None else (str(held),)
        owners = [named.owners(name, text) for text in texts if text not in wanted.get(name, ())]
        found.update(owner for some in owners for owner in some)
        if not all(owners) or (name not in wanted and not owners):
            found.add(COMMON)
    return sorted(found or {COMMON})


class _Named:
    """Which service port a rule or an element speaks of, by the frontends of all."""

    def __init__(self, rules: Iterable[PortRules]) -> None:
        self._by_address: dict[str, list[tuple[PortRules, Frontend]]] = {}
        self._by_node_port: dict[str, list[PortRules]] = {}
        for entry in rules:
            for frontend in entry.frontends:
                if frontend.address:
                    self._by_address.setdefault(frontend.address, []).append((entry, frontend))
                else:
                    self._by_node_port.setdefault(str(frontend.port), []).append(entry)

    def owners(self, container: str, text: str) -> list[str]:
        """The names; of the ports of an address those alone that are named as well, if any is."""
        # FAMILY/KIND/KEY of rules; KIND/KEY of what else a mode has.
        kind, key = container.split("/", 2)[-2:]
        if _TELLING.match(container):
            text = re.sub(r"\b(tcp|udp|sctp):", r"\1 ", key)
        # The maps of endpoints have the protocol in their names alone.
        words = set(_WORD.findall(f"{kind} {text}"))
        found = [one for word in words for one in self._by_address.get(word, ())]
        exact = [entry for entry, frontend in found if _speaks_of(entry, str(frontend.port), words)]
        if found:
            return [entry.name for entry in exact or [entry for entry, _frontend in found]]
        if not _NODE_PORTS.search(container):
            return []
        return [e.name for word in words for e in self._by_node_port.get(word, ()) if _speaks_of(e, word, words)]


def _speaks_of(entry: PortRules, port: str, words: AbstractSet[str]) -> bool:
    """Are this port and the protocol among the words? nftables has the number of the protocol."""
    return port in words and bool({entry.protocol.lower(), str(PROTOCOL_NUMBERS[entry.protocol])} & words)


def _holds(held: Any, wanted: Any) -> bool:
    if isinstance(held, tuple) and isinstance(wanted, tuple):
        return set(wanted) <= set(held)
    return bool(held == wanted)


def fingerprint(program: Program) -> str:
    """The digest of a program; ``refreshed`` gives that of a changed one without going through all of it."""
    return f"{sum(_weight(name, content) for name, content in program.items()) % (1 << 128):032x}"


def refreshed(digest: str, changes: Changes) -> str:
    """The digest after changes, from the one before them."""
    total = int(digest, 16)
    for name, (old, new) in changes.items():
        total += (0 if new is None else _weight(name, new)) - (0 if old is None else _weight(name, old))
    return f"{total % (1 << 128):032x}"


def _weight(name: str, content: Any) -> int:
    return int.from_bytes(hashlib.blake2b(f"{name}\0{content!r}".encode(), digest_size=16).digest(), "big")

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What changes, for people: lines that name services, not rules; and which services a drift or an error concerns.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .passes import Changes, Compiler, Program
from .table import CLUSTER_IP, DROP, REJECT, Frontend, PortRules, ServiceTable, Target

# More endpoints than this are counted, not listed.
MOST_LISTED = 6
# Containers that no Service has a part in.
COMMON = "(common rules)"


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
    """The first service port that has this text among its rules; "" if none has."""
    for entry in rules:
        for content in compiler.compile([entry]).values():
            if text in (content if isinstance(content, tuple) else (content,)):
                return entry.name
    return ""


def concerned(containers: Mapping[str, Any], rules: Iterable[PortRules], compiler: Compiler) -> list[str]:
    """The names of the service ports that want something of these containers which they do not hold.

    :param containers: container -> what it holds, None if it is not there.
    :returns: sorted names; COMMON if a container is nobody's.
    """
    found, wanted_by_somebody = set(), set()
    for entry in rules:
        for name, content in compiler.compile([entry]).items():
            if name in containers:
                wanted_by_somebody.add(name)
                if not _holds(containers[name], content):
                    found.add(entry.name)
    if not found or set(containers) - wanted_by_somebody:
        found.add(COMMON)
    return sorted(found)


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

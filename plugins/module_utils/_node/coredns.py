# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zone files and Corefile of a node: compare with what is there, write what differs, take everything away.

A server that runs is never told: CoreDNS looks by itself for another serial, and serves what it has until it finds a
whole zone. Every file is replaced in one step, so a crash or a full disk leaves the old one. A copy of each stands in
the state directory, for a server that has to start while its own file is broken.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .._core import corefile, dns, dns_changes, dns_zonefile, snapshot
from .._core.corefile import CorefileOptions, ZoneSource
from .._core.dns import DnsOptions
from .._core.errors import PreflightError, SnapshotError
from .._core.snapshot import Snapshot
from . import files, listeners, processes
from .lock import Lock

# The layout of the state file and of the files; another number makes everything anew.
RECORD = 1
ZONE_PREFIX = "db."
MODE = 0o644
MOST_NAMED = 100


class Request(NamedTuple):
    """What a run is asked for.

    ``zones``: the DNS options, None in the mode that asks the API server. ``corefile``: without its zones.
    """

    snapshot: str
    zones: DnsOptions | None
    corefile: CorefileOptions
    zone_dir: str
    corefile_path: str
    state_dir: str
    run_dir: str
    now: int
    check: bool = False
    max_removed_percent: int = 50
    lock_seconds: float = 60

    @property
    def record_path(self) -> str:
        """The state file."""
        return os.path.join(self.state_dir, "dns.json")

    @property
    def applied_path(self) -> str:
        """The snapshot that the zones were made of."""
        return os.path.join(self.state_dir, "dns.jsonl.gz")

    @property
    def copies_dir(self) -> str:
        """Where the copies are."""
        return os.path.join(self.state_dir, "dns-copies")

    def copy_of(self, path: str) -> str:
        """The copy of a zone file or of the Corefile."""
        return os.path.join(self.copies_dir, "Corefile" if path == self.corefile_path else os.path.basename(path))


class Outcome(NamedTuple):
    """``before`` and ``after``: lines for people, only those that differ. ``corefile_changed``: CoreDNS has to be told
    (it looks by itself after some seconds, too)."""

    changed: bool
    corefile_changed: bool
    zones_changed: list[str]
    before: list[str]
    after: list[str]
    warnings: list[str]
    facts: dict[str, Any]


class _Plan(NamedTuple):
    """What a run would do. ``seen``: the state file that it goes by. ``write``: path -> new content; ``remove``: paths;
    ``keep``: the snapshot to remember."""

    seen: dict[str, Any]
    outcome: Outcome
    write: dict[str, bytes]
    remove: list[str]
    record: dict[str, Any]
    keep: bytes | None


def present(request: Request) -> Outcome:
    """Makes the files those of the snapshot."""
    refuse_conflicts(request.corefile.listen_addresses, request.corefile.port, request.corefile_path)
    plan = _plan(request)
    if request.check or (not plan.outcome.changed and plan.record == plan.seen):
        return plan.outcome
    with Lock(os.path.join(request.run_dir, "dns.lock"), request.lock_seconds):
        if _read_record(request) != plan.seen:
            plan = _plan(request)  # another run came first
        _remove_leftovers(request.zone_dir)
        # The Corefile names the zones, so it comes after those that are new and before those that go.
        for path, content in plan.write.items():
            files.write_atomic(path, content, MODE)
        for path in plan.remove:
            files.remove(path)
        _copy(request, plan.record["files"])
        if plan.keep is not None:
            files.write_atomic(request.applied_path, plan.keep, 0o640)
        files.write_json(request.record_path, plan.record)
    return plan.outcome


def _copy(request: Request, paths: Iterable[str]) -> None:
    """Makes the copies those of these files, also where an earlier run was killed before it came to that."""
    copies = {request.copy_of(path): files.read_bytes(path) or b"" for path in paths}
    for stale in set(_zone_files(request.copies_dir)) - set(copies):
        files.remove(stale)
    for copy, content in copies.items():
        if files.read_bytes(copy) != content:
            files.write_atomic(copy, content, MODE)


def absent(request: Request) -> Outcome:
    """Takes away what this collection wrote; a file that does not begin with its note stays."""
    paths = [path for path in _zone_files(request.zone_dir) if _is_ours(path, dns_zonefile.NOTE)]
    if _is_ours(request.corefile_path, corefile.NOTE):
        paths.append(request.corefile_path)
    copies = [*_zone_files(request.copies_dir), os.path.join(request.copies_dir, "Corefile")]
    states = [path for path in (request.record_path, request.applied_path, *copies) if os.path.exists(path)]
    changed = bool(paths or states)
    if changed and not request.check:
        with Lock(os.path.join(request.run_dir, "dns.lock"), request.lock_seconds):
            _remove_leftovers(request.zone_dir)
            for path in [*paths, *states]:
                files.remove(path)
            with contextlib.suppress(OSError):
                os.rmdir(request.copies_dir)
    return Outcome(changed, request.corefile_path in paths, [], paths, [], [], {})


# ---------------------------------------------------------------------------------------------------------- preflight


def refuse_conflicts(addresses: Iterable[str], port: int, corefile_path: str) -> None:
    """Raises ``PreflightError`` if another program than our own CoreDNS has the port."""
    wanted = set(addresses)
    taken = [
        socket
        for socket in listeners.sockets({("UDP", port), ("TCP", port)})
        if socket.address in wanted
        or socket.address == "::"
        or (socket.address == "0.0.0.0" and any(":" not in address for address in wanted))
    ]
    owners = listeners.owners(socket.inode for socket in taken)
    problems = []
    for socket in taken:
        owner = owners.get(socket.inode, "a process that can't be seen from here")
        if not _is_our_server(owner, corefile_path):
            problems.append(
                f"{owner} listens on {socket.address} port {socket.port} ({socket.protocol}), where CoreDNS should."
                " Choose other listen_addresses, or have it listen on its own addresses only."
            )
    if problems:
        raise PreflightError(sorted(set(problems)))


def _is_our_server(owner: str, corefile_path: str) -> bool:
    process = re.search(r"\(process (\d+)\)\Z", owner)
    if process is None:
        return False
    return os.fsencode(corefile_path) in processes.arguments(int(process.group(1)))


# ----------------------------------------------------------------------------------------------------------- planning


def _plan(request: Request) -> _Plan:
    data = None
    if request.zones is not None:
        data = files.read_bytes(request.snapshot)
        if data is None:
            raise SnapshotError(f"There is no snapshot at {request.snapshot}: run the role cluster_snapshot first.")
    record = _read_record(request)
    made_of = _digest(repr((RECORD, request.zones, request.corefile, request.zone_dir)).encode() + (data or b""))
    if record.get("made_of") == made_of and _as_left(record):
        return _Plan(
            record, Outcome(False, False, [], [], [], record["warnings"], record["facts"]), {}, [], record, None
        )
    if request.zones is None or data is None:
        return _finish(request, record, _Drafts({}, [], [], {}, {}, [], {}), made_of, None)
    found = snapshot.load(data)
    _guard(request, found)
    return _finish(request, record, _draft_zones(request, request.zones, found, record), made_of, data)


class _Drafts(NamedTuple):
    """What becomes of the zones: ``write`` path -> text, ``left`` path -> digest of those that stay, ``serials`` by
    origin."""

    write: dict[str, bytes]
    sources: list[ZoneSource]
    changed: list[str]
    left: dict[str, str]
    serials: dict[str, int]
    differences: list[dns_changes.Difference]
    facts: dict[str, Any]
    warnings: tuple[str, ...] = ()


def _draft_zones(request: Request, options: DnsOptions, found: Snapshot, record: dict[str, Any]) -> _Drafts:
    made = dns.build(found, options)
    serials = record.get("serials", {})
    drafts = _Drafts({}, [], [], {}, {}, [], {}, tuple(str(problem) for problem in made.problems))
    for zone in made.zones:
        path = os.path.join(request.zone_dir, ZONE_PREFIX + zone.origin.rstrip("."))
        current = files.read_bytes(path)
        text = None if current is None else current.decode("utf-8", "replace")
        update = dns_zonefile.update(zone, text, serials.get(zone.origin, 0), request.now)
        drafts.sources.append(ZoneSource(zone.origin, path))
        drafts.serials[zone.origin] = update.serial
        if update.text is None:
            drafts.left[path] = _digest(current or b"")
        else:
            drafts.write[path] = update.text.encode()
            drafts.changed.append(zone.origin)
            drafts.differences.append(dns_changes.describe(options.domain, update.before, update.after))
    drafts.facts["digest"] = found.digest
    drafts.facts["records"] = sum(len(zone.records) for zone in made.zones)
    return drafts


def _finish(request: Request, seen: dict[str, Any], drafts: _Drafts, made_of: str, keep: bytes | None) -> _Plan:
    text = corefile.render(corefile.build(request.corefile._replace(zones=tuple(drafts.sources)))).encode()
    before = [line for difference in drafts.differences for line in difference.before]
    after = [line for difference in drafts.differences for line in difference.after]
    current = files.read_bytes(request.corefile_path)
    write = dict(drafts.write)
    if current != text:
        write[request.corefile_path] = text
        gone, come = _differing((current or b"").decode("utf-8", "replace"), text.decode())
        before, after = before + gone, after + come
    wanted = {source.path for source in drafts.sources}
    remove = [p for p in _zone_files(request.zone_dir) if p not in wanted and _is_ours(p, dns_zonefile.NOTE)]
    before += [f"zone file {path}" for path in remove]
    kept = {
        **drafts.facts,
        "zones": [source.origin for source in drafts.sources],
        "warnings_count": len(drafts.warnings),
        "records_added": 0,
        "records_removed": 0,
    }
    facts = {
        **kept,
        "records_added": sum(difference.added for difference in drafts.differences),
        "records_removed": sum(difference.removed for difference in drafts.differences),
    }
    warnings = _shortened(drafts.warnings)
    left = {**drafts.left, **{path: _digest(content) for path, content in write.items()}}
    record = {
        "made_of": made_of,
        "files": {**left, request.corefile_path: _digest(text)},
        "serials": drafts.serials,
        "warnings": warnings,
        "facts": kept,
    }
    outcome = Outcome(bool(write or remove), current != text, drafts.changed, before, after, warnings, facts)
    return _Plan(seen, outcome, write, remove, record, keep)


def _guard(request: Request, new: Snapshot) -> None:
    """Refuses a snapshot that lost too much against the one that is served."""
    data = files.read_bytes(request.applied_path)
    if data is not None:
        try:
            old = snapshot.load(data)
        except SnapshotError:
            return  # what we kept is broken, so there is nothing to compare with
        snapshot.guard(old, new, request.max_removed_percent)


def _shortened(warnings: tuple[str, ...]) -> list[str]:
    shown = list(warnings[:MOST_NAMED])
    if len(warnings) > MOST_NAMED:
        shown.append(f"And {len(warnings) - MOST_NAMED} more of that kind.")
    return shown


def _differing(before: str, after: str) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return (
        [f"Corefile: {line.strip()}" for line in old if line not in new],
        [f"Corefile: {line.strip()}" for line in new if line not in old],
    )


# -------------------------------------------------------------------------------------------------------------- files


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_record(request: Request) -> dict[str, Any]:
    value = files.read_json(request.record_path).value
    return value if isinstance(value, dict) else {}


def _as_left(record: dict[str, Any]) -> bool:
    """Are all files as the last run left them?"""
    return all(digest == _digest(files.read_bytes(path) or b"") for path, digest in record.get("files", {}).items())


def _zone_files(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(os.path.join(directory, name) for name in names if name.startswith(ZONE_PREFIX))


def _remove_leftovers(directory: str) -> None:
    """Temporary files of runs that were killed."""
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            if name.startswith(f".{ZONE_PREFIX}"):
                files.remove(os.path.join(directory, name))


def _is_ours(path: str, note: str) -> bool:
    return (files.read_bytes(path) or b"").startswith(note.encode())

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happened in an API server since a list was read: one short watch a list, all side by side.

An API server answers a watch at once and then writes what happened since the resource version, from its cache. If
nothing did, it holds the connection open. So the watches are over when each of them was answered and nothing more came
for a moment. What the server hands out later than that is seen by the next watch, which begins at the same version.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .client import Client, ClusterError
from .lists import version_now, wanted_lists
from .resources import Resource

# How long nothing may come after the last of the answers.
QUIET_SECONDS = 0.25
# For a server that never falls silent; it ends the watch itself.
SERVER_SECONDS = 5
# Past this many events a list is as quick.
MOST_EVENTS = 500


class Event(NamedTuple):
    """One object that was added, modified or deleted; ``raw`` has its kind."""

    deleted: bool
    raw: dict[str, Any]


class Watched(NamedTuple):
    """The events of all lists, and the resource version that each list, by its name, stands for now."""

    events: list[Event]
    versions: dict[str, str]


class _Stream:
    """The events of one list so far."""

    def __init__(self, resource: Resource, version: str) -> None:
        self.resource = resource
        self.version = version
        self.events: list[Event] = []
        self.rest = b""

    def take(self, data: bytes) -> bool:
        """Reads what came; False if it can't be gone on with and the list has to be read."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        return all(self._take_line(line) for line in lines if line)

    def _take_line(self, line: bytes) -> bool:
        try:
            event = json.loads(line)
            what, raw = event["type"], event["object"]
            version = raw["metadata"]["resourceVersion"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return False  # an ERROR is a Status without a version; mostly 410, the version is too old
        if what not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(version, str):
            return False
        self.version = version
        if what != "BOOKMARK":
            raw["kind"] = self.resource.kind
            self.events.append(Event(what == "DELETED", raw))
        return len(self.events) <= MOST_EVENTS


def watch(
    client: Client, namespaces: Sequence[str], pods: bool, versions: Mapping[str, str], quiet: float = QUIET_SECONDS
) -> Watched | None:
    """What happened since the lists of these versions were read.

    :returns: None if the lists have to be read: a version is missing, too old (410) or still to come, or a server
        can't be watched.
    :raises ClusterError: the server can't be reached.
    """
    lists = wanted_lists(namespaces, pods)
    if {name for name, _resource, _namespace in lists} != set(versions):
        return None
    if not all(versions[name] or resource.optional for name, resource, _namespace in lists):
        return None  # a proxy left them out: of such a list nobody could tell what happened since
    try:
        if _is_set_back(client, lists, versions):
            return None
    except ClusterError as wrong:
        if wrong.unreachable:
            raise
        return None
    streams = {name: _Stream(resource, versions[name]) for name, resource, _namespace in lists}
    # An API that is not served has no version, and nothing that could happen.
    running = {name for name in streams if versions[name]}
    said: queue.Queue[tuple[str, bytes | BaseException | None]] = queue.Queue()
    for name, resource, namespace in lists:
        if name in running:
            # Daemons: a thread that waits for a silent server must not keep the process.
            threading.Thread(
                target=_listen, args=(client, name, resource, namespace, versions[name], said), daemon=True
            ).start()
    unanswered = set(running)
    while running:
        try:
            name, what = said.get(timeout=None if unanswered else quiet)
        except queue.Empty:
            break
        if isinstance(what, ClusterError) and what.unreachable:
            raise what
        if isinstance(what, BaseException) or (what and not streams[name].take(what)):
            return None
        unanswered.discard(name)
        if what is None:
            running.discard(name)
    if any(stream.rest for stream in streams.values()):
        return None
    return Watched(
        [event for stream in streams.values() for event in stream.events],
        {name: stream.version for name, stream in streams.items()},
    )


def _is_set_back(client: Client, lists: Sequence[tuple[str, Resource, str]], versions: Mapping[str, str]) -> bool:
    """Is the latest of the versions still to come? So it is after a backup of the server's store was put back, and a
    watch from there on says nothing of what happened meanwhile. Raises ``ClusterError``."""
    known = [(int(versions[name]), place) for place, (name, _r, _n) in enumerate(lists) if versions[name].isdecimal()]
    if not known:
        return False
    latest, place = max(known)
    _name, resource, namespace = lists[place]
    now = version_now(client, resource, namespace)
    return not now.isdecimal() or int(now) < latest


def _listen(
    client: Client,
    name: str,
    resource: Resource,
    namespace: str,
    version: str,
    said: queue.Queue[tuple[str, bytes | BaseException | None]],
) -> None:
    """Hands on what a server says: first b"" for its answer, in the end None or what went wrong."""
    try:
        for data in client.watch(resource, namespace, version, SERVER_SECONDS):
            said.put((name, data))
        said.put((name, None))
    except Exception as failed:  # noqa: BLE001 - whatever it is, the other thread decides what it means
        said.put((name, failed))

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster as the source of a snapshot: by a watch if it shows that nothing changed, else by lists, and if the API
server is down by what was read last.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.objects import object_key
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot import Snapshot

from . import connection, lists, relevance, stored, watches
from .client import Client, ClusterError

LIST, WATCH, KEPT = "list", "watch", "kept"


class Wanted(NamedTuple):
    """What is read, and what is known. ``choose``: see relevance; ``asked``: the options that decide what gets into a
    snapshot, as plain data. ``old``: the snapshot at ``dest``. ``keep``: it will do if the API server is down."""

    auth: connection.Options
    dest: str
    namespaces: Sequence[str]
    pods: bool
    page_size: int
    choose: relevance.Choose
    asked: dict[str, Any]
    old: Snapshot | None
    keep: bool


class Found(NamedTuple):
    """What was found: ``objects`` of lists, or that the old snapshot stands. ``by`` is LIST, WATCH or KEPT, ``reason``
    why it was kept; ``read``: of when it is; ``refused``: what was refused when the lists were read."""

    by: str
    objects: Iterator[Mapping[str, Any]] | None
    versions: dict[str, str]
    read: float
    server: str
    refused: list[ObjectError]
    reason: str = ""


def find(wanted: Wanted, refused: list[ObjectError]) -> Found:
    """Reads the cluster; raises ``ClusterError``.

    :param refused: objects of lists that are none are appended to it, while they are read.
    """
    client = connection.connect(wanted.auth)
    note = stored.read_note(wanted.dest)
    try:
        unchanged = _by_watch(client, wanted, note) if wanted.old is not None else None
        return unchanged or _by_lists(client, wanted, refused)
    except ClusterError as wrong:
        if not (wrong.unreachable and wanted.keep and wanted.old is not None):
            raise
        read = stored.read_time(wanted.dest)
        server = _server_of(note) or client.server
        return Found(KEPT, None, _versions_of(note), read, server, _refused_of(note), str(wrong))


def note_of(found: Found, digest: str, asked: dict[str, Any], refused: Sequence[ObjectError]) -> dict[str, Any]:
    """What is noted beside the snapshot, for ``find`` the next time and for people."""
    return {
        "source": details_of(found),
        "read": found.read,
        "digest": digest,
        "resource_versions": found.versions,
        "asked": asked,
        "refused": [[wrong.kind, wrong.key, wrong.reason] for wrong in refused],
    }


def details_of(found: Found) -> dict[str, Any]:
    """Where it comes from."""
    return {"type": "cluster", "server": found.server}


def _by_lists(client: Client, wanted: Wanted, refused: list[ObjectError]) -> Found:
    read = time.time()
    found = lists.read_cluster(client, wanted.namespaces, wanted.pods, wanted.page_size)
    objects = (raw for listed in found for raw in lists.objects_of(listed, client.server, refused))
    return Found(LIST, objects, {one.name: one.resource_version for one in found}, read, client.server, [])


def _by_watch(client: Client, wanted: Wanted, note: Mapping[str, Any]) -> Found | None:
    """The old snapshot, if it is of this server, made by the same options, and nothing that it holds changed."""
    old = wanted.old
    if old is None or note.get("digest") != old.digest or note.get("asked") != wanted.asked:
        return None
    if _server_of(note) != client.server:
        return None
    read = time.time()
    found = watches.watch(client, wanted.namespaces, wanted.pods, _versions_of(note))
    if found is None or relevance.changes_anything(found.events, old, wanted.choose):
        return None
    refused = _refused_of(note)
    left_out = {(wrong.kind, wrong.key) for wrong in refused}
    if any((event.raw["kind"], object_key(event.raw)) in left_out for event in found.events):
        return None  # it is gone, or no longer broken, or in another way
    return Found(WATCH, None, found.versions, read, client.server, refused)


def _server_of(note: Mapping[str, Any]) -> str:
    source = note.get("source")
    return str(source.get("server", "")) if isinstance(source, Mapping) else ""


def _versions_of(note: Mapping[str, Any]) -> dict[str, str]:
    versions = note.get("resource_versions")
    return {str(name): str(one) for name, one in versions.items()} if isinstance(versions, Mapping) else {}


def _refused_of(note: Mapping[str, Any]) -> list[ObjectError]:
    refused = note.get("refused")
    rows = refused if isinstance(refused, list) else []
    return [ObjectError(*map(str, row)) for row in rows if isinstance(row, list) and len(row) == 3]

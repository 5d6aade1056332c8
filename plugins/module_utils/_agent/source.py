# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a node gets a snapshot by itself: from the API server, or from a URL.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
import time
from typing import NamedTuple

from .._cluster import lists
from .._cluster.client import Answer, Client, ClusterError, ConnectionFailedError
from .._core import snapshot
from .._core.errors import ObjectError, OptionError, SnapshotError
from .._core.snapshot import Snapshot
from .._core.snapshot_build import build_snapshot
from .._node import files
from .config import Config
from .transport import HttpTransport, shown

_UNREACHABLE = (0, 408, 429)
# Longer than that no answer to a request that asks for nothing takes.
REACH_SECONDS = 5


class UnreachableError(OptionError):
    """The source gives nothing at the moment; the rules that are in force stay."""


class Fetched(NamedTuple):
    """``snapshot`` None: it is the one that the node has. ``etag`` is for the next time."""

    snapshot: Snapshot | None
    refused: list[ObjectError]
    etag: str = ""


def fetch(config: Config, etag: str = "") -> Fetched:
    """The newest snapshot; raises ``UnreachableError`` where waiting may help, else another ``ServicenetError``."""
    return _from_cluster(config) if config.source == "cluster" else _from_url(config, etag)


def reach(config: Config) -> None:
    """Opens a new connection to the source and has it answer anything; raises ``ServicenetError`` if it does not."""
    try:
        answer = HttpTransport(_place(config), "", config.ca_cert, min(config.timeout, REACH_SECONDS))(
            "GET", "", {}, {}, None
        )
    except ConnectionFailedError as failed:
        raise UnreachableError(f"{shown(_place(config))} {failed}.") from None
    if answer.status >= 500:
        raise UnreachableError(f"{shown(_place(config))} answers {answer.status}.")


def _place(config: Config) -> str:
    return config.server if config.source == "cluster" else config.url


def _from_cluster(config: Config) -> Fetched:
    if not config.server:
        raise OptionError("No server is set: run the role service_resync with service_resync_method pull.")
    token = files.read_bytes(config.token_file) if config.token_file else b""
    if token is None:
        raise OptionError(f"There is no token at {config.token_file}.")
    transport = HttpTransport(config.server, token.decode("ascii", "replace").strip(), config.ca_cert, config.timeout)
    client = Client(transport, config.server, time.sleep)
    refused: list[ObjectError] = []
    try:
        listed = lists.read_cluster(client, config.namespaces, False, config.page_size)
    except ClusterError as wrong:
        if wrong.status in _UNREACHABLE or wrong.status >= 500:
            raise UnreachableError(str(wrong)) from None
        raise
    made = build_snapshot(raw for one in listed for raw in lists.objects_of(one, config.server, refused))
    return Fetched(made, [*refused, *made.refused])


def _from_url(config: Config, etag: str) -> Fetched:
    if not config.url:
        raise OptionError("No url is set: run the role service_resync with service_resync_method pull.")
    answer = _get(config, config.url, {"If-None-Match": etag} if etag else {})
    if answer.status == 304:
        return Fetched(None, [], etag)
    if config.checksum_url:
        said = _get(config, config.checksum_url, {}).data.split()
        if not said or said[0].decode("ascii", "replace").lower() != hashlib.sha256(answer.data).hexdigest():
            places = shown(config.url), shown(config.checksum_url)
            raise SnapshotError(f"What {places[0]} gave does not match {places[1]}: it is refused.")
    return Fetched(snapshot.load(answer.data), [], answer.headers.get("etag", ""))


def _get(config: Config, url: str, headers: dict[str, str]) -> Answer:
    try:
        answer = HttpTransport(url, "", config.ca_cert, config.timeout)("GET", "", {}, headers, None)
    except ConnectionFailedError as failed:
        raise UnreachableError(f"{shown(url)} {failed}.") from None
    if answer.status >= 500 or answer.status in _UNREACHABLE:
        raise UnreachableError(f"{shown(url)} answers {answer.status}.")
    if answer.status not in (200, 304):
        raise SnapshotError(f"{shown(url)} answers {answer.status}, and not with a snapshot.")
    return answer

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carries out the plan of the endpoints controller: side by side for Services, in order within one.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_records import ENDPOINTS, SLICE, Change

from .client import Client, ClusterError
from .resources import ENDPOINT_SLICES
from .resources import ENDPOINTS as ENDPOINTS_RESOURCE

NOT_FOUND = 404
CONFLICT = 409
# What every further write would be told as well, as a rule.
_HOPELESS = (401, 403)
_NAMESPACE_ENDS = "NamespaceTerminating"
# So speak quotas, webhooks and policies, whose 403 is meant for one object and is no missing right.
_ABOUT_ONE_OBJECT = ("exceeded quota", "denied the request", "denied request")

_RESOURCES = {SLICE: ENDPOINT_SLICES, ENDPOINTS: ENDPOINTS_RESOURCE}


class Failure(NamedTuple):
    """A write that the API server did not do, or of which nobody knows."""

    change: Change
    error: ClusterError

    @property
    def stale(self) -> bool:
        """Whether the object is not as it was read, so that reading again helps."""
        # Where nothing can be created, the namespace is gone, and with it what asked for it.
        return self.error.status in (NOT_FOUND, CONFLICT)

    @property
    def passing(self) -> bool:
        """Whether the same may succeed later, or has succeeded without our knowing."""
        return self.error.status == 0 or self.error.status >= 500

    @property
    def hopeless(self) -> bool:
        """Whether every further write would be told the same."""
        said = str(self.error)
        return self.error.status == 0 or (
            self.error.status in _HOPELESS and not any(words in said for words in _ABOUT_ONE_OBJECT)
        )

    @property
    def text(self) -> str:
        """What failed, with the name of the object."""
        change = self.change
        return f"{change.action} {change.kind} {change.namespace}/{change.name}: {self.error}"


class Outcome(NamedTuple):
    """What became of a plan."""

    done: list[Change]
    failures: list[Failure]


def write_changes(
    client: Client, changes: Sequence[Change], workers: int, progress: Callable[[int, int], None]
) -> Outcome:
    """Carry out changes; a Service whose write fails gets no further one, nor one whose namespace is being deleted.

    :param changes: those of one Service in their order, one after another.
    :param workers: how many Services are written at a time.
    :param progress: is told (writes done, all writes).
    """
    return _Writer(client, len(changes), progress).run(changes, workers)


class _Writer:
    def __init__(self, client: Client, total: int, progress: Callable[[int, int], None]) -> None:
        self._client = client
        self._total = total
        self._progress = progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._outcome = Outcome([], [])

    def run(self, changes: Sequence[Change], workers: int) -> Outcome:
        groups = [list(group) for _key, group in groupby(changes, key=lambda each: (each.namespace, each.service))]
        with ThreadPoolExecutor(max_workers=max(1, workers)) as threads:
            for job in [threads.submit(self._write_service, group) for group in groups]:
                job.result()
        # As they were planned, whoever was written first: the same pass tells the same each time.
        places = {id(change): place for place, change in enumerate(changes)}
        self._outcome.done.sort(key=lambda change: places[id(change)])
        return self._outcome

    def _write_service(self, changes: list[Change]) -> None:
        for change in changes:
            if self._stop.is_set():
                return
            try:
                _write(self._client, change)
            except ClusterError as error:
                if _NAMESPACE_ENDS in error.causes:
                    # Nobody may create anything there any more, and what is there goes without us.
                    return
                failure = Failure(change, error)
                with self._lock:
                    self._outcome.failures.append(failure)
                if failure.hopeless:
                    self._stop.set()
                return
            with self._lock:
                self._outcome.done.append(change)
                self._progress(len(self._outcome.done), self._total)


def _write(client: Client, change: Change) -> None:
    resource = _RESOURCES[change.kind]
    if change.action == "create":
        client.request("create", resource, change.namespace, body=change.after)
    elif change.action == "update":
        # Its metadata still has the resourceVersion that was read: whoever wrote in between is not overwritten.
        client.request("update", resource, change.namespace, change.name, body=change.after)
    else:
        meta: dict[str, Any] = (change.before or {}).get("metadata", {})
        expected = {name: meta[name] for name in ("uid", "resourceVersion") if meta.get(name)}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": expected}
        client.request("delete", resource, change.namespace, change.name, body=body)

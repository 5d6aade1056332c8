# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole lists of an API server, page by page and side by side.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError

from .client import Client, ClusterError
from .resources import PODS, SNAPSHOT, Resource

GONE = 410
NOT_FOUND = 404
RESTARTS = 3


class Listed(NamedTuple):
    """A whole list: the pages as they came, and the resource version it stands for ("" where the API is not served)."""

    resource: Resource
    namespace: str
    pages: list[bytes]
    resource_version: str

    @property
    def name(self) -> str:
        """The resource, in a namespace if it was listed there: services, or shop/services."""
        return _name(self.resource, self.namespace)


def wanted_lists(namespaces: Sequence[str], pods: bool) -> list[tuple[str, Resource, str]]:
    """The lists of a snapshot in the order of the resources: name, resource and namespace of each."""
    return [
        (_name(resource, namespace), resource, namespace)
        for resource in SNAPSHOT + ((PODS,) if pods else ())
        for namespace in (namespaces if namespaces and resource.namespaced else ("",))
    ]


def _name(resource: Resource, namespace: str) -> str:
    return f"{namespace}/{resource.plural}" if namespace else resource.plural


def read_cluster(client: Client, namespaces: Sequence[str], pods: bool, page_size: int) -> list[Listed]:
    """Reads all lists of a snapshot, in the order of the resources; raises ``ClusterError`` with all that is wrong."""
    wanted = wanted_lists(namespaces, pods)
    threads = ThreadPoolExecutor(max_workers=min(len(wanted), 8))
    try:
        running = [threads.submit(read_list, client, resource, space, page_size) for _name, resource, space in wanted]
        errors = [wrong for wrong in (job.exception() for job in running) if wrong is not None]
    finally:
        # A run that its time limit ends does not wait for a server that says nothing.
        threads.shutdown(wait=False)
    for wrong in errors:
        if not isinstance(wrong, ClusterError):
            raise wrong
    if errors:
        # The same sentence for each list (no connection, wrong token) is said once, a missing right for each resource.
        said = " ".join(dict.fromkeys(str(wrong) for wrong in errors))
        unreachable = all(isinstance(wrong, ClusterError) and wrong.unreachable for wrong in errors)
        raise ClusterError(said, getattr(errors[0], "status", 0), unreachable)
    return [job.result() for job in running]


def read_list(client: Client, resource: Resource, namespace: str, page_size: int) -> Listed:
    """Reads one list. Its pages stay bytes until it is whole, because a lapsed continue token starts it again."""
    # A list in one piece can't lapse: the last resort if the objects change faster than pages are fetched.
    for limit in [page_size] * (RESTARTS + 1) + [0]:
        listed = _read_pages(client, resource, namespace, limit)
        if listed is not None:
            return listed
    raise ClusterError(f"The list of {resource.shown} lapsed again and again while it was read.", GONE)


def version_now(client: Client, resource: Resource, namespace: str) -> str:
    """The resource version that the whole list would stand for, by a list of one object; "" if there is none."""
    page = client.request("list", resource, namespace, query={"limit": "1"})
    return str(_list_metadata(page, client, resource).get("resourceVersion") or "")


def _read_pages(client: Client, resource: Resource, namespace: str, page_size: int) -> Listed | None:
    """One try to read a list; None if its continue token has become too old."""
    pages: list[bytes] = []
    token, version = "", ""
    while True:
        query = {"limit": str(page_size)} if page_size else {}
        if token:
            query["continue"] = token
        try:
            page = client.request("list", resource, namespace, query=query)
        except ClusterError as wrong:
            if wrong.status == GONE and token:
                return None
            if wrong.status == NOT_FOUND and resource.optional:
                return Listed(resource, namespace, [], "")
            raise
        metadata = _list_metadata(page, client, resource)
        pages.append(page)
        before, token = token, metadata.get("continue") or ""
        version = metadata.get("resourceVersion") or version
        if not token:
            return Listed(resource, namespace, pages, version)
        if token == before:
            raise ClusterError(
                f"The API server {client.server} gives the same page of {resource.shown} again and again."
            )


def _list_metadata(page: bytes, client: Client, resource: Resource) -> dict[str, Any]:
    """The metadata of a list. API servers write it before the items, so the items needn't be parsed here."""
    head = page.partition(b'"items"')[0].rstrip().rstrip(b",") + b"}"
    for text in (head, page):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        metadata = found.get("metadata") if isinstance(found, dict) else None
        if isinstance(metadata, dict):
            return metadata
    raise _no_list(client.server, resource)


def _no_list(server: str, resource: Resource) -> ClusterError:
    return ClusterError(
        f"The API server {server} answers to list {resource.shown} with something that is no list of them."
    )


def objects_of(listed: Listed, server: str, refused: list[ObjectError]) -> Iterator[dict[str, Any]]:
    """The objects of a list, each with its kind. The pages are given up one by one: only one is held parsed."""
    pages = listed.pages
    pages.reverse()
    while pages:
        try:
            page = json.loads(pages.pop())
        except (ValueError, RecursionError):
            raise _no_list(server, listed.resource) from None
        # An empty list has its items, too; without them it is something else, and not the news that all is gone.
        items = page.get("items", ()) if isinstance(page, dict) else ()
        if items is not None and not isinstance(items, list):
            raise _no_list(server, listed.resource)
        for item in items or ():
            if not isinstance(item, dict):
                refused.append(ObjectError(listed.resource.kind, "(without metadata)", "is not an object"))
                continue
            item["kind"] = listed.resource.kind
            metadata = item.get("metadata")
            if isinstance(metadata, dict):
                # Half the size of an object, and of no use here.
                metadata.pop("managedFields", None)
            yield item

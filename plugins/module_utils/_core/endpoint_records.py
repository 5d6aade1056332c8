# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The EndpointSlice and Endpoints objects themselves: metadata, names, owners, and whether a write is needed.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Mapping, NamedTuple

from .endpoint_mirroring import mirrored_annotations
from .endpoint_objects import (
    ENDPOINTS_MANAGED_BY,
    HEADLESS,
    OVER_CAPACITY,
    SERVICE_NAME,
    SLICE_MANAGED_BY,
    TRIGGER_TIME,
    Object,
    Service,
    annotations_of,
    labels_of,
)
from .endpoint_pods import ports_key
from .endpoint_slicing import DraftSlice
from .endpoint_subsets import same_subsets

SLICE = "EndpointSlice"
ENDPOINTS = "Endpoints"

_RESERVED = (SERVICE_NAME, SLICE_MANAGED_BY, HEADLESS)


class Change(NamedTuple):
    """One write.

    :param action: create, update or delete.
    :param kind: EndpointSlice or Endpoints.
    :param service: the name of the Service that it belongs to, in the same namespace.
    :param before: the object as it was read; None for a new one.
    :param after: the object to be written; None for a deletion.
    """

    action: str
    kind: str
    namespace: str
    name: str
    service: str
    before: Object | None
    after: Object | None

    @classmethod
    def write(cls, kind: str, before: Object | None, after: Object, service: str) -> Change:
        """A creation or an update."""
        meta = after["metadata"]
        action = "create" if before is None else "update"
        return cls(action, kind, meta["namespace"], meta["name"], service, before, after)

    @classmethod
    def delete(cls, kind: str, item: Object, service: str) -> Change:
        """A deletion."""
        meta = item["metadata"]
        return cls("delete", kind, meta.get("namespace") or "default", meta["name"], service, item, None)


class Names:
    """Names for new slices: always the same for the same cluster, never one that is taken."""

    def __init__(self) -> None:
        self._taken: dict[str, set[str]] = {}

    def take(self, namespace: str, name: str) -> None:
        """Mark a name as taken."""
        self._taken.setdefault(namespace, set()).add(name)

    def new(self, namespace: str, service: str, seed: str) -> str:
        """A free name; `seed` tells apart what a Service has several of."""
        taken = self._taken.setdefault(namespace, set())
        number = 0
        while True:
            digest = sha256(f"{namespace}/{service}/{seed}/{number}".encode()).hexdigest()[:10]
            name = f"{service}-{digest}"
            if name not in taken:
                taken.add(name)
                return name
            number += 1


def slice_labels(service: Service, manager: str) -> dict[str, str]:
    """The labels of a slice: the Service's own, and the reserved ones."""
    labels = {name: value for name, value in service.labels.items() if name not in _RESERVED}
    if service.headless:
        labels[HEADLESS] = ""
    labels[SERVICE_NAME] = service.name
    labels[SLICE_MANAGED_BY] = manager
    return labels


def _owner(kind: str, name: str, uid: str) -> Object:
    """An owner reference; objects of a manifest have no UID."""
    made: Object = {"apiVersion": "v1", "kind": kind, "name": name, "controller": True, "blockOwnerDeletion": True}
    if uid:
        made["uid"] = uid
    return made


def owned_by(item: Object, service: Service) -> bool:
    """Whether a slice belongs to this very Service, not to one of the same name before it."""
    return any(
        owner.get("kind") == "Service" and owner.get("name") == service.name and (owner.get("uid") or "") == service.uid
        for owner in item["metadata"].get("ownerReferences") or ()
    )


def _with_time(annotations: Mapping[str, str], trigger_time: str) -> dict[str, str]:
    """Annotations of an object that is written."""
    made = {name: value for name, value in annotations.items() if name != TRIGGER_TIME}
    if trigger_time:
        made[TRIGGER_TIME] = trigger_time
    return made


def _write_slice(
    draft: DraftSlice, namespace: str, service: str, metadata: Object, annotations: Mapping[str, str], names: Names
) -> Change:
    """The write of a draft; `metadata` holds labels and, where they are ours to set, owners."""
    before = draft.current
    meta: Object = dict(before["metadata"]) if before else {}
    meta.update(metadata, namespace=namespace)
    meta.pop("annotations", None)
    if annotations:
        meta["annotations"] = dict(annotations)
    if before is None:
        meta["name"] = names.new(namespace, service, f"{draft.family}/{ports_key(draft.ports)}")
    after: Object = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": SLICE,
        "metadata": meta,
        "addressType": draft.family,
        "ports": draft.ports,
        "endpoints": draft.endpoints,
    }
    return Change.write(SLICE, before, after, service)


def slice_change(
    service: Service, draft: DraftSlice, labels: dict[str, str], names: Names, trigger_time: str
) -> Change | None:
    """The write that a slice of a Service with a selector needs, if any."""
    current = draft.current
    if current is None:
        if service.deleting:
            return None
        metadata = {"labels": labels, "ownerReferences": [_owner("Service", service.name, service.uid)]}
        return _write_slice(draft, service.namespace, service.name, metadata, _with_time({}, trigger_time), names)
    if _same_content(draft, current) and labels_of(current) == labels:
        return None
    annotations = _with_time(annotations_of(current), trigger_time)
    return _write_slice(draft, service.namespace, service.name, {"labels": labels}, annotations, names)


def _same_content(draft: DraftSlice, current: Object) -> bool:
    return draft.endpoints == (current.get("endpoints") or []) and ports_key(draft.ports) == ports_key(
        current.get("ports") or ()
    )


def mirror_change(endpoints: Object, draft: DraftSlice, manager: str, names: Names, trigger_time: str) -> Change | None:
    """The write that a mirrored slice needs, if any."""
    meta = endpoints["metadata"]
    labels = dict(labels_of(endpoints))
    labels.update({SERVICE_NAME: meta["name"], SLICE_MANAGED_BY: manager})
    owners: list[Object] = [_owner("Endpoints", meta["name"], meta.get("uid") or "")]
    annotations = mirrored_annotations(endpoints)
    current = draft.current
    if (
        current is not None
        and _same_content(draft, current)
        and labels_of(current) == labels
        and current["metadata"].get("ownerReferences") == owners
        and _with_time(annotations_of(current), "") == annotations
    ):
        return None
    metadata = {"labels": labels, "ownerReferences": owners}
    namespace = meta.get("namespace") or "default"
    return _write_slice(draft, namespace, meta["name"], metadata, _with_time(annotations, trigger_time), names)


def endpoints_change(
    service: Service, current: Object | None, subsets: list[Object], truncated: bool, manager: str, trigger_time: str
) -> Change | None:
    """The write that the Endpoints of a Service with a selector need, if any."""
    labels = {name: value for name, value in service.labels.items() if name != HEADLESS}
    if service.headless:
        labels[HEADLESS] = ""
    labels[ENDPOINTS_MANAGED_BY] = manager
    before = annotations_of(current) if current else {}
    annotations = {name: value for name, value in before.items() if name != OVER_CAPACITY}
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    if current is None:
        if service.deleting:
            return None
        meta: Object = {"namespace": service.namespace, "name": service.name}
    else:
        same = labels_of(current) == labels and before.get(OVER_CAPACITY) == annotations.get(OVER_CAPACITY)
        if same and same_subsets(current.get("subsets") or (), subsets):
            return None
        meta = dict(current["metadata"], namespace=service.namespace)
    meta["labels"] = labels
    meta.pop("annotations", None)
    annotations = _with_time(annotations, trigger_time)
    if annotations:
        meta["annotations"] = annotations
    after: Object = {"apiVersion": "v1", "kind": ENDPOINTS, "metadata": meta}
    if subsets:
        after["subsets"] = subsets
    return Change.write(ENDPOINTS, current, after, service.name)

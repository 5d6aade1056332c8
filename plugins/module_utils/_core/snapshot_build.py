# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A snapshot made of a cluster's objects, wherever they come from: whoever only reads snapshots does without this file.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import model, objects, slices
from .endpoint_checks import check_endpoints
from .endpoint_mirroring import mirror, wants_mirror
from .errors import ObjectError
from .snapshot import Snapshot, name_of, of_lines


def build_snapshot(listed: Iterable[Mapping[str, Any]]) -> Snapshot:
    """Makes a snapshot of raw Kubernetes objects of the kinds Node, Namespace, Service, EndpointSlice, Endpoints,
    ServiceCIDR and Pod, in any order; other kinds are passed over. What is broken is refused one by one.

    Endpoints count for a Service that has no slices, as the endpoints mirroring controller would mirror them.
    """
    gathered = _Gathered()
    for raw in listed:
        gathered.add(raw)
    return gathered.snapshot()


_PLAIN: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Node": lambda raw: model.node_json(model.read_node(raw)),
    "Namespace": lambda raw: {"kind": "Namespace", "metadata": {"name": model.read_namespace(raw)}},
    "Pod": lambda raw: model.pod_json(model.read_pod(raw)),
    "ServiceCIDR": lambda raw: model.service_cidr_json(model.read_service_cidr(raw)),
}

_check_endpoints = objects.reader("Endpoints", check_endpoints)


class _Gathered:
    """The objects by name, until all are there."""

    def __init__(self) -> None:
        self.services: dict[str, Mapping[str, Any]] = {}
        self.slices: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.endpoints: dict[str, Mapping[str, Any]] = {}
        self.lines: dict[tuple[str, str], bytes] = {}
        self.refused: list[ObjectError] = []

    def add(self, raw: Mapping[str, Any]) -> None:
        kind = raw.get("kind") if isinstance(raw, Mapping) else None
        try:
            if kind == "Service":
                self._once(self.services, "Service", raw)
            elif kind == "Endpoints":
                self._once(self.endpoints, "Endpoints", raw)
            elif kind == "EndpointSlice":
                self._add_slice(raw)
            elif isinstance(kind, str) and kind in _PLAIN:
                self._add_plain(kind, raw)
        except ObjectError as wrong:
            self.refused.append(wrong)

    def _once(self, known: dict[str, Mapping[str, Any]], kind: str, raw: Mapping[str, Any]) -> None:
        key = _namespaced_key(raw)
        if key in known:
            raise ObjectError(kind, key, "is there twice; the first one is used")
        known[key] = raw

    def _add_slice(self, raw: Mapping[str, Any]) -> None:
        metadata = raw.get("metadata")
        labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
        service = labels.get(model.SERVICE_NAME_LABEL) if isinstance(labels, Mapping) else None
        if raw.get("addressType") == "FQDN" or not isinstance(service, str) or not isinstance(metadata, Mapping):
            return  # no proxy and no DNS server uses it
        piece = slices.slice_json(slices.read_slice(raw))
        key = f"{metadata.get('namespace') or 'default'}/{service}"
        self.slices.setdefault(key, []).append((piece["metadata"]["name"], piece))

    def _add_plain(self, kind: str, raw: Mapping[str, Any]) -> None:
        made = _PLAIN[kind](raw)
        line = _line(made)
        if (kind, name_of(line)) in self.lines:
            raise ObjectError(kind, name_of(line), "is there twice; the first one is used")
        self.lines[kind, name_of(line)] = line

    def snapshot(self) -> Snapshot:
        for key, raw in self.services.items():
            try:
                self.lines["Service", key] = self._service_line(key, raw)
            except ObjectError as wrong:
                self.refused.append(wrong)
        refused = sorted(self.refused, key=lambda wrong: (wrong.kind, wrong.key, wrong.reason))
        return of_lines(self.lines.values(), tuple(refused))

    def _service_line(self, key: str, raw: Mapping[str, Any]) -> bytes:
        pieces = {}
        for name, piece in self.slices.get(key, ()):
            if name in pieces:
                self.refused.append(
                    ObjectError("EndpointSlice", f"{key.split('/', maxsplit=1)[0]}/{name}", "is there twice")
                )
            else:
                pieces[name] = piece
        own = [pieces[name] for name in sorted(pieces)] or self._mirrored(key)
        # A Service's own field of that name is none of Kubernetes': only slices that were read above may get in.
        return _line(model.service_json(model.read_service({**raw, "endpointSlices": own})))

    def _mirrored(self, key: str) -> list[dict[str, Any]]:
        raw = self.endpoints.get(key)
        if raw is None:
            return []
        try:
            _check_endpoints(raw)
            if not wants_mirror(dict(raw)):
                return []
            slicing, problems = mirror(dict(raw), ())
        except ObjectError as wrong:
            self.refused.append(wrong)
            return []
        self.refused += [ObjectError("Endpoints", key, problem) for problem in problems]
        name, found = key.split("/", maxsplit=1)[1], []
        for number, draft in enumerate(slicing.kept):
            piece = {
                "metadata": {"name": f"{name}-{number}-{draft.family.lower()}"},
                "addressType": draft.family,
                "ports": draft.ports,
                "endpoints": draft.endpoints,
            }
            try:
                found.append(slices.slice_json(slices.read_slice(piece)))
            except ObjectError as wrong:
                self.refused.append(ObjectError("Endpoints", key, wrong.reason))
        return found


def _namespaced_key(raw: Mapping[str, Any]) -> str:
    metadata = raw.get("metadata")
    if isinstance(metadata, Mapping) and not metadata.get("namespace"):
        return f"default/{objects.object_key(raw)}"
    return objects.object_key(raw)


def _line(made: dict[str, Any]) -> bytes:
    return json.dumps(made, separators=(",", ":")).encode()

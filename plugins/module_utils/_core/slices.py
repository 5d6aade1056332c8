# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""EndpointSlices, read from Kubernetes JSON, checked, cut to what is used, and written canonically.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import values
from .objects import filled, metadata, reader
from .values import Broken

HEADLESS_LABEL = "service.kubernetes.io/headless"

MAX_PORTS = 1000
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_ENTRIES = 10000


class SlicePort(NamedTuple):
    """A port of an EndpointSlice; ``port`` 0 is "all ports", which no proxy serves."""

    name: str
    protocol: str
    port: int


class Endpoint(NamedTuple):
    """An endpoint; ``addresses`` is never empty, the first one takes the Service's traffic. Hints () are none."""

    addresses: tuple[str, ...]
    ready: bool
    serving: bool
    terminating: bool
    node: str
    zone_hints: tuple[str, ...]
    node_hints: tuple[str, ...]
    hostname: str
    target: str


class EndpointSlice(NamedTuple):
    """An EndpointSlice of ``family`` 4 or 6. A ``hidden`` one (label service.kubernetes.io/headless) is for DNS."""

    name: str
    family: int
    hidden: bool
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]


def _conditions(raw: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    found = values.mapping(raw.get("conditions"), "conditions")
    return (
        values.flag(found.get("ready"), "condition ready", True),
        values.flag(found.get("serving"), "condition serving", True),
        values.flag(found.get("terminating"), "condition terminating", False),
    )


def _hints(hints: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = [
        values.label_value(values.mapping(hint, key).get("name"), key)
        for hint in values.sequence(hints.get(key), key, MAX_ADDRESSES)
    ]
    return tuple(sorted(set(names)))


def _endpoint(raw: Mapping[str, Any], family: int) -> Endpoint:
    addresses = tuple(
        [
            values.routable(a, "endpoint address")
            for a in values.sequence(raw.get("addresses"), "addresses", MAX_ADDRESSES)
        ]
    )
    if not addresses:
        raise Broken("an endpoint has no address")
    for address in addresses:
        if values.family(address) != family:
            raise Broken(f"endpoint address {address} is not of the slice's addressType")
    conditions = _conditions(raw) if raw.get("conditions") else (True, True, False)
    hints = values.mapping(raw.get("hints"), "hints")
    reference = values.mapping(raw.get("targetRef"), "targetRef")
    target = reference.get("name") if reference.get("kind") == "Pod" else None
    node, hostname = raw.get("nodeName") or "", raw.get("hostname") or ""
    return Endpoint(
        addresses,
        *conditions,
        values.subdomain(node, "nodeName") if node else "",
        _hints(hints, "forZones") if hints else (),
        _hints(hints, "forNodes") if hints else (),
        values.subdomain(hostname, "hostname") if hostname else "",
        values.subdomain(target, "targetRef name") if target else "",
    )


def _slice_ports(raw: Mapping[str, Any]) -> tuple[SlicePort, ...]:
    ports = []
    for entry in values.sequence(raw.get("ports"), "ports", MAX_PORTS):
        port = values.mapping(entry, "a port")
        name = port.get("name") or ""
        given = port.get("port")
        ports.append(
            SlicePort(
                values.label(name, "port name") if name else "",
                values.protocol(port.get("protocol")),
                0 if given is None else values.number(given, "port", 0, 65535),
            )
        )
    return tuple(sorted(ports))


def _read_slice(raw: Mapping[str, Any]) -> EndpointSlice:
    described = metadata(raw)
    family = 6 if values.choice(raw.get("addressType"), "addressType", ("IPv4", "IPv6"), "") == "IPv6" else 4
    if not raw.get("addressType"):
        raise Broken("it has no addressType")
    endpoints = values.sequence(raw.get("endpoints"), "endpoints", MAX_ENDPOINTS)
    return EndpointSlice(
        values.subdomain(described.get("name"), "name"),
        family,
        HEADLESS_LABEL in values.mapping(described.get("labels"), "labels"),
        _slice_ports(raw),
        tuple(sorted([_endpoint(values.mapping(e, "an endpoint"), family) for e in endpoints])),
    )


def slice_json(piece: EndpointSlice) -> dict[str, Any]:
    """The canonical object of a slice, as it stands in its Service's line."""
    return {
        "metadata": filled(name=piece.name, labels={HEADLESS_LABEL: ""} if piece.hidden else None),
        "addressType": f"IPv{piece.family}",
        "ports": [filled(name=p.name, protocol=p.protocol, port=p.port) for p in piece.ports],
        "endpoints": [_endpoint_json(e) for e in piece.endpoints],
    }


def _endpoint_json(e: Endpoint) -> dict[str, Any]:
    conditions = {}
    if (e.ready, e.serving, e.terminating) != (True, True, False):
        conditions = {
            "ready": e.ready,
            "serving": e.serving,
            "terminating": e.terminating,
        }
    return filled(
        addresses=list(e.addresses),
        conditions=conditions,
        nodeName=e.node,
        hints=filled(
            forZones=[{"name": z} for z in e.zone_hints],
            forNodes=[{"name": n} for n in e.node_hints],
        ),
        hostname=e.hostname,
        targetRef={"kind": "Pod", "name": e.target} if e.target else None,
    )


read_slice = reader("EndpointSlice", _read_slice)

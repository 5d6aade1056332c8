# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an API server would have refused before a controller sees it, and what manifests may have all the same.

Each function raises ``Broken`` for a field that the endpoints controller goes by: one such object must neither end the
pass nor spoil the record that it would share with others.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import values
from .objects import metadata
from .slices import MAX_ENTRIES
from .values import Broken


def _maps(value: object, what: str) -> Iterator[Mapping[str, Any]]:
    """The entries of a list of objects."""
    for entry in values.sequence(value, what, MAX_ENTRIES):
        if entry is None:
            raise Broken(f"{what} has an empty entry")
        yield values.mapping(entry, f"an entry of {what}")


def _texts(item: Mapping[str, Any], *names: str) -> None:
    """Fields that are texts where they are there at all."""
    for name in names:
        if not isinstance(item.get(name) or "", str):
            raise Broken(f"{name} must be a string, not {values.shown(item[name])}")


def _number(value: object, what: str) -> None:
    values.number(value, what, 1, 65535)


def check_slice(item: Mapping[str, Any]) -> None:
    """What an EndpointSlice consists of, whoever wrote it, and whose it is."""
    for _owner in _maps(metadata(item).get("ownerReferences"), "ownerReferences"):
        pass
    values.mapping(metadata(item).get("annotations"), "annotations")
    if not isinstance(item.get("addressType"), str):
        raise Broken(f"addressType must be a string, not {values.shown(item.get('addressType'))}")
    for port in _maps(item.get("ports"), "ports"):
        _texts(port, "name", "protocol", "appProtocol")
        if port.get("port"):
            _number(port["port"], "port")
    for endpoint in _maps(item.get("endpoints"), "endpoints"):
        _texts(endpoint, "hostname", "nodeName", "zone")
        _texts(values.mapping(endpoint.get("targetRef"), "targetRef"), "namespace", "name")
        values.mapping(endpoint.get("conditions"), "conditions")
        for _zone in _maps(values.mapping(endpoint.get("hints"), "hints").get("forZones"), "forZones"):
            pass
        addresses = values.sequence(endpoint.get("addresses"), "addresses", MAX_ENTRIES)
        if not addresses or not all(isinstance(address, str) for address in addresses):
            raise Broken("addresses must be strings")


def check_service(item: Mapping[str, Any]) -> None:
    """The selector, the ports and the families of a Service, and whether it publishes everything."""
    spec = values.mapping(item.get("spec"), "spec")
    values.flag(spec.get("publishNotReadyAddresses"), "publishNotReadyAddresses", False)
    for label, value in values.mapping(spec.get("selector"), "selector").items():
        if not isinstance(value, str):
            raise Broken(f"selector {values.shown(label)} must be a string, not {values.shown(value)}")
    for port in _maps(spec.get("ports"), "ports"):
        _texts(port, "name", "appProtocol")
        values.protocol(port.get("protocol"))
        _number(port.get("port"), "port")
        target = port.get("targetPort")
        if target not in (None, "", 0) and not isinstance(target, str):
            _number(target, "targetPort")
    for family in values.sequence(spec.get("ipFamilies"), "ipFamilies", 2):
        values.choice(family, "ipFamilies", ("IPv4", "IPv6"), "")


def check_pod(item: Mapping[str, Any]) -> None:
    """The names, the container ports and the addresses of a Pod."""
    spec, status = values.mapping(item.get("spec"), "spec"), values.mapping(item.get("status"), "status")
    _texts(metadata(item), "uid")
    for field, checked in (("nodeName", values.subdomain), ("hostname", values.label)):
        if spec.get(field):
            checked(spec[field], field)
    for field in ("containers", "initContainers"):
        for container in _maps(spec.get(field), field):
            for port in _maps(container.get("ports"), "ports"):
                _texts(port, "name")
                values.protocol(port.get("protocol"))
                _number(port.get("containerPort"), "containerPort")
    for entry in _maps(status.get("podIPs"), "podIPs"):
        if entry.get("ip"):
            values.routable(entry["ip"], "podIP")
    if status.get("podIP"):
        values.routable(status["podIP"], "podIP")


def check_endpoints(item: Mapping[str, Any]) -> None:
    """The addresses and ports of Endpoints, all but whether the addresses are some: that is told one by one."""
    for field in ("labels", "annotations"):
        values.mapping(metadata(item).get(field), field)
    for subset in _maps(item.get("subsets"), "subsets"):
        for field in ("addresses", "notReadyAddresses"):
            for address in _maps(subset.get(field), field):
                _texts(address, "ip", "hostname", "nodeName")
                _texts(values.mapping(address.get("targetRef"), "targetRef"), "namespace", "name", "uid")
        for port in _maps(subset.get("ports"), "ports"):
            _texts(port, "name", "appProtocol")
            values.protocol(port.get("protocol"))
            _number(port.get("port"), "port")

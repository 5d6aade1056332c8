# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DNS records of one Service or Pod (Kubernetes DNS specification 1.1.0).

Where the specification leaves a choice, the records are those that the kubernetes plugin of CoreDNS answers with.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import NamedTuple

from . import dns_names, model, slices
from .errors import ObjectError
from .values import Broken, shown

# What one DNS message over TCP can hold, less its header, the EDNS record and the name server record beside the answer.
_MESSAGE_ROOM = 65535 - 12 - 11 - 21
_NO_PORT = 0


class Record(NamedTuple):
    """One resource record of class IN: absolute owner, type, data as it stands in a zone file, TTL in seconds."""

    owner: str
    type: str
    data: str
    ttl: int


class Pointer(NamedTuple):
    """The name of an address. That of a ClusterIP has precedence over those of endpoints."""

    address: str
    name: str
    cluster_ip: bool


class Records(NamedTuple):
    """What one object contributes; ``problems`` say what of it is not served."""

    forward: list[Record]
    pointers: list[Pointer]
    problems: list[ObjectError]


class _Item(NamedTuple):
    """An address of a ready endpoint with one port of its slice: what a query for the Service finds."""

    label: str
    address: str
    port: slices.SlicePort


class Writer(NamedTuple):
    """How records are written: ``suffix`` is the absolute cluster domain, ``endpoint_names`` asks for names of the
    endpoints of Services that have a ClusterIP, too."""

    suffix: str
    ttl: int
    endpoint_names: bool

    def service(self, service: model.Service) -> Records:
        """The records of a Service."""
        made = Records([], [], [])
        owner = f"{service.name}.{service.namespace}.svc.{self.suffix}"
        if len(owner) > dns_names.MAX_NAME + 1:
            made.problems.append(
                _problem(
                    service,
                    f"its name {owner} is longer than {dns_names.MAX_NAME} characters and is not served",
                )
            )
        elif service.type == "ExternalName":
            self._alias(service, owner, made)
        elif service.headless:
            self._headless(service, owner, made)
        elif service.cluster_ips:
            self._cluster_ips(service, owner, made)
            if self.endpoint_names:
                self._endpoints(service, owner, self._items(service, made), made)
        return made

    def pod(self, pod: model.Pod) -> Records:
        """The record of a Pod: its first address under its namespace."""
        made = Records([], [], [])
        if pod.addresses:
            address = pod.addresses[0]
            label = dns_names.dashed(address)
            if dns_names.is_label(label):
                self._address(f"{label}.{pod.namespace}.pod.{self.suffix}", address, made)
            else:
                made.problems.append(
                    ObjectError(
                        "Pod",
                        f"{pod.namespace}/{pod.name}",
                        f"its address {address} makes no DNS label, so it has no name",
                    )
                )
        return made

    # ------------------------------------------------------------------------------------------ kinds of Services

    def _alias(self, service: model.Service, owner: str, made: Records) -> None:
        try:
            target = dns_names.external_target(service.external_name)
        except Broken as wrong:
            made.problems.append(_problem(service, f"{wrong}; it is not served"))
        else:
            made.forward.append(Record(owner, "CNAME", target, self.ttl))

    def _cluster_ips(self, service: model.Service, owner: str, made: Records) -> None:
        for address in service.cluster_ips:
            self._address(owner, address, made)
            made.pointers.append(Pointer(address, owner, True))
        per_port = len(service.cluster_ips)
        for port in service.ports:
            weight = _weight(per_port * len(service.ports))
            made.forward.append(Record(owner, "SRV", f"0 {weight} {port.port} {owner}", self.ttl))
            named = self._port_owner(service, port.name, port.protocol, owner, made)
            if named:
                made.forward.append(
                    Record(
                        named,
                        "SRV",
                        f"0 {_weight(per_port)} {port.port} {owner}",
                        self.ttl,
                    )
                )

    def _headless(self, service: model.Service, owner: str, made: Records) -> None:
        items = self._items(service, made)
        addresses = {item.address for item in items}
        for address in sorted(addresses):
            self._address(owner, address, made)
        self._warn_of_addresses(service, owner, addresses, made)
        self._services(owner, items, owner, made)
        by_port: dict[tuple[str, str], list[_Item]] = {}
        for item in items:
            by_port.setdefault((item.port.name, item.port.protocol), []).append(item)
        for (name, protocol), matching in by_port.items():
            named = self._port_owner(service, name, protocol, owner, made)
            if named:
                self._services(named, matching, owner, made)
        self._warn_of_services(service, owner, items, made)
        self._endpoints(service, owner, items, made)

    # --------------------------------------------------------------------------------------------------- endpoints

    def _items(self, service: model.Service, made: Records) -> list[_Item]:
        found: list[_Item] = []
        refused = set()
        for piece in service.slices:
            ports = piece.ports or (slices.SlicePort("", "", _NO_PORT),)
            for endpoint in piece.endpoints:
                if not endpoint.ready:
                    continue
                for address in endpoint.addresses:
                    label = endpoint.hostname or dns_names.dashed(address)
                    if not dns_names.is_label(label):
                        refused.add(label)
                        label = ""
                    found.extend(_Item(label, address, port) for port in ports)
        for label in sorted(refused):
            made.problems.append(
                _problem(
                    service,
                    f"the endpoint name {shown(label)} is no DNS label; it has no name, SRV and PTR record",
                )
            )
        return found

    def _endpoints(self, service: model.Service, owner: str, items: list[_Item], made: Records) -> None:
        """The names of the endpoints themselves, and of their addresses."""
        by_label: dict[str, list[_Item]] = {}
        for item in items:
            if item.label:
                by_label.setdefault(item.label, []).append(item)
        room = dns_names.MAX_NAME - len(owner)
        too_long = sorted(label for label in by_label if len(label) > room)
        for label in too_long:
            del by_label[label]
            made.problems.append(
                _problem(
                    service,
                    f"the endpoint name {label} makes a name of more than {dns_names.MAX_NAME} characters; it is not "
                    "served",
                )
            )
        for label, own in by_label.items():
            name = f"{label}.{owner}"
            for address in sorted({item.address for item in own}):
                self._address(name, address, made)
                made.pointers.append(Pointer(address, name, False))
            self._services(name, own, owner, made)

    def _services(self, name: str, items: list[_Item], owner: str, made: Records) -> None:
        """SRV records under ``name``, which point at the names of the endpoints below ``owner``."""
        weight = _weight(len(items))
        room = dns_names.MAX_NAME - len(owner)
        targets = {(i.port.port, i.label) for i in items if 0 < len(i.label) <= room}
        for port, label in sorted(targets):
            if port != _NO_PORT:
                made.forward.append(Record(name, "SRV", f"0 {weight} {port} {label}.{owner}", self.ttl))

    # ------------------------------------------------------------------------------------------------------- parts

    def _address(self, owner: str, address: str, made: Records) -> None:
        made.forward.append(Record(owner, "AAAA" if ":" in address else "A", address, self.ttl))

    def _port_owner(self, service: model.Service, name: str, protocol: str, owner: str, made: Records) -> str:
        """``_http._tcp.web.default.svc.cluster.local.``, or "" where there is no such name."""
        if not name or not protocol:
            return ""
        full = f"_{name}._{protocol.lower()}.{owner}"
        if len(name) > 62 or len(full) > dns_names.MAX_NAME + 1:
            made.problems.append(
                _problem(
                    service,
                    f"the port name {shown(name)} is too long for a DNS name with an underscore before it; it has no "
                    "SRV record of its own",
                )
            )
            return ""
        return full

    def _warn_of_addresses(self, service: model.Service, owner: str, addresses: set[str], made: Records) -> None:
        for family, size in ((4, 16), (6, 28)):
            count = sum(1 for a in addresses if (6 if ":" in a else 4) == family)
            most = (_MESSAGE_ROOM - len(owner) - 5) // size
            if count > most:
                made.problems.append(
                    _problem(
                        service,
                        f"{count} ready IPv{family} endpoints, but one DNS answer holds at most {most} of them: "
                        "clients see a part",
                    )
                )

    def _warn_of_services(self, service: model.Service, owner: str, items: list[_Item], made: Records) -> None:
        targets = {(i.label, i.port.port) for i in items if i.label and i.port.port}
        glue = sum(28 if ":" in a else 16 for a in {i.address for i in items})
        size = glue + sum(20 + len(label) + len(owner) for label, _port in targets)
        if targets and size > _MESSAGE_ROOM - len(owner) - 5:
            most = (_MESSAGE_ROOM - len(owner) - 5) * len(targets) // size
            made.problems.append(
                _problem(
                    service,
                    f"{len(targets)} SRV records, but one DNS answer holds about {most} of them with their "
                    "addresses: clients see a part",
                )
            )


def _weight(found: int) -> int:
    """The weight of each of so many SRV records, as CoreDNS shares out 100."""
    return max(1, 100 // found) if found else 1


def _problem(service: model.Service, reason: str) -> ObjectError:
    return ObjectError("Service", service.key, reason)

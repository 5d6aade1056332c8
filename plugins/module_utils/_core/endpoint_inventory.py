# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of an inventory as the endpoints of a Service without selector.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

from . import values
from .endpoint_objects import Object, Service, family_of
from .endpoint_pods import Group, PortsKey, identity, ports_key
from .errors import OptionError
from .values import Broken


class Member(NamedTuple):
    """One host.

    :param address: its IP address, in canonical spelling.
    :param ports: numbers by the name of the Service's port; where one is missing, the Service's numeric target counts.
    :param ready: whether it answered.
    """

    address: str
    ports: Mapping[str, int]
    ready: bool
    hostname: str = ""
    node_name: str = ""
    zone: str = ""


class Published(NamedTuple):
    """The hosts that stand behind one Service; ``unasked`` are the addresses of those without a port to ask."""

    namespace: str
    service: str
    members: list[Member]
    unasked: tuple[str, ...] = ()


def canonical_address(text: str, host: str) -> str:
    """The canonical spelling of a host's address. Raises OptionError."""
    try:
        return values.routable(text)
    except Broken as wrong:
        raise OptionError(f"The address {text!r} of the host {host} can't be an endpoint's: {wrong}.") from None


def checked_names(host: str, hostname: str, node_name: str, zone: str) -> tuple[str, str, str]:
    """The names of a host, each of which may be empty. Raises OptionError: a record with a wrong one would be refused
    together with all other hosts in it."""
    try:
        return (
            values.label(hostname, "hostname") if hostname else "",
            values.subdomain(node_name, "node_name") if node_name else "",
            values.label_value(zone, "zone"),
        )
    except Broken as wrong:
        raise OptionError(f"The host {host} of the inventory: {wrong}.") from None


def member_ports(service: Service, member: Member) -> list[Object]:
    """The ports that a host offers; a named target without a number of the host's is left out."""
    made = []
    for port in service.ports:
        number = member.ports.get(port.name, port.target)
        if isinstance(number, int):
            made.append(port.resolved(number))
    return made


def inventory_groups(service: Service, members: list[Member], family: str) -> dict[PortsKey, Group]:
    """The endpoints of one family, grouped by their ports."""
    made: dict[PortsKey, Group] = {}
    for member in sorted(members, key=lambda each: (each.address, sorted(each.ports.items()))):
        if family_of(member.address) != family:
            continue
        ports = member_ports(service, member)
        endpoint: Object = {
            "addresses": [member.address],
            "conditions": {"ready": member.ready, "serving": member.ready, "terminating": False},
        }
        optional = {"hostname": member.hostname, "nodeName": member.node_name, "zone": member.zone}
        endpoint.update({name: value for name, value in optional.items() if value})
        group = made.setdefault(ports_key(ports), Group(ports, {}))
        group.endpoints[identity(endpoint)] = endpoint
    return made

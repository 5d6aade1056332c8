# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that turns groups of an inventory into the option inventory of the module endpoint_slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

# Variable of a host -> the field of the module's option.
_FIELDS = {
    "service_endpoints_ports": "ports",
    "service_endpoints_hostname": "hostname",
    "service_endpoints_node_name": "node_name",
    "service_endpoints_zone": "zone",
}


def inventory_endpoints(
    entries: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The entries with the hosts of their groups."""
    made = []
    for entry in entries:
        group = str(entry.get("group"))
        if group not in groups:
            raise AnsibleFilterError(f"The inventory has no group {group!r}, whose hosts a Service shall have.")
        given = {name: value for name, value in entry.items() if name not in ("group", "ports")}
        hosts = [_host(name, hostvars[name], entry.get("ports")) for name in groups[group]]
        made.append({**given, "hosts": hosts})
    return made


def _host(name: str, variables: Mapping[str, Any], ports: Mapping[str, Any] | None) -> dict[str, Any]:
    """One host; its own ports stand above those of the entry."""
    address = variables.get("service_endpoints_address") or variables.get("ansible_host") or name
    made: dict[str, Any] = {"name": name, "address": str(address)}
    if ports:
        made["ports"] = dict(ports)
    for variable, field in _FIELDS.items():
        value = variables.get(variable)
        if value:
            made[field] = {**made.get(field, {}), **value} if field == "ports" else str(value)
    return made


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name and function of each."""
        return {"inventory_endpoints": inventory_endpoints}

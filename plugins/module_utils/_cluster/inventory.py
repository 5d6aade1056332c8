# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of an inventory that stand behind Services without a selector, asked whether they are ready.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_inventory import (
    Member,
    Published,
    canonical_address,
    checked_names,
    member_ports,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_objects import Service, read_service
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError, OptionError

from .probes import Probe, probe_all


def published_hosts(
    items: Iterable[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], probed: dict[Probe, bool]
) -> list[Published]:
    """The hosts of the entries, probed. Raises ``OptionError`` for an address or a port that is none.

    :param items: the Services, as the API server or a manifest has them.
    :param entries: the option `inventory` of the modules.
    :param probed: what was asked already, and the answers; what is asked now is added.
    """
    wanted = {(entry["namespace"], entry["service"]) for entry in entries}
    services: dict[tuple[str, str], Service] = {}
    for item in items:
        meta = item.get("metadata")
        if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
            continue
        # A manifest may leave the namespace out, or have anything in its place.
        if any(meta["name"] == name and (meta.get("namespace") or "default") == space for space, name in wanted):
            try:
                service = read_service(dict(item))
            except ObjectError:
                # It is named where Services are read for what they are.
                continue
            services.setdefault((meta.get("namespace") or "default", meta["name"]), service)
    made = []
    for entry in entries:
        target = services.get((entry["namespace"], entry["service"]))
        members = []
        for host in entry["hosts"]:
            ports = {name or "": _number(number) for name, number in (host.get("ports") or {}).items()}
            name = host.get("name") or host["address"]
            names = checked_names(name, *(host.get(field) or "" for field in ("hostname", "node_name", "zone")))
            member = Member(canonical_address(host["address"], name), ports, True, *names)
            offered = member_ports(target, member) if target else []
            members.append((member, _probe(entry, member, offered)))
        missing = [probe for _member, probe in members if probe is not None and probe not in probed]
        probed.update(zip(missing, probe_all(missing)))
        listed = [member._replace(ready=probe is not None and probed[probe]) for member, probe in members]
        unasked = tuple(member.address for member, probe in members if probe is None)
        made.append(Published(entry["namespace"], entry["service"], listed, unasked))
    return made


def _number(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= 65535:
        raise OptionError(f"{value!r} is no port of a host of the inventory.")
    return number


def _probe(entry: Mapping[str, Any], member: Member, offered: Sequence[Mapping[str, Any]]) -> Probe | None:
    """The probe of one host: the port that the entry names, else the first TCP port; None if there is none."""
    kind = entry.get("probe") or "tcp"
    if kind == "none":
        return Probe(kind, member.address, 0)
    tcp = [port["port"] for port in offered if port["protocol"] == "TCP"]
    # Checked, because the system would take a number that is too big for another port.
    number = _number(entry["probe_port"]) if entry.get("probe_port") is not None else tcp[0] if tcp else None
    if number is None:
        return None
    return Probe(kind, member.address, number, entry.get("probe_path") or "/", float(entry.get("probe_timeout") or 2))

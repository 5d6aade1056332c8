# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the options of a probe to its results: what is asked for one by one, and what a snapshot says there is to ask.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ._core import snapshot as snapshots
from ._core.errors import OptionError
from ._core.resolve import NodeView, resolve
from ._core.table import BALANCE, CLUSTER_IP, ServiceTable
from ._node.files import read_bytes
from ._node.probe import DEFAULT_PORTS, ProbeTarget, probe_all
from ._node.probe_report import failing, table

FAMILIES = {"ipv4": 4, "ipv6": 6}
_URL_PATH = re.compile(r"[!-~]*\Z")


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """Probes what the options of service_probe name; raises ``ServicenetError`` if they can't be understood."""
    targets = given_targets(params["targets"])
    if params["snapshot"]:
        targets += snapshot_targets(params)
    results = probe_all(targets)
    return {
        "results": [result.as_dict() for result in results],
        "failing": failing(results),
        "table": table(results),
    }


def given_targets(given: Sequence[Mapping[str, Any]]) -> list[ProbeTarget]:
    """The targets of a module's option of that name; raises ``OptionError`` for one that lacks something."""
    for target in given:
        protocol, name = target["protocol"], target["name"]
        if not target["host"] and protocol != "dns":
            raise OptionError(f"The target {name} needs a host.")
        if not target["port"] and protocol not in DEFAULT_PORTS:
            raise OptionError(f"The target {name} needs a port.")
        if target["port"] and not 0 < target["port"] < 65536:
            raise OptionError(f"The target {name} needs a port from 1 to 65535.")
        if target["timeout"] <= 0:
            raise OptionError(f"The target {name} needs a timeout above 0.")
        if protocol == "http" and not _URL_PATH.match(target["path"]):
            raise OptionError(f"The target {name} needs a path as it stands in a URL, such as /caf%C3%A9.")
        if not target["query"] and protocol == "dns":
            raise OptionError(f"The target {name} needs a query, the name to look up.")
    return [ProbeTarget(**{**target, "port": target["port"] or 0}) for target in given]


def snapshot_targets(params: Mapping[str, Any]) -> list[ProbeTarget]:
    """The targets of a snapshot, chosen by a module's options (see service_probe)."""
    if params["timeout"] <= 0:
        raise OptionError("timeout has to be above 0.")
    data = read_bytes(params["snapshot"])
    if data is None:
        raise OptionError(f"There is no snapshot {params['snapshot']}.")
    snapshot = snapshots.load(data)
    name = params["node_name"] or platform.node()
    node = snapshot.node(name)
    zone = params["zone"] if params["zone"] is not None else (node.zone if node is not None else "")
    families = tuple(FAMILIES[family] for family in sorted(set(params["ip_families"])))
    services, _refused = snapshot.services()
    view = NodeView(name, zone, node.addresses if node is not None else (), families, params["service_proxy_name"])
    rules = resolve(services, view)
    return service_targets(rules, params["services"], params["limit"], params["attempts"], params["timeout"])


def service_targets(
    table: ServiceTable, services: Sequence[str], limit: int, attempts: int, timeout: float
) -> list[ProbeTarget]:
    """A target for each TCP port of a ClusterIP that has endpoints for packets from this node.

    :param services: namespace/name of the Services that are meant; none means all.
    :param limit: of all, at most so many, spread evenly over their names; 0 is no limit. Services that are named are
        never left out.
    :raises OptionError: a Service that was named has nothing to probe.
    """
    found: list[ProbeTarget] = []
    with_targets = set()
    for rules in table.rules:
        if rules.protocol != "TCP" or rules.internal.verdict != BALANCE or (services and rules.service not in services):
            continue
        for frontend in rules.frontends:
            if frontend.kind == CLUSTER_IP:
                found.append(ProbeTarget(rules.name, frontend.address, frontend.port, "tcp", attempts, timeout))
                with_targets.add(rules.service)
    missing = sorted(set(services) - with_targets)
    if missing:
        raise OptionError(
            f"There is nothing to probe in {', '.join(missing)}: the snapshot has no such Service, or it has no TCP "
            "port with ready endpoints that this node may use."
        )
    if services or not limit or len(found) <= limit:
        return found
    return [found[i * len(found) // limit] for i in range(limit)]

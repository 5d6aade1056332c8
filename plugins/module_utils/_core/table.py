# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service table: what the decision table of Kubernetes says for one node, in plain data that every mode translates.

One ``PortRules`` is one port of one Service in one address family. A mode needs nothing else of the cluster.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import NamedTuple

CLUSTER_IP = "cluster_ip"
NODE_PORT = "node_port"
LOAD_BALANCER = "load_balancer"
EXTERNAL_IP = "external_ip"

BALANCE = "balance"
REJECT = "reject"
DROP = "drop"


class Backend(NamedTuple):
    """An endpoint that may be chosen: ``local`` if its Pod is on this node."""

    address: str
    port: int
    local: bool


class Target(NamedTuple):
    """Where packets go: ``verdict`` is BALANCE over ``backends`` (sorted, not empty), or REJECT or DROP (empty)."""

    verdict: str
    backends: tuple[Backend, ...]


class Frontend(NamedTuple):
    """An address and port that clients use. ``address`` is "" for NODE_PORT: any address that serves node ports.

    ``source_ranges``: None is open to all; else only sources in these CIDRs (canonical text, sorted) get through, and
    ``admits_own_address`` says that the frontend's own address is a source that gets through, too (the node's own
    address is in a range, so a process of the node that took the VIP as its source is meant).
    """

    kind: str
    address: str
    port: int
    source_ranges: tuple[str, ...] | None = None
    admits_own_address: bool = False


class PortRules(NamedTuple):
    """One service port in one family. Three targets, chosen by the kind of frontend and the class of the source:

    ===============================  =============  ============  ========================================
    frontend                         source         target        masquerade
    ===============================  =============  ============  ========================================
    CLUSTER_IP                       any            ``internal``  masquerade_all, or there is a detector and
                                                                  the source is no local Pod
    others, not ``external_local``   any            ``external``  always
    others, ``external_local``       local Pod      ``cluster``   never
    others, ``external_local``       node itself    ``cluster``   always
    others, ``external_local``       from outside   ``external``  never
    ===============================  =============  ============  ========================================

    A source is a local Pod if the detector says so (asked before "node itself"); without a detector none is. Without
    ``external_local``, ``external`` equals ``cluster``. A REJECT is for every source. An endpoint that reaches itself
    is masqueraded (hairpin). ``affinity`` is in seconds, 0 is none; it is remembered per backend of a service port, so
    it holds across the frontends. ``reachable`` are all backends that any target names: what connection tracking may
    still point at. ``annotations``: those of the Service under servicenet.kubenode.io/, which only some modes heed.
    """

    service: str
    port_name: str
    protocol: str
    family: int
    affinity: int
    external_local: bool
    frontends: tuple[Frontend, ...]
    internal: Target
    cluster: Target
    external: Target
    reachable: tuple[Backend, ...]
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """``namespace/name:port``, or ``namespace/name`` for an unnamed port."""
        return f"{self.service}:{self.port_name}" if self.port_name else self.service


class HealthCheck(NamedTuple):
    """A healthCheckNodePort of a Service with externalTrafficPolicy Local.

    ``local_endpoints``: how many are ready, by family, the families of the Service in its order.
    """

    service: str
    port: int
    local_endpoints: dict[int, int]


class ServiceTable(NamedTuple):
    """``rules`` sorted by (service, port_name, protocol, family); ``warnings`` are sentences that name the Service."""

    rules: tuple[PortRules, ...]
    health_checks: tuple[HealthCheck, ...]
    warnings: tuple[str, ...]

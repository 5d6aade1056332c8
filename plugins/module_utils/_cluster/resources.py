# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of objects that are read from, or written to, an API server, and where they live there.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote


class Resource(NamedTuple):
    """A resource of the Kubernetes API; ``group`` is "" for the core group.

    ``optional``: an API server that does not serve it (404) is no error. ``since``: who serves it, for a message.
    """

    kind: str
    plural: str
    group: str = ""
    namespaced: bool = True
    optional: bool = False
    since: str = ""

    def path(self, namespace: str = "", name: str = "") -> str:
        """The path of the whole resource, of its objects in one namespace, or of one object."""
        parts = ["apis", self.group, "v1"] if self.group else ["api", "v1"]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/" + "/".join(quote(part, safe="") for part in parts)

    @property
    def shown(self) -> str:
        """The resource as RBAC names it, for a message."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACES = Resource("Namespace", "namespaces", namespaced=False)
NODES = Resource("Node", "nodes", namespaced=False)
SERVICES = Resource("Service", "services")
ENDPOINT_SLICES = Resource("EndpointSlice", "endpointslices", "discovery.k8s.io", since="Kubernetes 1.21")
ENDPOINTS = Resource("Endpoints", "endpoints")
SERVICE_CIDRS = Resource("ServiceCIDR", "servicecidrs", "networking.k8s.io", namespaced=False, optional=True)
PODS = Resource("Pod", "pods")

SNAPSHOT = (NAMESPACES, NODES, SERVICES, ENDPOINT_SLICES, ENDPOINTS, SERVICE_CIDRS)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small Kubernetes objects for tests of the endpoints controller."""

from __future__ import annotations

ZONE_LABEL = "topology.kubernetes.io/zone"


def service(name="web", namespace="shop", **spec):
    """A Service that selects app=NAME on port 80; `labels`, `annotations` and `uid` go into its metadata."""
    meta = {"name": name, "namespace": namespace, "uid": spec.pop("uid", "uid-" + name)}
    meta.update({part: spec.pop(part) for part in ("labels", "annotations", "deletionTimestamp") if part in spec})
    given = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.10",
        "ipFamilies": ["IPv4"],
        "selector": {"app": name},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    given.update(spec)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {part: value for part, value in given.items() if value is not None},
    }


def pod(number, app="web", node="node-a", ready=True, namespace="shop", ports=(), phase="Running", **meta):
    """A Pod; its name and address are made from its number, unless `name` is given."""
    address = f"10.20.{number // 250}.{number % 250 + 1}"
    name = meta.pop("name", f"{app}-{number}")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": "uid-" + name, "labels": {"app": app}, **meta},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": list(ports)}]},
        "status": {
            "phase": phase,
            "podIP": address,
            "podIPs": [{"ip": address}, {"ip": f"fd00:20::{number + 1:x}"}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def node(name="node-a", zone="zone-1", cpu="4", **labels):
    """A ready Node."""
    made = {**({ZONE_LABEL: zone} if zone else {}), **labels}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": made},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def endpoints(name="web", namespace="shop", addresses=("10.20.9.1",), **meta):
    """Hand-written Endpoints on port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "namespace": namespace, "uid": "uid-endpoints-" + name, **meta},
        "subsets": [{"addresses": [{"ip": each} for each in addresses], "ports": [{"port": 80, "protocol": "TCP"}]}],
    }

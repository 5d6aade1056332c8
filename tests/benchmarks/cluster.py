# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clusters that are measured: N Services of M endpoints each, as manifests, as snapshots and in an API server."""

from __future__ import annotations

import concurrent.futures
import ipaddress
from collections.abc import Iterator
from typing import Any, NamedTuple

from lab.control_plane import CONNECTIONS, Api, path_of

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

NAMESPACES = 100
NODES = 100
OWN_NODE = "node-0"
OWN_ADDRESS = "198.18.9.1"
POD_CIDR = "10.128.0.0/9"
PORT, TARGET_PORT = 80, 8080
_FIRST_VIP = int(ipaddress.IPv4Address("10.96.1.0"))
_FIRST_POD = int(ipaddress.IPv4Address("10.128.0.16"))
# What the endpoint of a changed slice has instead of its own address.
OTHER_POD = "10.191.0.16"


class Size(NamedTuple):
    """How many Services, and how many endpoints each has."""

    services: int
    endpoints: int

    def __str__(self) -> str:
        return f"{self.services}x{self.endpoints}"

    @classmethod
    def parse(cls, text: str) -> Size:
        """From ``1000x2``."""
        services, _x, endpoints = text.partition("x")
        return cls(int(services), int(endpoints))


def vip(number: int) -> str:
    """The ClusterIP of a Service."""
    return str(ipaddress.IPv4Address(_FIRST_VIP + number))


def pod(number: int) -> str:
    """The address of an endpoint, counted over all Services."""
    return str(ipaddress.IPv4Address(_FIRST_POD + number))


def _place(number: int) -> tuple[str, str]:
    """-> (namespace, name) of a Service."""
    return f"space-{number % NAMESPACES}", f"service-{number:05}"


def service(number: int) -> dict[str, Any]:
    """One Service with one TCP port."""
    namespace, name = _place(number)
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "clusterIP": vip(number),
            "clusterIPs": [vip(number)],
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": TARGET_PORT}],
        },
    }


def endpoint_slice(number: int, endpoints: int, changed: bool = False) -> dict[str, Any]:
    """Its EndpointSlice; ``changed``: the first endpoint has another address."""
    namespace, name = _place(number)
    first = number * endpoints
    addresses = [pod(first + index) for index in range(endpoints)]
    if changed:
        addresses[0] = OTHER_POD
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"node-{(first + index) % NODES}",
            }
            for index, address in enumerate(addresses)
        ],
    }


def _common() -> Iterator[dict[str, Any]]:
    """The own Node, and the Namespaces."""
    yield {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": OWN_NODE},
        "spec": {"podCIDRs": ["10.128.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": OWN_ADDRESS}]},
    }
    for number in range(NAMESPACES):
        yield {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": f"space-{number}"}}


def make_snapshot(size: Size, added: bool = False, changed: bool = False) -> bytes:
    """The snapshot file.

    :param added: there is one Service more.
    :param changed: the Service in the middle has another endpoint.
    """
    objects = list(_common())
    for number in range(size.services + added):
        objects.append(service(number))
        objects.append(endpoint_slice(number, size.endpoints, changed and number == size.services // 2))
    made = build_snapshot(objects)
    if made.refused:
        raise ValueError(f"The benchmark's own cluster is refused: {made.refused[0]}")
    return snapshot.dump(made)


class Filled:
    """An API server that holds such a cluster; it is grown from one size to the next."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.size = Size(0, 0)
        api.create_all(_common())

    def grow(self, size: Size) -> None:
        """Makes the cluster of that size out of the present one, which has no more Services."""
        if size.services < self.size.services:
            raise ValueError(f"{size} is smaller than {self.size}: give sizes that grow.")
        new = range(self.size.services, size.services)
        if size.endpoints != self.size.endpoints:
            with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
                list(pool.map(lambda number: self._put_slice(number, size.endpoints), range(self.size.services)))
        self.api.create_all(service(number) for number in new)
        self.api.create_all(endpoint_slice(number, size.endpoints) for number in new)
        self.size = size

    def add(self, number: int) -> None:
        """Creates one Service, and then its slice, as the controllers would."""
        self._connect()
        self.api.create(service(number))
        self.api.create(endpoint_slice(number, self.size.endpoints))

    def remove(self, number: int) -> None:
        """Deletes a Service and its slice."""
        self._connect()
        for kind in ("Service", "EndpointSlice"):
            self.api.delete(kind, *_place(number))

    def change(self, number: int, changed: bool) -> None:
        """Gives the slice of a Service another endpoint, or its own again."""
        self._connect()
        self._put_slice(number, self.size.endpoints, changed)

    def _connect(self) -> None:
        """Minutes may have gone since the last request, and the server hangs up on who says nothing."""
        self.api = Api(self.api.port, self.api.token)

    def _put_slice(self, number: int, endpoints: int, changed: bool = False) -> None:
        path = path_of("EndpointSlice", *_place(number))
        self.api.call("PUT", path, endpoint_slice(number, endpoints, changed))

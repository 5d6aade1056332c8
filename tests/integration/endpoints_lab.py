# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the endpoints controller share: objects, a pass against an API server, and its records."""

from __future__ import annotations

from collections import Counter

from conformance.endpoints.builders import pod, service
from lab import ControlPlane
from lab.claim import kill_and_wait
from lab.control_plane import Api, path_of

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import Client
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.connection import Options, connect
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import PassOptions, run_pass

BOTH = PassOptions(write="both")


def clear(api: Api) -> None:
    for item in api.list("Pod"):
        if item["metadata"].get("finalizers"):
            api.patch(
                "Pod", item["metadata"]["namespace"], item["metadata"]["name"], {"metadata": {"finalizers": None}}
            )
    for item in api.list("Pod"):
        remove_pod(api, item["metadata"]["namespace"], item["metadata"]["name"])
    api.clear()


def remove_pod(api: Api, namespace: str, name: str) -> None:
    """Deletes a Pod at once; there is no kubelet that would end it."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    api.call("DELETE", path_of("Pod", namespace, name), options)


def client_of(plane: ControlPlane, user: str = "admin") -> Client:
    return connect(Options(kubeconfig=str(plane.kubeconfig(user))))


def run(client: Client, options: PassOptions = BOTH) -> dict:
    return run_pass(client, options, lambda _done, _total: None)


def plain_pod(number: int, **options) -> dict:
    """A Pod that the API server accepts."""
    made = pod(number, **options)
    made["spec"]["containers"] = [{"name": "main", "image": "example.test/main"}]
    return made


def plain_service(name: str = "web", **spec) -> dict:
    """A Service to which the API server gives an address."""
    return service(name, **{"clusterIP": None, **spec})


def records(api: Api, namespace: str = "shop") -> dict[str, str]:
    """Name and version of all endpoint records: equal if nothing was written."""
    return {
        f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for kind in ("EndpointSlice", "Endpoints")
        for item in api.list(kind, namespace)
    }


def published(api: Api, name: str = "web") -> Counter[str]:
    """How often each address stands in a slice of a Service."""
    return Counter(
        each["addresses"][0]
        for item in api.list("EndpointSlice", "shop")
        if item["metadata"]["labels"]["kubernetes.io/service-name"] == name
        for each in item.get("endpoints") or ()
    )


def stop_controllers(twin: ControlPlane) -> None:
    """What the real controllers write depends on the order of events; right after a start, on the objects alone."""
    process = twin._processes.pop("kube-controller-manager", None)
    if process is not None:
        kill_and_wait([process.pid])
        process.wait()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection does where it deviates on purpose: a test for each entry of endpoints/deviations.yaml."""

from __future__ import annotations

import copy

from conformance.endpoints import deviations
from conformance.endpoints.adapter import SETTINGS, ClusterObjects, applied, plan_endpoints
from conformance.endpoints.builders import endpoints, node, pod, service

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


def settled(**lists) -> ClusterObjects:
    """The objects after one pass."""
    objects = ClusterObjects(**lists)
    return applied(objects, plan_endpoints(objects, SETTINGS).changes)


def running() -> ClusterObjects:
    """One Service with one Pod, its records written."""
    return settled(services=[service()], pods=[pod(1)], nodes=[node()])


def test_removed_selector() -> None:
    before = running()
    before.services = [service(selector=None)]
    after = applied(before, plan_endpoints(before, SETTINGS).changes)
    assert (after.endpointslices, after.endpoints) == ([], [])


def test_became_external_name() -> None:
    before = running()
    before.services = [service(type="ExternalName", externalName="example.org", clusterIP=None)]
    after = applied(before, plan_endpoints(before, SETTINGS).changes)
    assert (after.endpointslices, after.endpoints) == ([], [])


def test_external_name_not_mirrored() -> None:
    named = service(type="ExternalName", externalName="example.org", clusterIP=None, selector=None)
    assert settled(services=[named], endpoints=[endpoints()]).endpointslices == []
    # The same Endpoints beside another type of Service are mirrored.
    assert len(settled(services=[service(selector=None)], endpoints=[endpoints()]).endpointslices) == 1


def test_foreign_endpoints_without_service() -> None:
    ours = endpoints("ours", labels={"endpoints.kubernetes.io/managed-by": SETTINGS.manager})
    after = settled(endpoints=[endpoints("lonely"), ours])
    assert [item["metadata"]["name"] for item in after.endpoints] == ["lonely"]


def test_another_managers_endpoints() -> None:
    theirs = endpoints(labels={"endpoints.kubernetes.io/managed-by": "somebody.example"})
    objects = ClusterObjects(services=[service()], pods=[pod(1)], nodes=[node()], endpoints=[copy.deepcopy(theirs)])
    plan = plan_endpoints(objects, SETTINGS)
    assert [change.kind for change in plan.changes] == ["EndpointSlice"]
    assert len(plan.warnings) == 1
    assert "shop/web" in plan.warnings[0]
    assert "somebody.example" in plan.warnings[0]
    del objects.endpoints[0]["metadata"]["labels"]
    plan = plan_endpoints(objects, SETTINGS)
    assert [(change.kind, change.action) for change in plan.changes] == [
        ("EndpointSlice", "create"),
        ("Endpoints", "update"),
    ]


def test_pod_without_node() -> None:
    after = settled(services=[service()], pods=[pod(1), pod(2, node="")], nodes=[node()])
    (written,) = after.endpoints
    assert [(each["ip"], each.get("nodeName")) for each in written["subsets"][0]["addresses"]] == [
        ("10.20.0.2", "node-a"),
        ("10.20.0.3", None),
    ]
    # The slice leaves it out, as the original's does.
    assert [each["addresses"] for each in after.endpointslices[0]["endpoints"]] == [["10.20.0.2"]]


def test_slice_labels_restored() -> None:
    before = running()
    before.endpointslices[0]["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    (change,) = plan_endpoints(before, SETTINGS).changes
    assert "service.kubernetes.io/headless" not in change.after["metadata"]["labels"]


def test_subset_rounding() -> None:
    numbers = {"a": 8080, "b": 8081, "c": 8082}
    pods = [
        pod(index, ports=[{"name": "http", "containerPort": number, "protocol": "TCP"}], name=f"{letter}-{index}")
        for letter, number in numbers.items()
        for index in range(ord(letter) * 400, ord(letter) * 400 + 367)
    ]
    named = service(ports=[{"port": 80, "protocol": "TCP", "targetPort": "http"}])
    (written,) = settled(services=[named], pods=pods, nodes=[node()]).endpoints
    assert [(len(each["addresses"]), each["ports"][0]["port"]) for each in written["subsets"]] == [
        (334, 8080),
        (334, 8081),
        (332, 8082),
    ]


def test_names() -> None:
    one, other = running(), running()
    assert one.endpointslices == other.endpointslices
    assert one.endpointslices[0]["metadata"]["name"].startswith("web-")


def test_each_deviation_has_a_test() -> None:
    listed = {each.name.replace("-", "_") for each in deviations.load()}
    assert listed == {
        name[len("test_") :]
        for name in globals()
        if name.startswith("test_") and name != "test_each_deviation_has_a_test"
    }

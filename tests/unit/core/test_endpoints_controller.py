# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ownership, scale and refusals of the endpoints controller; what it computes is in tests/conformance/endpoints."""

from __future__ import annotations

import copy
import time

import pytest
from conformance.endpoints.builders import endpoints, node, pod, service

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_objects import read_node
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoints import (
    ClusterObjects,
    EndpointsSettings,
    applied,
    plan_endpoints,
)

BOTH = EndpointsSettings()
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


def actions(objects: ClusterObjects, settings: EndpointsSettings = BOTH) -> list[tuple[str, str, str]]:
    return [(each.action, each.kind, each.service) for each in plan_endpoints(objects, settings).changes]


def settled(settings: EndpointsSettings = BOTH, **lists) -> ClusterObjects:
    objects = ClusterObjects(**lists)
    return applied(objects, plan_endpoints(objects, settings).changes)


def test_a_deleted_service_loses_its_records_and_only_them() -> None:
    before = settled(services=[service(), service("other")], pods=[pod(1)], nodes=[node()])
    foreign = copy.deepcopy(before.endpointslices[0])
    foreign["metadata"].update(name="foreign", labels={MANAGED_BY: "somebody", "kubernetes.io/service-name": "web"})
    before.endpointslices.append(foreign)
    before.services.pop(0)
    assert actions(before) == [("delete", "EndpointSlice", "web"), ("delete", "Endpoints", "web")]


def test_slices_of_a_former_service_of_the_same_name_are_replaced_before_they_go() -> None:
    before = settled(services=[service()], pods=[pod(1)], nodes=[node()])
    before.services = [service(uid="another")]
    changes = [each for each in plan_endpoints(before, BOTH).changes if each.kind == "EndpointSlice"]
    assert [each.action for each in changes] == ["create", "delete"]
    assert changes[0].name != changes[1].name


def test_what_is_not_written_any_more_is_cleaned_up() -> None:
    before = settled(
        services=[service(), service("hand", selector=None)],
        pods=[pod(1)],
        nodes=[node()],
        endpoints=[endpoints("hand")],
    )
    assert actions(before, EndpointsSettings(write="endpointslices")) == [("delete", "Endpoints", "web")]
    assert actions(before, EndpointsSettings(write="endpoints")) == [
        ("delete", "EndpointSlice", "hand"),
        ("delete", "EndpointSlice", "web"),
    ]


def test_only_the_namespaces_asked_for() -> None:
    objects = ClusterObjects(services=[service(), service("far", "away")], nodes=[node()])
    only = EndpointsSettings(namespaces=frozenset({"away"}))
    assert {change.namespace for change in plan_endpoints(objects, only).changes} == {"away"}
    after = applied(objects, plan_endpoints(objects, BOTH).changes)
    after.services = []
    assert {change.namespace for change in plan_endpoints(after, only).changes} == {"away"}


@pytest.mark.parametrize("broken", [{"ports": [{"name": "x"}]}, {"selector": "app=web"}, {"ports": 80}])
def test_a_service_that_cannot_be_read_is_named_and_keeps_its_records(broken: dict[str, object]) -> None:
    before = settled(services=[service(), service("other")], pods=[pod(1), pod(2, "other")], nodes=[node()])
    before.services = [service(**broken), service("other")]
    before.pods = [pod(2, "other", ready=False)]
    plan = plan_endpoints(before, BOTH)
    assert {change.service for change in plan.changes} == {"other"}
    assert len(plan.warnings) == 1
    assert "shop/web" in plan.warnings[0]


def test_a_pod_that_cannot_be_read_is_named_and_the_others_go_on() -> None:
    bad = pod(1)
    bad["status"]["podIPs"] = [7]
    objects = ClusterObjects(services=[service()], pods=[bad, pod(2)], nodes=[node(), {"metadata": {}}])
    plan = plan_endpoints(objects, BOTH)
    assert [warning.split(":")[0] for warning in plan.warnings] == ["Pod shop/web-1", "Node (without a name)"]
    (slice_,) = applied(objects, plan.changes).endpointslices
    assert [each["addresses"] for each in slice_["endpoints"]] == [["10.20.0.3"]]


@pytest.mark.parametrize(
    ("cpu", "thousandths"),
    [
        ("4", 4000),
        (4, 4000),
        ("3920m", 3920),
        ("0.5", 500),
        (".5", 500),
        ("2.", 2000),
        ("+1", 1000),
        ("1500000001n", 1501),
        ("250u", 1),
        ("2k", 2_000_000),
        ("1Ki", 1_024_000),
        ("1e3", 1_000_000),
        ("12E-1", 1200),
        ("1E", 10**21),
        ("", 0),
        ("many", 0),
        ("-1", 0),
        ("1ki", 0),
        (None, 0),
    ],
)
def test_every_spelling_of_an_amount_of_cpu_is_read(cpu: object, thousandths: int) -> None:
    assert read_node(node(cpu=cpu)).cpu == thousandths


def test_a_node_whose_cpu_cannot_be_read_keeps_its_pods() -> None:
    made = settled(services=[service()], pods=[pod(1)], nodes=[node(cpu="many")])
    assert [each["addresses"] for each in made.endpointslices[0]["endpoints"]] == [["10.20.0.2"]]


def test_a_service_on_its_way_out_gets_nothing_new() -> None:
    leaving = service(deletionTimestamp="2026-01-01T00:00:00Z")
    assert actions(ClusterObjects(services=[leaving], pods=[pod(1)], nodes=[node()])) == []


def test_a_taken_name_is_not_used() -> None:
    first = settled(services=[service()], pods=[pod(1)], nodes=[node()]).endpointslices[0]
    foreign = copy.deepcopy(first)
    foreign["metadata"]["labels"] = {}
    again = settled(services=[service()], pods=[pod(1)], nodes=[node()], endpointslices=[foreign])
    names = {item["metadata"]["name"] for item in again.endpointslices}
    assert len(names) == 2
    assert foreign in again.endpointslices


def test_the_trigger_time_is_written_with_a_change_and_is_none_itself() -> None:
    stamped = EndpointsSettings(trigger_time="2026-01-01T00:00:00Z")
    after = settled(stamped, services=[service()], pods=[pod(1)], nodes=[node()])
    for item in after.endpointslices + after.endpoints:
        assert item["metadata"]["annotations"] == {
            "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"
        }
    assert actions(after, EndpointsSettings(trigger_time="2027-01-01T00:00:00Z")) == []


def test_writes_of_a_service_delete_last() -> None:
    before = settled(
        EndpointsSettings(limit=2), services=[service()], pods=[pod(number) for number in range(6)], nodes=[node()]
    )
    before.services = [service(ipFamilies=["IPv6"])]
    order = [each.action for each in plan_endpoints(before, BOTH).changes if each.kind == "EndpointSlice"]
    assert order == ["create", "delete", "delete", "delete"]


def _large_cluster(services: int) -> ClusterObjects:
    """This many Services, ten Pods for each, 500 Nodes."""
    made = ClusterObjects(nodes=[node(f"node-{number}", f"zone-{number % 3}") for number in range(500)])
    for number in range(services):
        made.services.append(service(f"app-{number}", f"space-{number % 50}", labels={"team": "a"}))
    for number in range(10 * services):
        app = number % services
        made.pods.append(pod(number, f"app-{app}", f"node-{number % 500}", namespace=f"space-{app % 50}"))
    return made


def test_a_large_cluster_is_computed_in_five_seconds_and_one_pod_is_one_write(full_figures: bool) -> None:
    """In full that are 50,000 Pods; a fifth of them may take as long, on a core that is shared with other tests."""
    services = 5000 if full_figures else 1000
    objects = _large_cluster(services)
    slices = EndpointsSettings(write="endpointslices")
    for settings, each in ((slices, 1), (BOTH, 2)):
        start = time.process_time()
        plan = plan_endpoints(objects, settings)
        assert time.process_time() - start < 5
        assert len(plan.changes) == services * each
        after = applied(objects, plan.changes)
        start = time.process_time()
        assert plan_endpoints(after, settings).changes == []
        assert time.process_time() - start < 5
        last = pod(10 * services - 1, f"app-{services - 1}", "node-499", namespace="space-49", ready=False)
        after.pods = [*after.pods[:-1], last]
        assert len(plan_endpoints(after, settings).changes) == each


def test_a_service_with_very_many_pods_is_no_worse() -> None:
    objects = ClusterObjects(services=[service()], pods=[pod(number) for number in range(20000)], nodes=[node()])
    start = time.process_time()
    plan = plan_endpoints(objects, EndpointsSettings(write="endpointslices"))
    assert time.process_time() - start < 5
    assert [len(change.after["endpoints"]) for change in plan.changes] == [100] * 200


def test_an_endpoint_without_a_zone_leaves_the_others_their_hints() -> None:
    after = settled(
        services=[service(trafficDistribution="PreferSameZone")],
        pods=[pod(1), pod(2, node="node-b")],
        nodes=[node(), node("node-b", zone="")],
    )
    assert [each.get("hints") for each in after.endpointslices[0]["endpoints"]] == [
        {"forZones": [{"name": "zone-1"}]},
        None,
    ]

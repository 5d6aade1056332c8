# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How endpoints are distributed over slices, and what hints they get, where the recorded cases do not tell."""

from __future__ import annotations

from conformance.endpoints.builders import node, pod, service

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_hints import zone_shares
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_objects import read_node
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_pods import Group, identity, ports_key
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_slicing import pack
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoints import (
    ClusterObjects,
    EndpointsSettings,
    applied,
    plan_endpoints,
)

SLICES = EndpointsSettings(write="endpointslices", limit=4)


def after(objects: ClusterObjects) -> ClusterObjects:
    return applied(objects, plan_endpoints(objects, SLICES).changes)


def with_slices(*groups: tuple[int, ...]) -> ClusterObjects:
    """A Service with one slice for each group of Pods, whatever the controller would have packed."""
    objects = ClusterObjects(services=[service()], nodes=[node()])
    for group in groups:
        alone = ClusterObjects(objects.services, [pod(number) for number in group], objects.nodes, [], [])
        (made,) = after(alone).endpointslices
        made["metadata"]["name"] = f"slice-{len(objects.endpointslices)}"
        objects.endpointslices.append(made)
        objects.pods += alone.pods
    return objects


def sizes(objects: ClusterObjects) -> dict[str, int]:
    return {item["metadata"]["name"]: len(item["endpoints"]) for item in objects.endpointslices}


def test_a_new_list_of_ports_is_an_update_of_the_slices_that_would_go() -> None:
    objects = with_slices((1, 2, 3, 4), (5, 6))
    objects.services = [service(ports=[{"port": 80, "targetPort": 8080}])]
    changes = plan_endpoints(objects, SLICES).changes
    assert [(each.action, each.name) for each in changes] == [("update", "slice-0"), ("update", "slice-1")]
    assert all(each.after["ports"][0]["port"] == 8080 for each in changes)


def test_changed_slices_are_filled_the_fullest_first() -> None:
    objects = with_slices((1, 2), (5, 6, 7), (8, 9))
    # One Pod of the first two is not ready any more, and one is new.
    objects.pods = [pod(1, ready=False), pod(2), pod(5, ready=False), pod(6), pod(7), pod(8), pod(9), pod(20)]
    assert sizes(after(objects)) == {"slice-0": 2, "slice-1": 4, "slice-2": 2}


def test_without_a_changed_slice_the_one_with_the_least_room_that_is_enough_is_filled() -> None:
    objects = with_slices((1,), (5, 6), (8, 9, 10))
    objects.pods += [pod(20), pod(21)]
    assert sizes(after(objects)) == {"slice-0": 1, "slice-1": 4, "slice-2": 3}
    changes = plan_endpoints(objects, SLICES).changes
    assert [each.name for each in changes] == ["slice-1"]


def test_new_slices_come_before_changed_ones() -> None:
    objects = with_slices((1, 2, 3))
    objects.pods = [pod(1, ready=False), *(pod(number) for number in range(2, 12))]
    changes = plan_endpoints(objects, SLICES).changes
    assert [each.action for each in changes] == ["create", "create", "update"]


def test_nothing_is_rebalanced() -> None:
    objects = with_slices((1,), (5,), (8,))
    assert plan_endpoints(objects, SLICES).changes == []


def test_only_sidecars_count_among_init_containers() -> None:
    named = pod(1)
    port = {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    ports = [{"port": 80, "protocol": "TCP", "targetPort": "http"}]
    for policy, expected in ((None, []), ("Always", [8080])):
        named["spec"]["initContainers"] = [{"name": "side", "ports": [port], "restartPolicy": policy}]
        (made,) = after(ClusterObjects([service(ports=ports)], [named], [node()])).endpointslices
        assert [each["port"] for each in made["ports"]] == expected


def test_shares_of_zones() -> None:
    def shares(*nodes: dict) -> dict[str, float]:
        return zone_shares([read_node(each) for each in nodes])

    two = [node("a", "zone-1", "1500m"), node("b", "zone-2", "0.5")]
    assert shares(*two) == {"zone-1": 0.75, "zone-2": 0.25}
    control = {"node-role.kubernetes.io/control-plane": ""}
    assert shares(*two, node("c", "zone-1", "100", **control)) == {"zone-1": 0.75, "zone-2": 0.25}
    sick = node("d", "", "0")
    assert shares(*two, sick) == {}
    sick["status"]["conditions"] = []
    assert shares(*two, sick) == {"zone-1": 0.75, "zone-2": 0.25}
    assert shares() == {}


def auto(pods: list[dict], before: ClusterObjects | None = None) -> ClusterObjects:
    wanted = service(annotations={"service.kubernetes.io/topology-mode": "Auto"})
    nodes = [node("node-a", "zone-1"), node("node-b", "zone-2")]
    return ClusterObjects([wanted], pods, nodes, [], before.endpointslices if before else [])


def test_one_changed_pod_leaves_the_hints_of_the_other_slices() -> None:
    # All in one zone, so that half of them have hints for the other one, in the first two slices.
    pods = [pod(number, node="node-a") for number in range(12)]
    before = after(auto(pods))
    last = {each["targetRef"]["name"] for each in before.endpointslices[-1]["endpoints"]}
    pods.remove(next(each for each in pods if each["metadata"]["name"] in last))
    changes = plan_endpoints(auto(pods, before), SLICES).changes
    assert [each.name for each in changes] == [before.endpointslices[-1]["metadata"]["name"]]


def test_hints_are_shared_out_anew_where_they_do_not_fit_any_more() -> None:
    # All in one zone: half of them are for the other one.
    pods = [pod(number, node="node-a") for number in range(12)]
    before = after(auto(pods))
    hints = [each["hints"]["forZones"][0]["name"] for item in before.endpointslices for each in item["endpoints"]]
    assert sorted(hints) == ["zone-1"] * 6 + ["zone-2"] * 6
    # Only the Pods of one slice are left. It would not be written, but its hints are all for one zone.
    stays = before.endpointslices[0]
    assert len({each["hints"]["forZones"][0]["name"] for each in stays["endpoints"]}) == 1
    names = {each["targetRef"]["name"] for each in stays["endpoints"]}
    few = after(auto([each for each in pods if each["metadata"]["name"] in names], before))
    (left,) = few.endpointslices
    assert left["metadata"]["name"] == stays["metadata"]["name"]
    assert sorted(each["hints"]["forZones"][0]["name"] for each in left["endpoints"]) == ["zone-1"] * 2 + ["zone-2"] * 2


def test_an_empty_slice_with_other_labels_is_filled_and_stays() -> None:
    empty = {"metadata": {"name": "web-1"}, "addressType": "IPv4", "ports": [], "endpoints": []}
    endpoint = {"addresses": ["10.20.0.2"], "conditions": {"ready": True}}
    group = Group([], {identity(endpoint): endpoint})
    full = pack([empty], "IPv4", {ports_key([]): group}, {"web-1": True}, 100, True)
    assert [(draft.current, draft.endpoints) for draft in full.kept] == [(empty, [endpoint])]
    other = {**empty, "metadata": {"name": "web-2"}, "endpoints": [endpoint]}
    both = pack([empty, other], "IPv4", {ports_key([]): group}, {"web-1": True, "web-2": False}, 100, True)
    assert [draft.current for draft in both.kept] == [empty, other]
    assert both.deleted == []

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any history of a cluster ends in records that are right, within limits, and written as seldom as possible."""

from __future__ import annotations

from collections import Counter

from conformance.endpoints.builders import node, pod, service
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoints import (
    ClusterObjects,
    EndpointsSettings,
    applied,
    plan_endpoints,
)

LIMIT = 4
SETTINGS = EndpointsSettings(limit=LIMIT)
NODES = [node("node-a", "zone-1"), node("node-b", "zone-2", "2"), node("node-c", "zone-3", "1500m")]
PORTS = {
    "named": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
    "other": [{"name": "http", "containerPort": 9090, "protocol": "TCP"}],
    "none": [],
}

pods = st.dictionaries(
    st.integers(0, 15),
    st.tuples(
        st.sampled_from(["node-a", "node-b", "node-c", "gone", ""]),
        st.booleans(),
        st.booleans(),
        st.sampled_from(sorted(PORTS)),
    ),
)
services = st.fixed_dictionaries(
    {
        "publishNotReadyAddresses": st.booleans(),
        "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"]]),
        "clusterIP": st.sampled_from(["None", "10.96.0.10"]),
        "trafficDistribution": st.sampled_from([None, "PreferClose", "PreferSameZone", "PreferSameNode"]),
        "annotations": st.sampled_from([{}, {"service.kubernetes.io/topology-mode": "Auto"}]),
        "labels": st.sampled_from([{}, {"team": "a"}]),
        "ports": st.sampled_from(
            [
                [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                [{"port": 80, "protocol": "TCP", "targetPort": "http"}],
                [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": 81}],
            ]
        ),
    }
)
states = st.lists(st.tuples(st.none() | services, pods), min_size=1, max_size=5)


def objects_of(state, before: ClusterObjects) -> ClusterObjects:
    spec, wanted = state
    made = [
        pod(
            number,
            node=place,
            ready=ready,
            ports=PORTS[ports],
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if terminating else {}),
        )
        for number, (place, ready, terminating, ports) in wanted.items()
    ]
    return ClusterObjects(
        [] if spec is None else [service(**spec)], made, NODES, before.endpoints, before.endpointslices
    )


def meaning(objects: ClusterObjects) -> Counter[str]:
    """Every endpoint with its slice's type, ports and labels; hints aside, since Auto may choose."""
    return Counter(
        repr((item["addressType"], item["ports"], item["metadata"]["labels"], {**each, "hints": None}))
        for item in objects.endpointslices
        for each in item["endpoints"]
    )


@given(states)
def test_any_history_ends_where_a_fresh_start_ends(history) -> None:
    objects = ClusterObjects()
    for state in history:
        objects = objects_of(state, objects)
        objects = applied(objects, plan_endpoints(objects, SETTINGS).changes)
        assert plan_endpoints(objects, SETTINGS).changes == []
        assert all(len(item["endpoints"]) <= LIMIT for item in objects.endpointslices)
    fresh = objects_of(history[-1], ClusterObjects())
    fresh = applied(fresh, plan_endpoints(fresh, SETTINGS).changes)
    assert meaning(objects) == meaning(fresh)
    assert [each.get("subsets") for each in objects.endpoints] == [each.get("subsets") for each in fresh.endpoints]


@given(services, pods, st.data())
def test_one_changed_pod_is_at_most_one_write_a_family(spec, wanted, data) -> None:
    spec["annotations"] = {}
    spec["trafficDistribution"] = None
    wanted = {**wanted, 3: ("node-a", True, False, "named")}
    before = objects_of((spec, wanted), ClusterObjects())
    before = applied(before, plan_endpoints(before, SETTINGS).changes)
    # Its ports decide in which slice it stands: unchanged here.
    wanted[3] = (data.draw(st.sampled_from(["node-b", "node-c"])), data.draw(st.booleans()), False, "named")
    changes = plan_endpoints(objects_of((spec, wanted), before), SETTINGS).changes
    writes = Counter(change.kind for change in changes)
    assert writes["EndpointSlice"] == len(spec["ipFamilies"])
    assert writes["Endpoints"] <= 1


@given(states, st.integers(0, 20))
def test_a_pass_that_was_cut_off_loses_and_doubles_nothing(history, steps) -> None:
    objects = ClusterObjects()
    for state in history[:-1]:
        objects = objects_of(state, objects)
        objects = applied(objects, plan_endpoints(objects, SETTINGS).changes)
    before = meaning(objects)
    objects = objects_of(history[-1], objects)
    changes = plan_endpoints(objects, SETTINGS).changes
    cut = applied(objects, changes[:steps])
    healed = applied(cut, plan_endpoints(cut, SETTINGS).changes)
    whole = applied(objects, changes)
    assert meaning(healed) == meaning(whole)
    assert plan_endpoints(healed, SETTINGS).changes == []
    # At no moment is an endpoint missing that was there before and shall be there after.
    for number in range(len(changes) + 1):
        now = meaning(applied(objects, changes[:number]))
        assert set(before) & set(meaning(whole)) <= set(now)


@given(services, pods)
def test_hints_are_for_known_zones_and_for_ready_endpoints_only(spec, wanted) -> None:
    after = objects_of((spec, wanted), ClusterObjects())
    after = applied(after, plan_endpoints(after, SETTINGS).changes)
    for item in after.endpointslices:
        hinted = [each for each in item["endpoints"] if "hints" in each]
        assert all(each["conditions"]["ready"] for each in hinted)
        for each in hinted:
            assert {zone["name"] for zone in each["hints"].get("forZones", [])} <= {"zone-1", "zone-2", "zone-3"}
            if not spec["annotations"] and "forZones" in each["hints"]:
                assert each["hints"]["forZones"] == [{"name": each["zone"]}]

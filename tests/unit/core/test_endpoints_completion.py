# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests completed: Services with addresses, Pods with slices, and what was given left alone."""

from __future__ import annotations

import copy

import pytest
from conformance.endpoints.builders import endpoints, node, pod, service

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.allocations import Allocations, Ranges
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_completion import complete
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_inventory import Member, Published
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

RANGES = Ranges(("10.96.0.0/12",), "30000-32767")


def manifest(name="web", **spec):
    """A Service as people write it."""
    made = service(name, **{"clusterIP": None, "ipFamilies": None, **spec})
    del made["metadata"]["uid"]
    return made


def slices(objects):
    return [item for item in complete(objects, Allocations(), RANGES).objects if item["kind"] == "EndpointSlice"]


def test_a_service_and_its_pods_are_enough() -> None:
    given = [manifest(), pod(1), pod(2, ready=False), {"kind": "ConfigMap", "metadata": {"name": "x"}}]
    before = copy.deepcopy(given)
    done = complete(given, Allocations(), RANGES)
    assert given == before, "the manifests themselves are not changed"
    assert done.objects[3] is given[3]
    assert done.objects[0]["spec"]["clusterIP"] == done.allocations.cluster_ips["shop/web"]["IPv4"]
    (written,) = (item for item in done.objects if item["kind"] == "EndpointSlice")
    assert [(each["addresses"][0], each["conditions"]["ready"]) for each in written["endpoints"]] == [
        ("10.20.0.2", True),
        ("10.20.0.3", False),
    ]
    again = complete(list(reversed(given)), done.allocations, RANGES)
    assert [item for item in again.objects if item["kind"] == "EndpointSlice"] == [written]
    assert again.allocations == done.allocations


def test_where_there_are_nodes_a_pod_needs_its_own() -> None:
    (written,) = slices([manifest(), pod(1), pod(2, node="gone"), node()])
    assert [each["zone"] for each in written["endpoints"]] == ["zone-1"]


def test_given_slices_and_endpoints_are_kept() -> None:
    given = slices([manifest(), pod(1)])[0]
    given["metadata"].update(name="given", labels={"kubernetes.io/service-name": "web"})
    assert slices([manifest(), pod(1), pod(2), given]) == [given]
    assert slices([manifest(), pod(1), endpoints()]) == []


def _everything():
    """One object of each kind, with every field that the controller goes by."""
    web = manifest(
        annotations={"service.kubernetes.io/topology-mode": "Auto"},
        labels={"team": "a"},
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        trafficDistribution="PreferClose",
        ipFamilies=["IPv4"],
        ipFamilyPolicy="SingleStack",
        publishNotReadyAddresses=False,
        ports=[
            {"name": "a", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
            {"name": "b", "port": 81, "targetPort": 81, "protocol": "UDP"},
        ],
    )
    broken = pod(2, ports=[{"name": "http", "containerPort": 80, "protocol": "TCP"}])
    broken["spec"].update(
        hostname="h",
        subdomain="web",
        initContainers=[{"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 9}]}],
    )
    written = endpoints("hand")
    written["subsets"][0]["addresses"][0].update(
        hostname="x", nodeName="node-a", targetRef={"kind": "Pod", "name": "q", "namespace": "shop", "uid": "u"}
    )
    return {"Service": web, "Pod": broken, "Node": node(), "Endpoints": written}


def _places(value, before=()):
    """The way to each field of an object, but for its kind: who reads manifests sees to that."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        if (*before, key) != ("kind",):
            yield (*before, key)
            yield from _places(below, (*before, key))


@pytest.mark.parametrize("kind", ["Service", "Pod", "Node", "Endpoints"])
@pytest.mark.parametrize("wrong", [None, 5, "x", "127.0.0.1", True, [[]], {"a": {}}, [None], [{"name": 5}]], ids=repr)
def test_whatever_stands_in_a_field_of_one_object_the_others_go_on(kind: str, wrong: object) -> None:
    for place in _places(_everything()[kind]):
        objects = _everything()
        holder = objects[kind]
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = copy.deepcopy(wrong)
        other = [manifest("ok"), pod(9, "ok", "node-b"), node("node-b", "zone-2")]
        neighbour = pod(1, node="node-b", ports=[{"name": "http", "containerPort": 80}])
        done = complete([*objects.values(), manifest("hand", selector=None), *other, neighbour], Allocations(), RANGES)
        served = {
            service.name: {each.addresses[0] for piece in service.slices for each in piece.endpoints}
            for service in build_snapshot(done.objects).services()[0]
            if service.cluster_ips
        }
        assert served["ok"] == {"10.20.0.10"}, place
        if kind != "Service":
            assert "10.20.0.2" in served["web"], place


@pytest.mark.parametrize(
    ("kind", "place", "wrong", "said"),
    [
        ("Service", ("ports", 0, "name"), 80, "Service shop/web: name must be a string, not 80"),
        ("Service", ("selector", "app"), 1, "Service shop/web: selector 'app' must be a string, not 1"),
        ("Service", ("ports", 1, "targetPort"), 99999, "Service shop/web: targetPort 99999 is not in 1 to 65535"),
        (
            "Service",
            ("publishNotReadyAddresses",),
            "false",
            "Service shop/web: publishNotReadyAddresses must be true or false, not 'false'",
        ),
        ("Pod", ("hostname",), "Bad_Name", "Pod shop/web-2: hostname 'Bad_Name' is not a DNS label"),
        ("Pod", ("containers", 0, "ports"), [None], "Pod shop/web-2: ports has an empty entry"),
    ],
)
def test_an_object_that_no_api_server_takes_is_refused_by_name(kind, place, wrong, said) -> None:
    objects = _everything()
    holder = objects[kind]["spec"]
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = wrong
    assert [str(each) for each in complete(objects.values(), Allocations(), RANGES).refused] == [said]


def test_a_node_that_cannot_be_read_keeps_its_pods() -> None:
    broken = {"kind": "Node", "metadata": {"name": "node-a"}, "status": 5}
    (written,) = slices([manifest(), pod(1), broken, node("node-b")])
    assert [each["addresses"] for each in written["endpoints"]] == [["10.20.0.2"]]


def test_what_of_written_endpoints_cannot_be_used_is_told() -> None:
    written = endpoints(addresses=("10.20.9.1", "10.20.9.300"))
    done = complete([manifest(selector=None), written], Allocations(), RANGES)
    (made,) = (item for item in done.objects if item["kind"] == "EndpointSlice")
    assert [each["addresses"] for each in made["endpoints"]] == [["10.20.9.1"]]
    assert done.warnings == ["Endpoints shop/web: '10.20.9.300' is no IP address and is not mirrored."]


def test_published_hosts_stand_behind_a_service_without_slices_of_its_own() -> None:
    hosts = [Published("shop", "db", [Member("10.20.9.1", {}, True, hostname="db-1"), Member("10.20.9.2", {}, False)])]
    bare = manifest("db", selector=None, ports=[{"name": "http", "port": 80, "targetPort": 8080}])

    def completed(*given):
        return complete(given, Allocations(), RANGES, published=hosts)

    (written,) = (item for item in completed(bare).objects if item["kind"] == "EndpointSlice")
    assert written["ports"][0]["port"] == 8080
    assert [(each["addresses"][0], each["conditions"]["ready"]) for each in written["endpoints"]] == [
        ("10.20.9.1", True),
        ("10.20.9.2", False),
    ]
    assert completed(bare).objects == completed(*reversed([bare])).objects
    (said,) = completed(manifest("other")).warnings
    assert "shop/db" in said


def test_hand_written_endpoints_are_mirrored() -> None:
    (mirror,) = slices([manifest(selector=None), endpoints(addresses=("10.20.9.1", "10.20.9.2"))])
    assert [each["addresses"] for each in mirror["endpoints"]] == [["10.20.9.1"], ["10.20.9.2"]]


def test_what_cannot_be_read_is_named_and_left_alone() -> None:
    broken = [
        manifest("a", ports=[{"name": "x"}]),
        manifest("b", type="NodePort", ports=[{"port": 80, "nodePort": "30080"}]),
        manifest("c", clusterIP=10),
        manifest("d", clusterIP="10.96.0.300"),
        {"kind": "Service", "metadata": {}},
        {"kind": "Pod", "metadata": {"name": "p"}},
        {"kind": "Endpoints", "metadata": {"name": "e", "labels": ["x"]}},
        {"kind": "Service", "metadata": {"name": "a\nb"}, "spec": {}},
    ]
    done = complete([*broken, manifest(), pod(1)], Allocations(), RANGES)
    assert [(error.kind, error.key) for error in done.refused] == [
        ("Service", "shop/a"),
        ("Service", "shop/b"),
        ("Service", "shop/c"),
        ("Service", "shop/d"),
        ("Service", "(without a name)"),
        ("Pod", "p"),
        ("Endpoints", "e"),
        ("Service", "'a\\nb'"),
    ]
    assert done.objects[:8] == broken
    assert set(done.allocations.cluster_ips) == {"shop/web"}


def test_without_ranges_the_services_without_address_are_named() -> None:
    done = complete([manifest(), manifest("headless", clusterIP="None"), service("given")], Allocations(), Ranges())
    assert done.warnings == ["Service shop/web has no clusterIP, and there is no range to take one from."]


def test_of_two_with_the_same_name_the_first_counts() -> None:
    given = [manifest(), manifest(selector={"app": "other"}), pod(1), pod(2, "other")]
    assert [each["addresses"] for item in slices(given) for each in item["endpoints"]] == [["10.20.0.2"]]


def test_endpoints_that_cannot_be_read_are_not_mirrored() -> None:
    broken = endpoints("hand")
    broken["subsets"] = [{"addresses": [{"address": "10.20.0.1"}]}]
    assert (
        slices([manifest("hand", selector=None), broken, manifest(), pod(1)])[0]["metadata"]["labels"][
            "kubernetes.io/service-name"
        ]
        == "web"
    )

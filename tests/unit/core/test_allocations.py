# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and node ports for Services of manifests: Kubernetes' bands, stable, and conflicts by name."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from conformance.endpoints.builders import service
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.allocations import Allocations, Ranges, allocate
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError, SnapshotError

DUAL = Ranges(("10.96.0.0/24", "fd00:96::/112"), "30000-30099")


def bare(name="web", **spec):
    """A Service as people write it: without addresses and families."""
    return service(name, **{"clusterIP": None, "ipFamilies": None, **spec})


def run(*services, previous=None, ranges=DUAL):
    return allocate(services, previous or Allocations(), ranges)


def test_addresses_come_from_the_upper_band() -> None:
    made, chosen = run(*(bare(f"app-{number}") for number in range(200)))
    numbers = {int(ip_address(item["spec"]["clusterIP"])) - int(ip_address("10.96.0.0")) for item in made}
    assert len(numbers) == 200
    # 256 addresses: a lower band of 16, the network's and the broadcast address left out.
    assert min(numbers) >= 17
    assert max(numbers) <= 254
    assert all(item["spec"]["clusterIPs"] == [item["spec"]["clusterIP"]] for item in made)
    assert chosen.cluster_ips["shop/app-7"] == {"IPv4": made[7]["spec"]["clusterIP"]}


def test_the_lower_band_is_the_last_resort() -> None:
    made, _chosen = run(*(bare(f"app-{number}") for number in range(253)))
    last = {int(ip_address(item["spec"]["clusterIP"])) & 255 for item in made}
    assert last == set(range(2, 255))
    with pytest.raises(SnapshotError, match=r"gets no address: 10\.96\.0\.0/24 is used up"):
        run(*(bare(f"app-{number}") for number in range(254)))


@pytest.mark.parametrize(
    ("text", "lowest"), [("10.96.0.0/12", 257), ("10.96.0.0/20", 257), ("10.96.0.0/22", 65), ("10.96.0.0/28", 2)]
)
def test_the_size_of_the_lower_band(text: str, lowest: int) -> None:
    ranges = Ranges((text,))
    network = ip_network(text)
    number = min(100, network.num_addresses - 3)
    made, _chosen = run(*(bare(f"app-{each}") for each in range(number)), ranges=ranges)
    offsets = [int(ip_address(item["spec"]["clusterIP"])) - int(network.network_address) for item in made]
    assert min(offsets) >= lowest


def test_node_ports_come_from_their_upper_band_and_are_shared_by_protocols() -> None:
    dns = [{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}]
    made, chosen = run(bare("dns", type="NodePort", ports=dns), bare("web", type="LoadBalancer"))
    first, second = (port["nodePort"] for port in made[0]["spec"]["ports"])
    assert first == second
    assert 30016 <= first <= 30099
    assert made[1]["spec"]["ports"][0]["nodePort"] not in (0, first)
    assert chosen.node_ports["shop/dns"] == {"53": first}


def test_a_given_node_port_serves_the_other_protocol_too() -> None:
    dns = [{"port": 53, "protocol": "TCP", "nodePort": 30053}, {"name": "udp", "port": 53, "protocol": "UDP"}]
    made, chosen = run(bare("dns", type="NodePort", ports=dns))
    assert [port["nodePort"] for port in made[0]["spec"]["ports"]] == [30053, 30053]
    assert chosen.node_ports == {}


def test_who_needs_no_node_port_gets_none() -> None:
    made, chosen = run(bare("a"), bare("b", type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert not any("nodePort" in port for item in made for port in item["spec"]["ports"])
    assert chosen.node_ports == {}


def test_a_health_check_gets_a_node_port() -> None:
    made, _chosen = run(bare(type="LoadBalancer", externalTrafficPolicy="Local"))
    spec = made[0]["spec"]
    assert spec["healthCheckNodePort"] in range(30000, 30100)
    assert spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]


def test_families() -> None:
    given_v6 = bare("six", clusterIP="fd00:96::1234")
    cases = [
        (bare("single"), ["IPv4"], "SingleStack"),
        (bare("prefer", ipFamilyPolicy="PreferDualStack"), ["IPv4", "IPv6"], "PreferDualStack"),
        (bare("require", ipFamilyPolicy="RequireDualStack"), ["IPv4", "IPv6"], "RequireDualStack"),
        (bare("v6", ipFamilies=["IPv6"]), ["IPv6"], "SingleStack"),
        (given_v6, ["IPv6"], "SingleStack"),
        (bare("headless", clusterIP="None"), ["IPv4"], "SingleStack"),
        (bare("bare", clusterIP="None", selector=None), ["IPv4", "IPv6"], "RequireDualStack"),
    ]
    made, _chosen = run(*(each[0] for each in cases))
    assert [(item["spec"]["ipFamilies"], item["spec"]["ipFamilyPolicy"]) for item in made] == [
        (families, policy) for _item, families, policy in cases
    ]
    by_name = {item["metadata"]["name"]: item["spec"] for item in made}
    assert [":" in address for address in by_name["require"]["clusterIPs"]] == [False, True]
    assert by_name["headless"]["clusterIPs"] == ["None"]
    assert by_name["six"]["clusterIP"] == "fd00:96::1234"
    with pytest.raises(SnapshotError, match="shop/require requires two families"):
        run(bare("require", ipFamilyPolicy="RequireDualStack"), ranges=Ranges(("10.96.0.0/24",)))


def test_without_ranges_nothing_is_chosen_and_nothing_refused() -> None:
    services = [
        bare("a", type="NodePort"),
        bare("b", clusterIP="172.20.0.1", type="NodePort", ports=[{"port": 80, "nodePort": 8080}]),
        bare("c", ipFamilyPolicy="RequireDualStack"),
    ]
    made, chosen = run(*services, ranges=Ranges())
    assert chosen == Allocations()
    assert [item["spec"].get("clusterIP") for item in made] == [None, "172.20.0.1", None]
    assert [item["spec"]["ports"][0].get("nodePort") for item in made] == [None, 8080, None]


def test_external_names_get_nothing() -> None:
    made, chosen = run(bare(type="ExternalName", externalName="example.org"))
    assert "clusterIP" not in made[0]["spec"]
    assert chosen == Allocations()


def test_every_conflict_is_named() -> None:
    with pytest.raises(SnapshotError) as caught:
        run(
            bare("a", clusterIP="10.96.0.9"),
            bare("b", clusterIP="10.96.0.9"),
            bare("c", clusterIP="10.97.0.9"),
            bare("d", clusterIP="10.96.0.1"),
            bare("e", type="NodePort", ports=[{"port": 80, "nodePort": 30007}]),
            bare("f", type="NodePort", ports=[{"port": 80, "nodePort": 30007}]),
            bare("g", type="NodePort", ports=[{"port": 80, "nodePort": 8080}]),
        )
    assert str(caught.value).split(". ") == [
        "Service shop/b asks for the address 10.96.0.9, which shop/a has",
        "Service shop/c asks for the address 10.97.0.9, which is not in 10.96.0.0/24, fd00:96::/112",
        "Service shop/d asks for the address 10.96.0.1, which default/kubernetes has",
        "Service shop/f asks for the node port 30007, which shop/e has",
        "Service shop/g asks for the node port 8080, which is not in 30000-30099.",
    ]


def test_the_api_servers_own_service_may_have_the_first_address() -> None:
    own = service("kubernetes", "default", clusterIP="10.96.0.1", selector=None)
    made, _chosen = run(own)
    assert made[0]["spec"]["clusterIP"] == "10.96.0.1"


def test_a_wish_for_what_another_service_got_earlier_is_an_error() -> None:
    _made, chosen = run(bare("a"))
    taken = chosen.cluster_ips["shop/a"]["IPv4"]
    with pytest.raises(SnapshotError, match=f"shop/b asks for {taken}, which shop/a has since an earlier run"):
        run(bare("a"), bare("b", clusterIP=taken), previous=chosen)


@pytest.mark.parametrize(
    "texts", [("10.96.0.0/33",), ("10.96.0.0/24", "10.97.0.0/24"), ("10.96.0.1/24",), ("10.0.0.0/31",)]
)
def test_wrong_ranges(texts: tuple[str, ...]) -> None:
    with pytest.raises(OptionError):
        run(bare(), ranges=Ranges(texts))
    with pytest.raises(OptionError):
        run(bare(), ranges=Ranges(node_ports="32767-30000"))


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"schema": 2, "clusterIPs": {}, "nodePorts": {}},
        {"schema": 1, "clusterIPs": {"a/b": {"IPv4": "x"}}, "nodePorts": {}},
    ],
)
def test_a_file_that_is_none(content: object) -> None:
    with pytest.raises(SnapshotError, match="allocations file"):
        Allocations.from_json(content)


names = st.sets(st.sampled_from([f"app-{number}" for number in range(40)]))


@given(st.lists(names, min_size=1, max_size=4))
def test_nobodys_address_moves_and_nobody_shares(history) -> None:
    chosen = Allocations()
    for wanted in history:
        before = chosen
        services = [bare(name, type="NodePort", ipFamilyPolicy="PreferDualStack") for name in sorted(wanted)]
        made, chosen = allocate(services, Allocations.from_json(json.loads(json.dumps(before.as_json()))), DUAL)
        addresses = [address for item in made for address in item["spec"]["clusterIPs"]]
        ports = [port["nodePort"] for item in made for port in item["spec"]["ports"]]
        assert len(set(addresses)) == len(addresses) == 2 * len(wanted)
        assert len(set(ports)) == len(ports)
        assert set(chosen.cluster_ips) == {f"shop/{name}" for name in wanted}
        for key in set(before.cluster_ips) & set(chosen.cluster_ips):
            assert before.cluster_ips[key] == chosen.cluster_ips[key]
            assert before.node_ports[key] == chosen.node_ports[key]
        again, same = allocate(list(reversed(services)), chosen, DUAL)
        assert same == chosen
        assert again[::-1] == made

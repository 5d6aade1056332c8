# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which UDP flows are forgotten, and above all which are not."""

from __future__ import annotations

import time

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import stale_flows
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.stale_flows import (
    Flow,
    stale,
    udp_frontends,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import (
    BALANCE,
    CLUSTER_IP,
    LOAD_BALANCER,
    NODE_PORT,
    REJECT,
    Backend,
    Frontend,
    PortRules,
    Target,
)

VIP = ("10.96.0.10", 53)
POD = ("10.128.0.5", 5353)
OTHER_POD = ("10.128.0.6", 5353)
NODE = "198.18.0.1"
NODE_PORT_NUMBER = 30053


def rules(*backends: tuple[str, int], protocol: str = "UDP", family: int = 4, vip: tuple[str, int] = VIP) -> PortRules:
    """A DNS service with a ClusterIP, a LoadBalancer IP and a node port."""
    ends = tuple(Backend(address, port, local=False) for address, port in backends)
    target = Target(BALANCE, ends) if ends else Target(REJECT, ())
    frontends = (
        Frontend(CLUSTER_IP, *vip),
        Frontend(LOAD_BALANCER, "198.18.9.9", 53),
        Frontend(NODE_PORT, "", NODE_PORT_NUMBER),
    )
    return PortRules("kube-system/dns", "dns", protocol, family, 0, False, frontends, target, target, target, ends)


def flow(to: tuple[str, int], answered_by: tuple[str, int], zone: int = 0) -> Flow:
    return Flow("10.128.0.99", 40000, *to, *answered_by, zone)


def is_stale(
    one: Flow,
    *table: PortRules,
    gone: frozenset[tuple[str, int]] = frozenset(),
    gone_ports: frozenset[int] = frozenset(),
) -> bool:
    frontends, node_ports = udp_frontends(table, 4)
    return stale([one], frontends, node_ports, {NODE, "127.0.0.1"}, gone, gone_ports) == [one]


@pytest.mark.parametrize("to", [VIP, ("198.18.9.9", 53), (NODE, NODE_PORT_NUMBER)])
def test_a_flow_to_a_current_backend_stays_and_one_to_a_former_goes(to: tuple[str, int]) -> None:
    assert not is_stale(flow(to, POD), rules(POD, OTHER_POD))
    assert is_stale(flow(to, POD), rules(OTHER_POD))
    assert is_stale(flow(to, POD), rules())


def test_the_port_of_a_backend_counts() -> None:
    assert is_stale(flow(VIP, (POD[0], 53)), rules(POD))


def test_a_flow_that_was_never_translated_goes_once_there_is_a_frontend() -> None:
    assert is_stale(flow(VIP, VIP), rules(POD))
    assert is_stale(flow(VIP, VIP), rules())
    assert is_stale(flow((NODE, NODE_PORT_NUMBER), (NODE, NODE_PORT_NUMBER)), rules(POD))
    assert not is_stale(flow(VIP, VIP))


def test_other_traffic_is_left_alone() -> None:
    elsewhere = ("198.18.0.77", NODE_PORT_NUMBER)
    assert not is_stale(flow(elsewhere, elsewhere), rules(POD))
    assert not is_stale(flow(elsewhere, ("10.128.0.200", 53)), rules(POD))
    assert not is_stale(flow((VIP[0], 54), ("10.128.0.200", 53)), rules(POD))


def test_a_backend_on_the_frontends_own_address_stays() -> None:
    """A process of the node that is the endpoint, reached at the same address and port."""
    own = (NODE, NODE_PORT_NUMBER)
    assert not is_stale(flow(own, own), rules(own))


def test_zones_of_others_keep_their_untranslated_half() -> None:
    assert not is_stale(flow(VIP, VIP, zone=7), rules(POD))
    assert is_stale(flow(VIP, OTHER_POD, zone=7), rules(POD))


def test_a_frontend_that_is_gone_loses_its_translated_flows_only() -> None:
    gone = frozenset({VIP})
    ports = frozenset({NODE_PORT_NUMBER})
    node_port = (NODE, NODE_PORT_NUMBER)
    assert is_stale(flow(VIP, POD), gone=gone)
    assert not is_stale(flow(VIP, VIP), gone=gone)
    assert is_stale(flow(node_port, POD), gone_ports=ports)
    assert not is_stale(flow(node_port, node_port), gone_ports=ports)
    assert not is_stale(flow(("198.18.0.77", NODE_PORT_NUMBER), POD), gone_ports=ports)


def test_a_proxy_on_the_node_is_known_by_its_port() -> None:
    frontends = {VIP: frozenset({(stale_flows.ANY_ADDRESS, 41000)})}
    kept, lost = flow(VIP, (NODE, 41000)), flow(VIP, (NODE, 41001))
    assert stale([kept, lost], frontends, {}, set()) == [lost]


def test_only_udp_of_the_family_is_looked_at() -> None:
    assert udp_frontends([rules(POD, protocol="TCP"), rules(POD, protocol="SCTP")], 4) == ({}, {})
    assert udp_frontends([rules(POD)], 6) == ({}, {})


def test_services_that_share_a_frontend_share_their_backends() -> None:
    frontends, node_ports = udp_frontends([rules(POD), rules(OTHER_POD)], 4)
    assert frontends[VIP] == {POD, OTHER_POD}
    assert node_ports[NODE_PORT_NUMBER] == {POD, OTHER_POD}


def test_a_hundred_thousand_flows_are_quick() -> None:
    flows = [
        Flow(f"10.128.{n >> 8 & 255}.{n & 255}", n & 65535, "10.96.1.1", n % 9000, "10.128.0.5", 53, 0)
        for n in range(100_000)
    ]
    frontends = {("10.96.1.1", port): frozenset({("10.128.0.5", 53)}) for port in range(0, 9000, 2)}
    frontends[("10.96.1.1", 2)] = frozenset()
    begin = time.process_time()
    found = stale(flows, frontends, {}, set())
    # A tenth of that on an idle core; what is quadratic takes minutes.
    assert time.process_time() - begin < 3
    assert {one.orig_dport for one in found} == {2}

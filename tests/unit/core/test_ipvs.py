# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ipvs mode's programs: which virtual servers, sets and addresses a service table makes."""

from __future__ import annotations

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import ipvs_rules
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler, IpvsOptions
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import (
    BALANCE,
    CLUSTER_IP,
    DROP,
    EXTERNAL_IP,
    LOAD_BALANCER,
    NODE_PORT,
    REJECT,
    Backend,
    Frontend,
    PortRules,
    Target,
)

HERE, THERE = Backend("10.128.0.1", 8080, True), Backend("10.129.0.1", 8080, False)
BOTH, LOCAL = Target(BALANCE, (HERE, THERE)), Target(BALANCE, (HERE,))
DROPPED, REJECTED = Target(DROP, ()), Target(REJECT, ())
CLUSTER = Frontend(CLUSTER_IP, "10.96.0.1", 80)
BALANCER = Frontend(LOAD_BALANCER, "198.19.1.1", 80)
NODE = Frontend(NODE_PORT, "", 30001)
DEFAULTS = IpvsOptions()


def rules(
    *frontends: Frontend,
    internal: Target = BOTH,
    cluster: Target = BOTH,
    external: Target = BOTH,
    local: bool = False,
    affinity: int = 0,
) -> PortRules:
    """One port of shop/web."""
    return PortRules(
        "shop/web", "http", "TCP", 4, affinity, local, frontends, internal, cluster, external, (HERE, THERE)
    )


def compiled(entry: PortRules, options: IpvsOptions = DEFAULTS) -> Program:
    return IpvsCompiler(Settings(NodeView("node-a")), options).compile([entry])


def server(role: str, where: str, *backends: Backend, content: str = "rr 0") -> Program:
    """What one virtual server is made of."""
    reals = {f"4/real/{role}/tcp/{where}/{one.address}/{one.port}": 1 for one in backends}
    return {f"4/server/{role}/tcp/{where}": content, **reals}


def test_a_cluster_ip_is_a_virtual_server_an_address_and_an_entry() -> None:
    assert compiled(rules(CLUSTER, affinity=600), IpvsOptions("wlc")) == {
        "4/address/10.96.0.1": True,
        "4/set/INT/10.96.0.1,tcp:80": "",
        **server("any", "10.96.0.1/80", HERE, THERE, content="wlc 600"),
    }


def test_without_endpoints_there_is_no_virtual_server_but_an_address_that_refuses() -> None:
    assert compiled(rules(CLUSTER, NODE, internal=REJECTED, cluster=REJECTED, external=REJECTED)) == {
        "4/address/10.96.0.1": True,
        "4/set/INT/10.96.0.1,tcp:80": "",
        "4/set/REJECT/10.96.0.1,tcp:80": "",
        "4/set/NPREJECT/tcp:30001": "",
    }


def test_a_node_port_is_found_by_a_mark_and_masqueraded() -> None:
    assert compiled(rules(NODE)) == {
        "4/set/NP/tcp:30001": "marked, masqueraded",
        **server("host", "-/30001", HERE, THERE),
    }


def test_a_marked_server_finds_the_endpoint_of_a_client_by_its_address() -> None:
    program = compiled(rules(CLUSTER, NODE, affinity=600))
    assert program["4/server/any/tcp/10.96.0.1/80"] == "rr 600"
    assert program["4/server/host/tcp/-/30001"] == "sh 0"


def test_policy_local_sends_the_outside_to_a_server_of_its_own() -> None:
    assert compiled(rules(BALANCER, NODE, external=LOCAL, local=True)) == {
        "4/address/198.19.1.1": True,
        "4/set/SPLIT/198.19.1.1,tcp:80": "marked",
        **server("any", "198.19.1.1/80", HERE, THERE),
        **server("outside", "198.19.1.1/80", HERE),
        "4/set/NP/tcp:30001": "marked",
        "4/set/NPOUT/tcp:30001": "marked",
        **server("host", "-/30001", HERE, THERE),
        **server("pod", "-/30001", HERE, THERE),
        **server("outside", "-/30001", HERE),
    }


def test_policy_local_without_a_local_endpoint_drops_what_comes_from_outside() -> None:
    program = compiled(rules(BALANCER, NODE, external=DROPPED, local=True))
    assert program["4/set/DROPOUT/198.19.1.1,tcp:80"] == program["4/set/NPDROPOUT/tcp:30001"] == ""
    assert not [name for name in program if "/outside/" in name or "/NPOUT/" in name]


def test_the_option_sends_it_to_the_cluster_instead() -> None:
    entry = rules(CLUSTER, BALANCER, NODE, internal=DROPPED, external=DROPPED, local=True)
    program = compiled(entry, IpvsOptions(local_fallback=True))
    assert "4/real/any/tcp/10.96.0.1/80/10.129.0.1/8080" in program
    assert not [name for name in program if "DROP" in name]
    assert "4/set/DROP/10.96.0.1,tcp:80" in compiled(entry)


def test_source_ranges_are_entries_that_ipset_can_hold() -> None:
    limited = BALANCER._replace(source_ranges=("0.0.0.0/0", "198.18.0.0/16", "198.18.9.9/32"), admits_own_address=True)
    allowed = "4/set/ALLOW/198.19.1.1,tcp:80,"
    found = {name[len(allowed) :] for name in compiled(rules(limited)) if name.startswith(allowed)}
    assert found == {"0.0.0.0/1", "128.0.0.0/1", "198.18.0.0/16", "198.18.9.9", "198.19.1.1"}


def test_an_external_ip_is_always_masqueraded() -> None:
    assert "4/set/EXT/198.19.2.1,tcp:80" in compiled(rules(Frontend(EXTERNAL_IP, "198.19.2.1", 80)))


def test_node_ports_are_never_served_on_the_loopback() -> None:
    """Also where its network is named, as in kube-proxy's own ipvs mode."""
    view = NodeView("node-a", "", ("198.18.1.1", "fd98:1::1"))
    frame = ipvs_rules.frame(Settings(view, nodeport_addresses=("127.0.0.0/8", "198.18.1.0/24", "::1/128")))
    for family, served in ((4, ["198.18.1.0/24"]), (6, [])):
        marked = [rule for rule in frame[f"{family}/chain/mangle/SERVICENET-IPVS-OUT"] if "NPHOST" in rule]
        assert [rule.split()[1] for rule in marked] == served

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module ipvs_services on a node whose kernel has ip_vs; see test_in_uml.py. ``ipvsadm`` is the witness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from integration.services_lab import (
    IPVS,
    ModuleServer,
    ServicesLab,
    ServicesNode,
    module_server,
    service,
    services_lab,
    vip,
)
from uml.machine import has_ip_vs

__all__ = ["module_server", "services_lab"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

BALANCER = "198.19.1.1"
WEB = service("web", 10, {"pod-a1": "ready", "pod-b1": "ready"}, nodePort=30080, type="NodePort")
API = service("api", 11, {"pod-a2": "ready"}, target=9090)
EMPTY = service("empty", 12, {})
LOCAL = service(
    "local",
    13,
    {"pod-a1": "ready", "pod-b1": "ready"},
    type="LoadBalancer",
    nodePort=30081,
    ingress=[BALANCER],
    externalTrafficPolicy="Local",
)
ALL = (WEB, API, EMPTY, LOCAL)
FOREIGN = "-A -t 198.18.9.9:443 -s wlc\n-a -t 198.18.9.9:443 -r 10.128.9.9:443 -m -w 7\n-A -f 1577058304 -s rr\n"


@pytest.fixture
def node(services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path) -> ServicesNode:
    """A node without any rules, but with a virtual server and a set of somebody else."""
    made = ServicesNode(services_lab, module_server, IPVS, tmp_path)
    made.sh("ipvsadm -R", FOREIGN)
    made.sh("ipset create FOREIGN hash:ip")
    made.sh("ipset add FOREIGN 198.18.9.9")
    return made


def servers(node: ServicesNode) -> set[str]:
    """What ipvsadm saves."""
    return set(node.sh("ipvsadm -S -n").splitlines())


def everything(node: ServicesNode) -> tuple[Any, ...]:
    """All that the mode may touch, of whoever."""
    sets = sorted(node.sh("ipset save").splitlines())
    return servers(node), sets, node.rules(), node.sysctls(), sorted(node.sh("ip -o address").splitlines())


def test_it_serves_and_a_second_run_changes_nothing(node: ServicesNode) -> None:
    node.give(*ALL)
    before = everything(node)
    shown = node.check()
    assert everything(node) == before
    result = node.run(_ansible_diff=True)
    assert result["changed"]
    assert (shown["changed"], shown["diff"]) == (True, result["diff"])
    both = {"pod-a1:8080", "pod-b1:8080"}
    for family in (4, 6):
        for proto in ("TCP", "UDP"):
            assert set(node.probe("pod", vip(10, family), proto=proto, count=16)) == both
        assert set(node.probe("ext", vip(11, family))) == {"pod-a2:9090"}
        assert set(node.probe("host", vip(11, family))) == {"pod-a2:9090"}
        assert set(node.probe("pod", vip(12, family))) == {"reject"}
    assert set(node.probe("ext", "198.18.1.1", 30080, count=16)) == both
    assert set(node.probe("ext", BALANCER, count=8)) == {"pod-a1:8080"}
    assert set(node.probe("ext", "198.18.1.1", 30081, count=8)) == {"pod-a1:8080"}
    assert set(node.probe("pod", BALANCER, count=16)) == both
    settled = everything(node)
    again = node.run(_ansible_diff=True)
    assert (again["changed"], again["transactions"], again["diff"]["after"]) == (False, 0, "")
    assert everything(node) == settled
    assert set(FOREIGN.splitlines()) <= servers(node)


def test_absent_leaves_nothing_of_ours_and_everything_of_others(node: ServicesNode) -> None:
    before = everything(node)
    node.give(*ALL)
    node.run()
    gone = {"state": "absent", "ipvs_drain_seconds": 0}
    shown = node.run(**gone, _ansible_check_mode=True, _ansible_diff=True)
    result = node.run(**gone, _ansible_diff=True)
    assert result["changed"]
    assert (shown["changed"], shown["diff"]) == (True, result["diff"])
    after = everything(node)
    assert after[0] == before[0]
    assert after[1] == before[1]
    assert "servicenet" not in after[2].lower()
    assert after[3:] == before[3:]
    assert list(node.state_dir.iterdir()) == []
    assert not node.run(state="absent")["changed"]


def test_one_changed_endpoint_is_its_own_operations(node: ServicesNode) -> None:
    node.give(*ALL)
    node.run()
    before = servers(node)
    node.give(WEB, service("api", 11, {"pod-a2": "ready", "pod-b1": "ready"}, target=9090), EMPTY, LOCAL)
    result = node.run()
    assert result["services_changed"] == ["shop/api"]
    assert result["transactions"] == 1
    new = {
        f"-a {flag} {address}:80 -r {real}:9090 -m -w 1"
        for flag in ("-t", "-u")
        for address, real in ((vip(11), "10.129.0.11"), (f"[{vip(11, 6)}]", "[fd80:0:0:b::11]"))
    }
    assert servers(node) ^ before == new
    assert set(node.probe("pod", vip(11), count=16)) == {"pod-a2:9090", "pod-b1:9090"}


@pytest.mark.soak
def test_drift_is_told_and_repaired(node: ServicesNode) -> None:
    """Whatever somebody does to what is ours; what is somebody else's stays as it is."""
    node.give(*ALL)
    node.run()
    good = everything(node)
    for command in (
        f"ipvsadm -d -t {vip(10)}:80 -r 10.128.0.11:8080",
        f"ipvsadm -a -u {vip(11)}:80 -r 10.128.9.9:53 -m",
        f"ipset del SERVICENET-REJECT-4 {vip(12)},tcp:80",
        "iptables-legacy -t mangle -F SERVICENET-IPVS-PRE",
        f"ip address delete {vip(13)}/32 dev servicenet0",
    ):
        node.sh(command)
    altered = everything(node)
    shown = node.check()
    assert everything(node) == altered
    result = node.run(_ansible_diff=True)
    assert (shown["drift"], shown["diff"]) == (result["drift"], result["diff"])
    named = {"shop/web:tcp", "shop/api:udp", "shop/empty:tcp", "shop/local:tcp", "shop/local:udp", "(common rules)"}
    assert set(result["drift"]) == named
    assert everything(node) == good
    assert not node.run()["changed"]


@pytest.mark.soak
def test_info_tells_what_the_kernel_holds(node: ServicesNode) -> None:
    node.give(*ALL)
    node.run()
    node.sh(f"ipvsadm -d -t {vip(11)}:80 -r 10.128.0.12:9090")
    arguments = {"state_dir": str(node.state_dir), "services": ["shop/api", "shop/local"]}
    told = node.start_module("service_rules_info", arguments).wait()
    assert told["mode"] == "ipvs"
    assert told["drift"] == ["shop/api:tcp"]
    found = {(one["address"], one["protocol"]): one for one in told["frontends"] if one["ip_family"] == "ipv4"}
    both = [{"address": address, "port": 8080} for address in ("10.128.0.11", "10.129.0.11")]
    assert found[BALANCER, "tcp"]["backends"] == both
    assert found["node port", "udp"]["backends"] == both
    assert found[vip(11), "udp"]["backends"] == [{"address": "10.128.0.12", "port": 9090}]
    assert (vip(11), "tcp") not in found


@pytest.mark.soak
def test_what_is_refused_is_told_with_its_service_and_nothing_stays(node: ServicesNode) -> None:
    """Of all steps, the kernel refuses one operation: somebody else has a virtual server there."""
    node.sh(f"ipvsadm -A -u {vip(11)}:80 -s wlc")
    before = everything(node)
    node.give(*ALL)
    said = node.fail()
    assert "IPVS refused a rule of Service shop/api:udp" in said
    assert f"add the virtual server UDP {vip(11)}:80 (rr): somebody else has one there" in said
    after = everything(node)
    assert (after[0], after[1], after[4]) == (before[0], before[1], before[4])
    assert "servicenet" not in after[2].lower()
    node.sh(f"ipvsadm -D -u {vip(11)}:80")
    node.run()
    assert set(node.probe("pod", vip(11), proto="UDP")) == {"pod-a2:9090"}


@pytest.mark.soak
def test_an_entry_that_is_refused_is_told_with_its_service(node: ServicesNode) -> None:
    """Somebody made a set of ours smaller than the Services need."""
    node.give(WEB)
    node.run()
    before = everything(node)
    node.sh("ipset create SMALL hash:ip,port family inet6 maxelem 3")
    for port in ("tcp:80", "udp:80", "tcp:1"):
        node.sh(f"ipset add SMALL {vip(10, 6)},{port}")
    node.sh("ipset swap SMALL SERVICENET-INT-6")
    node.sh("ipset destroy SMALL")
    node.sh(f"ipset del SERVICENET-INT-6 {vip(10, 6)},tcp:1")
    small = everything(node)
    node.give(WEB, API)
    said = node.fail()
    assert "ipset refused a rule of Service shop/api:" in said
    assert "is full" in said
    assert everything(node) == small
    assert set(node.probe("pod", vip(10, 6), count=16)) == {"pod-a1:8080", "pod-b1:8080"}
    assert before[0] == small[0]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight on a real kernel: what is wrong is found, and what is set right works and is put back."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from integration.in_namespace import enter_new_namespace, namespace, run, sh
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import preflight_settings as settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight import problems
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight_model import PreflightOptions, Report
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import (
    BALANCE,
    CLUSTER_IP,
    NODE_PORT,
    Backend,
    Frontend,
    PortRules,
    Target,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import addresses, listeners, others, sysctl
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_features import (
    FEATURES,
    SET_FEATURES,
    probe,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_tool import VARIANTS
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.preflight_facts import gather
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.sysctl import Settings

__all__ = ["namespace"]

VIP = "10.96.0.10"
POD = "10.128.0.5"
OPTIONS = PreflightOptions("iptables")
BACKENDS = (Backend(POD, 8080, False),)
TARGET = Target(BALANCE, BACKENDS)
RULE = PortRules(
    "shop/web",
    "http",
    "TCP",
    4,
    0,
    False,
    (Frontend(CLUSTER_IP, VIP, 80), Frontend(NODE_PORT, "", 30080)),
    TARGET,
    TARGET,
    TARGET,
    BACKENDS,
)


def add_default_route() -> None:
    """A way to everywhere, at the end of which nobody is."""
    sh("ip link add d0 type bridge")
    sh("ip link set d0 up")
    sh("ip addr add 198.18.0.1/24 dev d0")
    sh("ip route add default dev d0")


def report(options: PreflightOptions = OPTIONS) -> Report:
    """The judgement on this namespace."""
    return problems(gather(run, [RULE], options.families).facts, [RULE], options)


@contextmanager
def sleeper(path: Path) -> Iterator[int]:
    """A process whose program has this name."""
    if not path.exists():
        shutil.copy("/bin/sleep", path)
    with subprocess.Popen([str(path), "60"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


# ---- facts


def test_devices_addresses_and_routes() -> None:
    sh("ip link add br0 type bridge")
    sh("ip link add dev servicenet0 type veth peer name port0")
    sh("ip link set servicenet0 up")
    sh("ip link set port0 master br0 up")
    sh("ip addr add 10.128.0.1/24 dev br0")
    sh("ip addr add fd00:128::1/64 dev br0 nodad")
    sh("ip link set br0 up")
    sh("ip route add blackhole 10.130.0.0/16")
    sh("ip route add 10.96.0.0/12 dev br0 table 77")
    found = {one.name: one for one in addresses.interfaces()}
    assert found["br0"][1:4] == ("bridge", True, True)
    assert {"10.128.0.1/24", "fd00:128::1/64"} <= set(found["br0"].addresses)
    assert found["servicenet0"][1:4] == ("veth", True, False)
    assert found["lo"].addresses == ("127.0.0.1/8", "::1/128")
    routes = {
        (one.network >> 24, one.network >> 16 & 255, one.length, one.kind, one.interface): one
        for one in addresses.routes(4)
    }
    assert (10, 128, 24, 1, "br0") in routes
    assert (10, 130, 16, 6, "") in routes
    assert (10, 96, 12, 1, "br0") in routes
    assert (0xFD000128 << 96, 64, "br0") in {(one.network, one.length, one.interface) for one in addresses.routes(6)}


def test_a_connect_without_a_route_fails_and_preflight_says_so() -> None:
    def connect() -> int:
        with socket.socket() as sock:
            sock.settimeout(0.2)
            try:
                return sock.connect_ex((VIP, 80))
            except OSError as error:
                return error.errno or -1

    unreachable = 101
    assert connect() == unreachable
    warnings = report().warnings
    assert any(f"No route leads to {VIP} of Service shop/web" in one for one in warnings)
    assert any(f"No route leads to {POD}" in one for one in warnings)
    add_default_route()
    assert connect() != unreachable
    assert report().warnings == ()


def test_a_process_on_a_node_port_is_named() -> None:
    add_default_route()
    with socket.create_server(("0.0.0.0", 30080)):
        (warning,) = report().warnings
    assert "node port 30080/TCP of Service shop/web" in warning
    assert f"(process {os.getpid()})" in warning
    assert report().warnings == ()


def test_netlink_and_the_tables_show_the_same_sockets() -> None:
    with (
        socket.create_server(("127.0.0.1", 30080)) as first,
        socket.create_server(("::", 30080), family=socket.AF_INET6),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as fourth,
        socket.create_connection(("127.0.0.1", 30080)) as connected,
    ):
        third.bind(("0.0.0.0", 30053))
        fourth.bind(("::1", 30053))
        asked = sorted(one for kind in listeners.KINDS for one in listeners._ask(kind, (kind.waiting,)))
        assert asked == sorted(one for kind in listeners.KINDS for one in listeners._read(kind, (kind.waiting,)))
        assert [one[:3] for one in asked] == [
            ("TCP", "127.0.0.1", 30080),
            ("TCP", "::", 30080),
            ("UDP", "0.0.0.0", 30053),
            ("UDP", "::1", 30053),
        ]
        assert asked[0].inode == os.fstat(first.fileno()).st_ino
        assert listeners.sockets({("UDP", 30053)}) == [one for one in asked if one.protocol == "UDP"]
        inodes = {one.inode for kind in listeners.KINDS for one in listeners._read(kind, listeners.CONNECTED)}
        assert listeners.connections() == inodes
        assert os.fstat(connected.fileno()).st_ino in inodes
        assert os.fstat(first.fileno()).st_ino not in inodes


# ---- kube-proxy


def test_a_kube_proxy_process_counts_in_its_own_namespace_only(tmp_path: Path) -> None:
    with sleeper(tmp_path / "kube-proxy") as pid:
        wait_until(others.kube_proxy_processes)
        assert others.kube_proxy_processes() == [f"process {pid}"]
        (error,) = report().errors
        assert f"process {pid}" in error
        assert report(OPTIONS._replace(beside_kube_proxy=True)).errors == ()
        enter_new_namespace()
        assert others.kube_proxy_processes() == []


@pytest.mark.parametrize(
    "command",
    [
        "nft add table ip6 kube-proxy",
        "iptables-nft -t nat -N KUBE-SERVICES",
        "iptables-legacy -t nat -N KUBE-SERVICES",
        "ip6tables-legacy -t nat -N KUBE-SERVICES",
        "ip link add kube-ipvs0 type bridge",
    ],
)
def test_what_a_kube_proxy_leaves_is_found(command: str) -> None:
    sh("iptables-nft -t nat -N KUBE-KUBELET-CANARY")
    assert report().errors == ()
    sh(command)
    (error,) = report().errors
    assert "kube-proxy --cleanup" in error


# ---- filters


def dropping_chain(table: str) -> str:
    """A table with a filter that drops what is forwarded."""
    return f"table {table} {{ chain forwarded {{ type filter hook forward priority 0; policy drop; }}; }}"


@pytest.mark.parametrize(
    ("commands", "named"),
    [
        (["iptables-nft -P FORWARD DROP"], "chain FORWARD of nftables table ip filter"),
        (["iptables-legacy -P FORWARD DROP"], "chain FORWARD of iptables-legacy"),
        (["ip6tables-legacy -P FORWARD DROP"], "chain FORWARD of ip6tables-legacy"),
        (["nft add table inet firewalld"], "nftables table inet firewalld"),
        (["nft -f -"], "chain forwarded of nftables table inet own"),
    ],
)
def test_filters_that_drop_what_is_forwarded_are_found(commands: list[str], named: str) -> None:
    for command in commands:
        sh(command, dropping_chain("inet own"))
    assert others.forward_drops(run, (4, 6), others.nft_chains()) == [named]


def test_other_policies_and_our_own_table_are_no_problem() -> None:
    sh("iptables-nft -P FORWARD ACCEPT")
    sh("iptables-nft -P INPUT DROP")
    sh("nft -f -", dropping_chain("ip servicenet"))
    assert others.forward_drops(run, (4, 6), others.nft_chains()) == []
    sh("nft -f -", dropping_chain("bridge own"))
    assert others.forward_drops(run, (4, 6), others.nft_chains()) == []


# ---- kernel settings


@pytest.mark.parametrize("redirects", ["0", "1"])
def test_settings_are_made_and_put_back_exactly(tmp_path: Path, redirects: str) -> None:
    """The kernel sets accept_redirects by itself, to the opposite of ip_forward."""
    state = Settings(str(tmp_path / "sysctls.json"))
    sysctl.write("net/ipv4/conf/all/accept_redirects", redirects)
    sysctl.write("net/ipv4/ip_local_port_range", "30000 60999")
    watched = [
        *settings.ALL,
        "net/ipv4/conf/lo/forwarding",
        "net/ipv6/conf/lo/forwarding",
        "net/ipv4/conf/all/accept_redirects",
    ]
    before = {name: sysctl.read(name) for name in watched if name != settings.CONNTRACK_COUNT}
    changes = report().changes
    assert {settings.IP_FORWARD, settings.IP6_FORWARD, settings.RESERVED_PORTS} <= {one.name for one in changes}
    state.apply((one.name, one.new) for one in changes)
    assert report().changes == ()
    assert sysctl.read(settings.RESERVED_PORTS) == "30080"
    restored, left = state.restore()
    assert len(restored) == len(changes)
    assert left == []
    assert {name: sysctl.read(name) for name in before} == before


def advertise_a_router() -> None:
    """Gives the device ra0 a default route by a router advertisement."""
    sh("ip link add dev ra0 type veth peer name ra1")
    sysctl.write("net/ipv6/conf/ra0/accept_ra_from_local", "1")
    for device in ("ra0", "ra1"):
        sysctl.write(f"net/ipv6/conf/{device}/accept_dad", "0")
        sh(f"ip link set {device} up")
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        index = socket.if_nametoindex("ra1")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        for _attempt in range(600):
            with suppress(OSError):  # no link-local address yet
                sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, index))
            time.sleep(0.1)
            if "default" in sh("ip -6 route"):
                return
    pytest.fail("the router advertisement was not taken")


def test_forwarding_does_not_cost_the_default_route(tmp_path: Path) -> None:
    advertise_a_router()
    changes = [(one.name, one.new) for one in report().changes if "ipv6" in one.name]
    assert changes == [("net/ipv6/conf/ra0/accept_ra", "2"), (settings.IP6_FORWARD, "1")]
    Settings(str(tmp_path / "sysctls.json")).apply(changes)
    assert "default" in sh("ip -6 route")


def test_forwarding_alone_would_cost_it() -> None:
    advertise_a_router()
    sysctl.write(settings.IP6_FORWARD, "1")
    assert "default" not in sh("ip -6 route")


def test_a_kernel_setting_of_the_host_is_known_to_be_read_only() -> None:
    facts = gather(run, [RULE]).facts
    assert settings.CONNTRACK_MAX in facts.read_only
    assert settings.IP_FORWARD not in facts.read_only
    assert any("nf_conntrack_max" in one for one in report(OPTIONS._replace(conntrack_min=10**9)).warnings)


# ---- features


@pytest.mark.parametrize("variant", VARIANTS)
def test_this_kernel_has_all_features_and_a_probe_leaves_nothing(variant: str) -> None:
    # A kernel without IPVS need not have ipset either; test_ipvs_services.py asks one that has both.
    features = [feature for feature in FEATURES if feature not in ("xt_ipvs", *SET_FEATURES)]
    assert probe(run, (4, 6), variant, features) == ([], [], "")
    for tool in ("iptables", "ip6tables"):
        assert "SERVICENET" not in sh(f"{tool}-{variant}-save")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_feature_that_the_kernel_lacks_is_named(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not os.path.exists("/proc/net/ip_vs"), "this test needs an extension that the kernel lacks: name another one"
    monkeypatch.setitem(FEATURES, "xt_ipvs", ("filter", "-m ipvs --ipvs"))
    assert probe(run, (4,), variant, ["xt_mark", "xt_ipvs"]) == (["xt_ipvs for IPv4"], [], "")

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the userspace mode does: proxies that pass over dead endpoints, on ports that stay and that nobody reaches
but through a rule."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.services_lab import (
    PODS,
    USERSPACE,
    ModuleServer,
    ServicesLab,
    ServicesNode,
    module_server,
    service,
    services_lab,
    vip,
)
from integration.test_services_load import STREAM, Traffic
from lab.claim import kill_and_wait
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._node.processes import children

__all__ = ["module_server", "services_lab"]

WEB = service("web", 10, {"pod-a1": "ready", "pod-b1": "ready"}, stream=True, nodePort=30080, type="NodePort")
BOTH = {"pod-a1:8080", "pod-b1:8080"}


@pytest.fixture
def node(services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path) -> Iterator[ServicesNode]:
    """A node whose nginx ends with the test."""
    made = ServicesNode(services_lab, module_server, USERSPACE, tmp_path)
    yield made
    made.run(state="absent", userspace_drain_seconds=1)


def ports(node: ServicesNode) -> dict[str, int]:
    """The ports of backend sets."""
    return dict(json.loads((node.state_dir / "userspace_ports.json").read_text())["ports"])


def reserved_ports(node: ServicesNode) -> set[int]:
    """The same, port by port."""
    parts = [part.split("-") for part in reserved(node).split(",")]
    return {port for part in parts for port in range(int(part[0]), int(part[-1]) + 1)}


def reserved(node: ServicesNode) -> str:
    """What the kernel keeps from the ephemeral range."""
    return node.sh("sysctl -n net.ipv4.ip_local_reserved_ports").strip()


def test_a_dead_endpoint_fails_no_connection(node: ServicesNode, full_figures: bool) -> None:
    node.give(WEB)
    node.run()
    assert set(node.probe("pod", vip(10), count=32)) == BOTH
    count = 1000 if full_figures else 100
    node.lab.workers["pod-b1"].ask(op="quit_serving", port=8080)
    try:
        assert node.probe("pod", vip(10), count=count) == {"pod-a1:8080": count}
        assert node.probe("ext", "198.18.1.1", 30080, count=32) == {"pod-a1:8080": 32}
    finally:
        node.lab.workers["pod-b1"].ask(op="serve", port=8080)


def test_a_proxy_is_reached_through_a_rule_only(node: ServicesNode) -> None:
    node.give(WEB)
    node.run()
    port = ports(node)["4/tcp/cluster/shop/web:tcp"]
    for client in ("pod", "ext", "host"):
        assert set(node.probe(client, "198.18.1.1", port, count=1)) == {"drop"}


def test_ports_stay_and_are_given_back(node: ServicesNode) -> None:
    node.sh("sysctl -q -w net.ipv4.ip_local_reserved_ports=4000-4002")
    node.give(WEB)
    node.run()
    before = ports(node)
    assert len(set(before.values())) == len(before) == 6
    pids = re.findall(r"\d+", node.lab.in_node("sh", "-c", f"cat {node.run_dir}/userspace/*.pid"))
    node.sh(f"kill -9 {' '.join(pids)}")
    node.sh("nft flush ruleset")
    node.sh("sysctl -q -w net.ipv4.ip_local_reserved_ports=4000-4002")
    assert node.run()["changed"]
    assert ports(node) == before
    assert set(node.probe("pod", vip(10), count=32)) == BOTH
    assert not node.run()["changed"]
    node.run(state="absent")
    assert reserved(node) == "4000-4002"
    assert list(node.state_dir.iterdir()) == []
    node.sh("sysctl -q -w net.ipv4.ip_local_reserved_ports=")


HOLD = """
import socket, sys
held = []
for port in map(int, sys.argv[2:]):
    for family in (socket.AF_INET, socket.AF_INET6):
        held.append(socket.socket(family))
        if family == socket.AF_INET6:
            held[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held[-1].bind(("", port))
        if sys.argv[1] == "listen":
            held[-1].listen()
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(node: ServicesNode, numbers: list[int], how: str) -> Iterator[None]:
    """Another program of the node has these TCP ports; where it does not listen, they are in nobody's list."""
    command = ["ip", "netns", "exec", node.lab.node, sys.executable, "-c", HOLD, how, *map(str, numbers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline()
        yield
        assert other.poll() is None


CONNECTED = """
import socket, sys
server = socket.create_server(("127.0.0.1", 5000), backlog=64)
held, over = [], []
for _port in range(int(sys.argv[1])):
    # The kernel chooses the port: one connection stays, one is over.
    for kept in (held, over):
        kept.append(socket.create_connection(("127.0.0.1", 5000)))
        held.append(server.accept()[0])
    over[-1].close()
    held[-1].close()
    held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    held[-1].connect(("127.0.0.1", 5000))
print(flush=True)
sys.stdin.read()
"""


def test_a_port_that_the_kernel_gave_to_a_connection_is_no_proxys(node: ServicesNode) -> None:
    """Where the ephemeral range was made to begin low, as busy nodes have it. WEB has six backend sets, and six ports
    are left. What is over is in the way for a minute: no other test has ports that low."""
    low, connections = 9100, 9
    before = node.sh("sysctl -n net.ipv4.ip_local_port_range").split()
    node.lab.in_node("sysctl", "-q", "-w", f"net.ipv4.ip_local_port_range={low} {low + 2 * connections - 1}")
    command = ["ip", "netns", "exec", node.lab.node, sys.executable, "-c", CONNECTED, str(connections)]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout
            assert other.stdout.readline()
            node.give(WEB)
            node.run(userspace_ports=f"{low}-{low + 2 * connections + 5}")
            assert set(ports(node).values()) == set(range(low + 2 * connections, low + 2 * connections + 6))
            assert set(node.probe("pod", vip(10), count=16)) == BOTH
    finally:
        node.lab.in_node("sysctl", "-q", "-w", f"net.ipv4.ip_local_port_range={' '.join(before)}")


def kill_nginx(node: ServicesNode) -> None:
    """All processes of the node's nginx, as in a boot."""
    for file in (node.run_dir / "userspace").glob("*.pid"):
        master = int(file.read_text())
        kill_and_wait([master, *children(master)])


def test_a_port_that_was_taken_meanwhile_is_given_up(node: ServicesNode) -> None:
    node.give(WEB)
    node.run()
    before = ports(node)
    name = "4/tcp/cluster/shop/web:tcp"
    kill_nginx(node)
    with held(node, [before[name]], "listen"):
        assert node.run()["changed"]
        after = ports(node)
        assert after[name] != before[name]
        assert {**after, name: 0} == {**before, name: 0}
        assert set(node.probe("pod", vip(10), count=16)) == BOTH
        assert not node.run()["changed"]


def test_what_is_left_of_its_connections_takes_no_proxys_port(node: ServicesNode) -> None:
    node.give(WEB)
    node.run()
    before = ports(node)
    client = node.lab.workers["pod-a3"]
    connection = client.ask(op="open", address=vip(10), port=STREAM)
    assert client.ask(op="say", connection=connection, line="hello")
    kill_nginx(node)
    try:
        # Until the client ends it, too, the kernel keeps the proxy's end of it.
        assert node.run()["changed"]
        assert ports(node) == before
    finally:
        client.ask(op="hang_up", connection=connection)
    assert set(node.probe("pod", vip(10), count=16)) == BOTH


def test_a_proxy_that_nginx_refuses_is_named_and_the_old_ones_serve(node: ServicesNode) -> None:
    """Somebody holds every port that is left without listening."""
    node.give(WEB)
    # WEB has six backend sets, and the other one six more. No other test has these ports, and connections in them.
    low = 9200
    span = f"{low}-{low + 11}"
    node.run(userspace_ports=span)
    old, tables = ports(node), node.tables()
    free = sorted(set(range(low, low + 12)) - set(old.values()))
    assert len(free) == 6
    more = service("more", 11, {"pod-a2": "ready"}, stream=True)
    node.give(WEB, more)
    with held(node, free, "bind only"):
        message = node.fail(userspace_ports=span)
        assert "nginx (proxies) refused a rule of Service shop/more:" in message
        assert "nothing was changed" in message
        assert (ports(node), node.tables()) == (old, tables)
        assert reserved_ports(node) == set(old.values())
        assert set(node.probe("pod", vip(10), count=16)) == BOTH
        node.give(WEB)
        node.run(userspace_ports=span)
        assert not node.run(userspace_ports=span)["changed"]
    node.give(WEB, more)
    assert node.run(userspace_ports=span)["changed"]
    assert set(node.probe("pod", vip(11), count=4)) == {"pod-a2:8080"}


def test_a_service_without_endpoints_may_accept_and_close(node: ServicesNode) -> None:
    node.give(service("empty", 12, {}, nodePort=30081, type="NodePort"))
    node.run()
    assert set(node.probe("pod", vip(12))) == {"reject"}
    assert node.run(userspace_no_endpoints="accept")["changed"]
    for family in (4, 6):
        assert set(node.probe("pod", vip(12, family))) == {"closed"}
    assert set(node.probe("ext", "198.18.1.1", 30081)) == {"closed"}
    assert not node.run(userspace_no_endpoints="accept")["changed"]
    node.give(service("empty", 12, {"pod-b1": "ready"}, nodePort=30081, type="NodePort"))
    node.run(userspace_no_endpoints="accept")
    assert set(node.probe("pod", vip(12))) == {"pod-b1:8080"}


def test_what_is_programmed_is_told_wherever_its_directories_are(node: ServicesNode) -> None:
    node.give(WEB)
    node.run()
    places = {"state_dir": str(node.state_dir), "run_dir": str(node.run_dir)}
    told = node.start_module("service_rules_info", {"mode": "userspace", **places}).wait()
    assert told["drift"] == []
    (frontend,) = [one for one in told["frontends"] if one["service"] == "shop/web:tcp" and one["address"] == vip(10)]
    assert {one["address"] for one in frontend["backends"]} == {PODS["pod-a1"][0], PODS["pod-b1"][0]}


def master(node: ServicesNode) -> int:
    """The process of nginx that starts the others."""
    (pid,) = (int(file.read_text()) for file in (node.run_dir / "userspace").glob("*.pid"))
    return pid


def resident(pid: int) -> int:
    """The memory of a process, in KiB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


@pytest.mark.soak
def test_reloads_break_no_connection_and_cost_no_memory(node: ServicesNode, full_figures: bool) -> None:
    node.give(WEB)
    # Sessions over UDP stay for longer than the test, and keep nothing alive.
    options = {"userspace_udp_timeout": 3600, "userspace_workers": 2, "userspace_max_old_workers": 4}
    node.run(**options)
    traffic = Traffic(
        node,
        "pod-a3",
        tcp=[(vip(10), 80), (vip(10, 6), 80)],
        udp=[(vip(10), 80), (vip(10, 6), 80)],
        streams=[(vip(10), STREAM)] * 5,
    )
    runs = 100 if full_figures else 10
    before, log = resident(master(node)), node.run_dir / "userspace" / "error.log"
    try:
        for number in range(runs):
            more: Any = {"pod-a2": "ready"} if number % 2 else {}
            pods = {"pod-a1": "ready", "pod-b1": "ready", **more}
            node.give(service("web", 10, pods, stream=True, nodePort=30080, type="NodePort"))
            assert node.run(**options)["warnings"] == []
        # Two that serve, four that were left behind, and two of the last reload.
        wait_until(lambda: len(children(master(node))) <= 8)
        assert resident(master(node)) - before < 4096
        assert log.stat().st_size < 20000 + 2 * runs * 100
    finally:
        report = traffic.end()
    for kind, tally in report.items():
        assert tally["tries"] > runs, kind
        assert kind == "udp" or tally["failed"] == [], kind

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the userspace mode does: proxies that pass over dead endpoints, on ports that stay and that nobody reaches
but through a rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.services_lab import (
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


@pytest.mark.soak
def test_reloads_break_no_connection(node: ServicesNode, full_figures: bool) -> None:
    node.give(WEB)
    node.run()
    traffic = Traffic(node, "pod-a3", tcp=[(vip(10), 80), (vip(10, 6), 80)], streams=[(vip(10), STREAM)] * 5)
    runs = 100 if full_figures else 10
    try:
        for number in range(runs):
            more: Any = {"pod-a2": "ready"} if number % 2 else {}
            pods = {"pod-a1": "ready", "pod-b1": "ready", **more}
            node.give(service("web", 10, pods, stream=True, nodePort=30080, type="NodePort"))
            node.run()
    finally:
        report = traffic.end()
    for kind, tally in report.items():
        assert tally["failed"] == [], kind
        assert tally["tries"] > runs, kind

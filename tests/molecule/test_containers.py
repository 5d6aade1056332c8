# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab in containers: what its places are, who chooses it, and that nothing of it stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, LabError
from lab.claim import BASE, CGROUP_DIR, namespaces, sh
from lab.cluster import PLAIN
from lab.containers import ContainerLab, best_lab, obstacle
from lab.engine import Engine
from lab.names import run_at
from lab.waiting import wait_until

NOBODY = "unix:///nonexistent/docker.sock"


@pytest.fixture(scope="module")
def contained(engine: dict[str, str]) -> Iterator[Lab]:
    """A lab in containers, or a skip that says why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine.items():
            patch.setenv(name, value)
        lab, said = best_lab()
        if not isinstance(lab, ContainerLab):
            pytest.skip(said)
        with lab:
            yield lab


def test_packets_go_from_container_to_container(contained: Lab) -> None:
    """With their own addresses, in both families, through the nodes."""
    here, there = contained.pods["pod-a1"], contained.pods["pod-b2"]
    for mine, theirs in zip(here.ips, there.ips, strict=True):
        got = contained.probe("pod-a1", theirs, PLAIN, count=3)
        assert (dict(got.who), got.peers, dict(got.failures)) == ({"pod-b2": 3}, {"pod-b2": {mine}}, {})
    assert contained.probe("client", there.ips[0], PLAIN, "UDP", count=3).peers == {
        "pod-b2": {contained.client_ips[0][0]}
    }


def test_a_node_is_a_container_of_its_own(contained: Lab) -> None:
    """Its files are the image's, its rules its own, and it may do less than this machine's root."""
    a, b = contained.node("node-a"), contained.node("node-b")
    a.run(["nft", "add", "table", "ip", "lab_test"])
    assert "lab_test" not in b.run(["nft", "list", "tables"]).stdout
    assert "lab_test" not in sh("nft", "list", "tables").stdout
    assert a.run(["cat", "/proc/1/comm", "/etc/hostname"]).stdout.split() == ["python3", "node-a"]
    assert a.run(["test", "-e", __file__], check=False).returncode == 1
    a.run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"])
    assert a.run(["sysctl", "-qw", "kernel.domainname=x"], check=False).returncode != 0
    told = a.run(["grep", "-h", "CapBnd", "/proc/1/status", "/proc/self/status"]).stdout.split()
    assert told[1] == told[3], "who enters has other capabilities than the container"
    assert not int(told[1], 16) >> 16 & 1, "a node may load modules"


def test_a_command_on_a_node_has_the_environment_of_its_caller(contained: Lab) -> None:
    """Ansible hands over tasks' environments that way; and a status comes back as it was."""
    done = contained.node("node-a").run(
        ["sh", "-c", 'printf %s "$WORDS"; exit 7'], check=False, env={"WORDS": "a b\n$c"}
    )
    assert (done.returncode, done.stdout) == (7, "a b\n$c")


def test_pods_ask_the_resolver_that_they_are_given(contained: Lab) -> None:
    contained.set_resolver_of_pods("nameserver 10.96.0.53\n")
    assert run_at(contained, "pod-a1", ["cat", "/etc/resolv.conf"]).stdout == "nameserver 10.96.0.53\n"


def test_without_an_engine_there_are_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and who asked for containers gets an error."""
    monkeypatch.setenv("DOCKER_HOST", NOBODY)
    monkeypatch.delenv("SERVICENET_LAB", raising=False)
    lab, said = best_lab()
    assert isinstance(lab, Lab)
    assert not isinstance(lab, ContainerLab)
    assert said.startswith("The nodes are made of namespaces, because ")
    assert obstacle() in said
    monkeypatch.setenv("SERVICENET_LAB", "containers")
    with pytest.raises(LabError, match="SERVICENET_LAB asks for containers, but "):
        best_lab()


def test_nothing_of_an_engine_stays(engine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if a lab in it was still there: no container's process, namespace, control group or file."""
    if not engine:
        pytest.skip("there is an engine that is not ours, or none can be had")
    had_bridge = "docker0" in os.listdir("/sys/class/net")
    with Engine() as own:
        monkeypatch.setenv("DOCKER_HOST", own.host)
        lab, _said = best_lab()
        lab.open()
        holder = lab.node("node-a").holder
        assert ("docker0" in os.listdir("/sys/class/net")) == had_bridge
    # Whoever was in it ends with its first process, one after the other.
    wait_until(lambda: not Path(f"/proc/{holder}").exists(), "the end of a container's process")
    lab.close()
    assert not [*namespaces(lab.prefix), *BASE.glob(f"{lab.prefix}*"), *BASE.glob(f"{own.prefix}*")]
    assert not [*CGROUP_DIR.glob(f"*/{own.prefix}"), *CGROUP_DIR.glob(own.prefix)]

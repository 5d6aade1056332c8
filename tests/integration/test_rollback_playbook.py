# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks over real SSH from outside: a change that cuts it off goes back, and `rollback` holds what was."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from lab.playbooks import PlaybookRun
from lab.waiting import wait_until

SSHD = "/usr/sbin/sshd"
STATE = "/var/lib/servicenet"
WEB = "10.96.0.10"
# Longer than a playbook takes on a busy machine.
LONG = 3600


class Remote:
    """node-a, which Ansible reaches by SSH from the client of the lab, and the manifests that it is programmed from."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.node, self.address = lab, lab.node("node-a"), lab.node("node-a").ips[0]
        self.manifest = directory / "cluster.json"
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key], check=True)
        (directory / "sshd_config").write_text(
            f"HostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin prohibit-password\nPidFile none\n"
        )
        self.node.run(["mkdir", "-p", "/run/sshd"])
        self.server = self.node.start_process([SSHD, "-D", "-f", directory / "sshd_config"])
        through = f"ip netns exec {lab.ns('client')} socat - TCP:%h:%p"
        self.inventory = lab.inventory(
            directory / "inventory.yml",
            cluster_snapshot_manifests=[str(self.manifest)],
            service_proxy_mode="nftables",
            service_proxy_install=False,
            service_proxy_max_removed_percent=100,
            service_proxy_confirm_seconds=LONG,
            ansible_user="root",
            ansible_ssh_private_key_file=str(directory / "user"),
            ansible_control_path_dir=str(directory / "cp"),
            ansible_ssh_transfer_method="piped",
            ansible_ssh_common_args=f"-o ProxyCommand='{through}' -o UserKnownHostsFile=/dev/null"
            " -o StrictHostKeyChecking=no -o LogLevel=ERROR -o ConnectTimeout=60",
        )
        made = json.loads(self.inventory.read_text())
        host = made["all"]["children"]["servicenet_nodes"]["hosts"]["node-a"]
        host.update(ansible_connection="ssh", ansible_host=self.address, ansible_python_interpreter="/usr/bin/python3")
        self.inventory.write_text(json.dumps(made))

    def playbook(self, name: str, *options: str, check: bool = True, **variables: Any) -> PlaybookRun:
        """A playbook on node-a."""
        options = ("--limit=node-a,localhost", *options)
        return self.lab.playbook(name, variables, *options, inventory=self.inventory, check=check)

    def greeting(self) -> str:
        """What a new connection to the port of SSH is told first."""
        command = ["ip", "netns", "exec", self.lab.ns("client"), "socat", "-t60", "-", f"TCP:{self.address}:22"]
        # Nobody goes on after such a line, neither the server of SSH nor that of a Pod.
        done = subprocess.run(command, input="?\n", capture_output=True, text=True, check=False, timeout=120)
        return done.stdout + done.stderr

    def who(self) -> set[str]:
        """Who answers a Pod of the node behind the Service: it has one endpoint, so a few answers tell."""
        answers = self.lab.probe("pod-a3", WEB, 80, count=4)
        return {*answers.who, *answers.failures}

    def give(self, pod: str, port: int = 80, **spec: Any) -> None:
        """From now on the cluster is one Service with this Pod behind it."""
        ports = [{"name": "plain", "protocol": "TCP", "port": port, "targetPort": 9000}]
        endpoint = {
            "addresses": [self.lab.pods[pod].ips[0]],
            "conditions": {"ready": True},
            "nodeName": self.lab.pods[pod].node,
        }
        labels = {"kubernetes.io/service-name": "web"}
        made = [
            *self.lab.node_objects(),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"namespace": "shop", "name": "web"},
                "spec": {"clusterIP": WEB, "clusterIPs": [WEB], "ports": ports, **spec},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"namespace": "shop", "name": "web-1", "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "plain", "protocol": "TCP", "port": 9000}],
                "endpoints": [endpoint],
            },
        ]
        self.manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))

    def state(self) -> list[tuple[str, int]]:
        """What the node holds on its disk, and when it was written; but not the snapshot that it is handed."""
        root = self.node.path(STATE)
        found = [path for path in root.rglob("*") if path.is_file() and path.name != "snapshot.jsonl.gz"]
        return sorted((str(path.relative_to(root)), path.stat().st_mtime_ns) for path in found)


@pytest.fixture(scope="module")
def remote(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    if not Path(SSHD).exists():
        pytest.skip(f"there is no {SSHD} on this machine: tests/provision/packages test installs it")
    made = Remote(lab, tmp_path_factory.mktemp("remote"))
    wait_until(lambda: "SSH-2.0" in made.greeting())
    yield made
    made.server.terminate()
    made.server.wait()


def test_a_change_that_cuts_off_the_controller_goes_back(remote: Remote) -> None:
    remote.give("pod-a1")
    first = remote.playbook("site")
    assert remote.who() == {"pod-a1"}
    # Confirmed: nothing waits, and a second run finds nothing to do.
    assert first.output.count("TASK [kubenode.servicenet.service_proxy : Confirm the change]") == 1
    assert not remote.node.path(f"{STATE}/confirm.json").exists()
    assert remote.playbook("resync").changed["node-a"] == 0
    assert "SSH-2.0" in remote.greeting()

    # A Service takes the address and the port that Ansible comes in by.
    remote.give("pod-b1", 22, externalIPs=[remote.address])
    cut = remote.playbook("resync", check=False)
    assert cut.rc == 4, cut.output
    assert cut.failed["node-a"] == 1
    assert "SSH-2.0" not in remote.greeting()
    assert remote.who() == {"reject"}

    # The time is over, and nobody came.
    waiting = remote.node.path(f"{STATE}/confirm.json")
    waiting.write_text(json.dumps({**json.loads(waiting.read_text()), "until": time.time()}))
    wait_until(lambda: not waiting.exists(), "the change to go back", 300)
    assert "SSH-2.0" in remote.greeting()
    assert remote.who() == {"pod-a1"}

    # The next resync gets through, is told, and does not cut itself off again.
    held = remote.playbook("resync")
    assert "a change was not confirmed and went back by itself" in " ".join(held.output.split())
    assert "SSH-2.0" in remote.greeting()
    assert remote.playbook("rollback", servicenet_release=True).changed["node-a"] == 1


def test_the_nodes_go_back_and_are_released(remote: Remote) -> None:
    for pod in ("pod-a1", "pod-b1"):
        remote.give(pod)
        released = remote.playbook("resync", service_proxy_confirm_seconds=0)
        assert "This node is held" not in released.output
    assert remote.who() == {"pod-b1"}
    before = remote.state()
    shown = remote.playbook("rollback", "--check", "--diff")
    assert f"shop/web:plain {WEB}:80/tcp" in shown.output
    assert (shown.changed["node-a"], remote.state(), remote.who()) == (1, before, {"pod-b1"})
    assert remote.playbook("rollback").changed["node-a"] == 1
    assert remote.who() == {"pod-a1"}
    before = remote.state()
    assert (remote.playbook("rollback").changed["node-a"], remote.state()) == (0, before)

    # Whatever comes: the node stays, and says what releases it. What somebody altered is repaired.
    remote.give("pod-b2")
    remote.node.run(["nft", "flush", "ruleset"])
    resync = " ".join(remote.playbook("resync").output.split())
    assert "because it was rolled back at" in resync
    assert (
        "until it is released with ansible-playbook kubenode.servicenet.rollback -e servicenet_release=true" in resync
    )
    assert remote.who() == {"pod-a1"}
    assert remote.playbook("rollback", servicenet_release=True).changed["node-a"] == 1
    assert remote.playbook("resync", service_proxy_confirm_seconds=0).changed["node-a"] > 0
    assert remote.who() == {"pod-b2"}

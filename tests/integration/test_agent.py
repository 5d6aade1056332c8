# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""servicenet-agent on a node of the lab: built into one file, beside a real API server, judged by real packets."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import ControlPlane, Lab
from lab.open_files import times_open
from lab.waiting import wait_until

PROGRAM = "/usr/local/lib/servicenet/servicenet-agent.pyz"
STATE = "/var/lib/servicenet"
MODES = ["iptables", "nftables"]
SILENCE = 600


class Agent:
    """The agent of node-a, in one mode."""

    def __init__(self, lab: Lab, plane: ControlPlane, url: str, mode: str) -> None:
        self.lab, self.plane, self.mode = lab, plane, mode
        self.node = lab.node("node-a")
        self.variables = {
            "cluster_snapshot_source": "cluster",
            "cluster_snapshot_kubeconfig": str(plane.kubeconfig("reader")),
            "service_proxy_mode": mode,
            "service_proxy_install": False,
            "service_proxy_max_removed_percent": 100,
            "servicenet_resync": True,
            "service_resync_supervisor": "cron",
            "service_resync_server": url,
            "service_resync_token": plane.token("reader"),
            "service_resync_ca_cert": plane.certificate.read_text(),
            "service_resync_textfile_dir": STATE,
            "service_resync_agent_path": str(lab.directory / "servicenet-agent.pyz"),
        }

    def playbook(self, name: str, *options: str) -> Any:
        """A playbook on node-a."""
        return self.lab.playbook(name, None, "--limit=node-a,localhost", *options, inventory=self.inventory())

    def inventory(self) -> Path:
        """With the options of this mode."""
        return self.lab.inventory(self.lab.directory / f"agent-{self.mode}.yml", **self.variables)

    def run(self, *arguments: str) -> tuple[int, str]:
        """The agent, as cron would run it -> its status and what it said."""
        done = self.node.run(["python3", PROGRAM, *arguments], check=False)
        return done.returncode, done.stdout + done.stderr

    def last(self) -> dict[str, Any]:
        """The state file."""
        return dict(json.loads(self.node.path(f"{STATE}/last-run.json").read_text()))

    def flush(self) -> None:
        """All rules are gone, as after a reboot, and so is what lies in /run."""
        self.node.run(["nft", "flush", "ruleset"])
        for table in ("nat", "filter", "mangle"):
            for tool in ("iptables-legacy", "ip6tables-legacy"):
                self.node.run([tool, "-t", table, "-F"], check=False)
                self.node.run([tool, "-t", table, "-X"], check=False)
        self.node.run(["rm", "-rf", "/run/servicenet"])

    def answers(self, address: str = "10.96.0.10", port: int = 80) -> set[str]:
        """Who answers a Pod of the node; empty if nobody does."""
        return set(self.lab.probe("pod-a1", address, port, count=32, timeout=0.4).who)


@pytest.fixture(scope="module")
def url(lab: Lab, control_plane: ControlPlane, checkout: Path) -> str:
    """A cluster with one Service, and a user who may only list."""
    roles = (checkout / "roles/cluster_snapshot/files/clusterrole.yaml").read_text()
    role = yaml.safe_load(roles)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    control_plane.api.create_all([role, binding, *lab.node_objects()])
    return lab.reach("node-a", control_plane)


def objects(pods: list[str], lab: Lab) -> list[dict[str, Any]]:
    """A Service with these Pods, and one with a health check."""
    port = {"name": "plain", "protocol": "TCP", "port": 80, "targetPort": 9000}
    external = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32100}
    made: list[dict[str, Any]] = []
    for name, ip, more in (("web", "10.96.0.10", {}), ("front", "10.96.0.11", external)):
        made += [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"namespace": "default", "name": name},
                "spec": {"clusterIP": ip, "ports": [port], **more},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": "default",
                    "name": f"{name}-1",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"name": "plain", "protocol": "TCP", "port": 9000}],
                "endpoints": [
                    {"addresses": [lab.pods[p].ips[0]], "conditions": {"ready": True}, "nodeName": lab.pods[p].node}
                    for p in pods
                ],
            },
        ]
    return made


def change(plane: ControlPlane, pods: list[str], lab: Lab) -> None:
    """From now on these Pods are behind both Services."""
    for made in objects(pods, lab):
        if made["kind"] == "EndpointSlice":
            plane.api.patch("EndpointSlice", "default", made["metadata"]["name"], {"endpoints": made["endpoints"]})


@pytest.fixture(scope="module", params=MODES)
def agent(request: pytest.FixtureRequest, lab: Lab, control_plane: ControlPlane, url: str) -> Iterator[Agent]:
    """node-a after `site`, with pod-a2 behind the Services."""
    held = {item["metadata"]["name"] for item in control_plane.api.list("Service", "default")}
    if "web" not in held:
        control_plane.api.create_all(objects(["pod-a2"], lab))
    change(control_plane, ["pod-a2"], lab)
    made = Agent(lab, control_plane, url, request.param)
    made.playbook("site")
    yield made
    made.playbook("cleanup")


def test_a_node_keeps_itself_up_to_date(agent: Agent, lab: Lab) -> None:
    """The program that `site` installed pulls, does nothing twice, restores, repairs, and goes on without the API."""
    assert agent.answers() == {"pod-a2"}
    again = agent.playbook("site")
    assert again.changed["node-a"] == 0
    assert json.loads(agent.node.run(["/usr/local/bin/servicenet-agent", "status"]).stdout)

    # A change of the cluster.
    change(agent.plane, ["pod-b1"], lab)
    status, said = agent.run("pull")
    assert status == 0, said
    assert agent.answers() == {"pod-b1"}
    assert agent.last()["changed"]

    # Nothing changed: no file but the note and the outcome is written.
    snapshot = agent.node.path(f"{STATE}/snapshot.jsonl.gz").stat()
    assert agent.run("pull")[0] == 0
    assert not agent.last()["changed"]
    assert agent.node.path(f"{STATE}/snapshot.jsonl.gz").stat().st_mtime_ns == snapshot.st_mtime_ns

    # A reboot, with the API server away: the rules come back, and what they are is no guess.
    agent.plane.stop_api()
    try:
        agent.flush()
        assert agent.answers() == set()
        status, said = agent.run("restore")
        assert status == 0, said
        assert agent.answers() == {"pod-b1"}
        status, said = agent.run("pull")
        assert status == 3, said
        assert "The rules stay as they are; the cluster was read" in said
        assert agent.answers() == {"pod-b1"}
        assert agent.last()["result"] == "unreachable"
        assert agent.last()["failing_since"] == 0
        # Nor does an outage keep a pull from repairing what somebody altered meanwhile.
        agent.flush()
        status, said = agent.run("pull")
        assert status == 3, said
        assert agent.answers() == {"pod-b1"}
        assert agent.last()["drift"]
        told = json.loads(agent.run("status")[1])
        assert (told["mode"], told["last_run"]["result"]) == (agent.mode, "unreachable")
        assert told["snapshot_age"] > 0
    finally:
        agent.plane.start_api()
    text = agent.node.path(f"{STATE}/servicenet.prom").read_text()
    assert 'servicenet_runs_total{result="unreachable"} 2\n' in text
    assert "servicenet_services 3\n" in text

    # Ansible and the agent agree on what is in force.
    assert agent.run("pull")[0] == 0
    resync = agent.playbook("resync", "--diff")
    assert "service rules" not in resync.output


def test_one_run_at_a_time_and_not_for_ever(agent: Agent, lab: Lab) -> None:
    change(agent.plane, ["pod-a2"], lab)
    assert agent.run("pull")[0] == 0
    agent.flush()
    lock = agent.node.path("/run/servicenet/agent.lock")
    lock.parent.mkdir(exist_ok=True)
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, said = agent.run("pull")
        assert status == 4
        assert "held the lock" in said
        # A restore is repeated by nobody, so it waits.
        restore = agent.node.start_process(["python3", PROGRAM, "restore"])
        wait_until(lambda: times_open("/run/servicenet/agent.lock"), "a restore that asks for the lock")
        time.sleep(0.5)
        assert restore.poll() is None
        fcntl.flock(held, fcntl.LOCK_UN)
        assert restore.wait(300) == 0
        assert agent.answers() == {"pod-a2"}
    settings = agent.node.path("/etc/servicenet/agent.json")
    kept = settings.read_text()
    # A server that takes the connection and says nothing.
    silent = agent.node.start_process(["socat", "TCP-LISTEN:16999,bind=127.0.0.1,fork", f"EXEC:sleep {SILENCE}"])
    try:
        wait_until(lambda: ":16999 " in agent.node.run(["ss", "-Hltn"]).stdout)
        limits = {"time_limit": 2, "timeout": SILENCE}
        settings.write_text(json.dumps({**json.loads(kept), "server": "https://127.0.0.1:16999", **limits}))
        began = time.monotonic()
        status, said = agent.run("pull")
        assert status == 5, said
        # It waits neither for the server's nor for its own patience.
        assert time.monotonic() - began < SILENCE / 2
        assert "time limit of 2 s" in said
    finally:
        settings.write_text(kept)
        silent.send_signal(signal.SIGTERM)
        silent.wait()
    assert agent.answers() == {"pod-a2"}
    assert agent.run("pull")[0] == 0


def test_the_same_collection_gives_the_same_program(checkout: Path, tmp_path: Path) -> None:
    build = checkout / "roles/service_resync/files/build_agent.py"
    utils = checkout / "plugins/module_utils"
    for name in ("one", "two"):
        subprocess.run([sys.executable, str(build), str(utils), str(tmp_path / name)], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = subprocess.run([sys.executable, str(build), str(utils), str(tmp_path / "one")], check=True, stdout=-1)
    assert again.stdout == b""

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab itself: without these, no other integration test means anything."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from lab import ControlPlane, Lab, LabError
from lab.claim import BASE, Claim, is_stale, labs, namespaces, recorded_processes, remove, remove_stale, sh, started
from lab.cluster import COMMAND_LINE, PLAIN, manifest_objects
from lab.control_plane import Api, ApiError
from lab.waiting import wait_until

TESTS = Path(__file__).resolve().parents[1]
OWNER = """
import sys, time
from lab import Lab
lab = Lab(nodes=1, pods=1)
lab.open()
lab.node("node-a").start_process(["sleep", "1000"])
print(lab.prefix, lab.node("node-a").holder, flush=True)
time.sleep(1000)
"""


def test_pods_of_two_nodes_reach_each_other_with_their_own_addresses(lab: Lab) -> None:
    """As Kubernetes' network model wants it, in both families and for TCP and UDP."""
    here, there = lab.pods["pod-a1"], lab.pods["pod-b2"]
    for mine, theirs in zip(here.ips, there.ips, strict=True):
        for proto in ("TCP", "UDP"):
            got = lab.probe("pod-a1", theirs, PLAIN, proto, count=3)
            assert (dict(got.who), got.peers, dict(got.failures)) == ({"pod-b2": 3}, {"pod-b2": {mine}}, {})


def test_client_outside_reaches_nodes_and_pods(lab: Lab) -> None:
    """With any of its addresses."""
    last = lab.client_ips[-1][0]
    assert lab.probe("client", lab.node("node-b").ips[0], PLAIN, source=last).peers == {"node-b": {last}}
    status, body = lab.http("client", f"http://[{lab.pods['pod-a3'].ips[1]}]:8080/")
    assert (status, body.split()) == (200, ["pod-a3", "8080", lab.client_ips[0][1]])


def test_unprogrammed_vip_is_silent_from_everywhere(lab: Lab) -> None:
    """So that whatever answers for a VIP later, rules made it do so."""
    for client in ("client", "node-a", "pod-b1"):
        assert set(lab.probe(client, "10.96.0.10", PLAIN, count=2, timeout=0.2).failures) == {"drop"}


def test_code_of_archives_is_compiled_once(lab: Lab, tmp_path: Path) -> None:
    """Whatever the archive is called, and anew for every content; what the node's Python starts knows nothing of it."""
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
import thing
print(thing.tell(), os.path.basename(os.path.dirname(thing.tell.__code__.co_filename)))
print(*sorted({"PYTHONPATH", "SERVICENET_COMPILED"} & {*os.environ}))
"""

    def told(name: str, value: str) -> list[str]:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("thing.py", f"def tell():\n    return {value!r}\n")
        return sh(str(lab.node("node-a").python), "-c", program, str(tmp_path / name)).stdout.splitlines()

    old, new = os.urandom(8).hex(), os.urandom(8).hex()
    assert told("a.zip", old) == [f"{old} a.zip", ""]
    assert told("b.zip", old) == [f"{old} a.zip", ""]
    assert told("c.zip", new) == [f"{new} c.zip", ""]


def test_nodes_share_no_files_processes_or_names(lab: Lab) -> None:
    """What one node writes, the other and the machine don't see."""
    a, b = lab.node("node-a"), lab.node("node-b")
    mark = f"servicenet-lab-test-{os.getpid()}"
    for path in (f"/etc/{mark}", f"/var/lib/{mark}", f"/run/{mark}", f"/usr/local/bin/{mark}"):
        a.run(["touch", path])
        assert a.path(path).exists()
        assert b.run(["test", "-e", path], check=False).returncode == 1
        assert not Path(path).exists()
    machine = Path("/etc/resolv.conf").read_text()
    a.run(["sh", "-c", "echo nameserver 198.18.0.1 > /etc/resolv.conf"])
    assert b.run(["cat", "/etc/resolv.conf"]).stdout.splitlines()[-1] == "nameserver 127.0.0.1"
    assert Path("/etc/resolv.conf").read_text() == machine
    assert [node.run(["hostname"]).stdout.strip() for node in (a, b)] == ["node-a", "node-b"]
    a.start_process(["sleep", "4711"])
    assert "sleep 4711" not in b.run(["ps", "-e", "-o", "args"]).stdout


def test_nodes_share_no_rules(lab: Lab) -> None:
    """Each has a network stack of its own."""
    lab.node("node-a").run(["nft", "add", "table", "ip", "lab_test"])
    assert "lab_test" not in lab.node("node-b").run(["nft", "list", "tables"]).stdout
    lab.node("node-a").run(["nft", "delete", "table", "ip", "lab_test"])


def test_long_connection_notices_when_it_is_cut(lab: Lab) -> None:
    """A stream answers as long as packets pass, and only so long."""
    target, node = lab.pods["pod-b1"].ips[0], lab.node("node-b")
    stream = lab.stream("pod-a1", target, 7000)
    assert stream.say("one") == "pod-b1 one"
    node.run(["ip", "link", "set", "pod1", "down"])
    try:
        assert stream.say("two", timeout=3) == ""
    finally:
        node.run(["ip", "link", "set", "pod1", "up"])
        for family, ip in zip("46", lab.pods["pod-b1"].ips, strict=True):
            node.run(["ip", f"-{family}", "route", "replace", ip, "dev", "pod1"])
    stream.close()
    with pytest.raises(LabError, match="could not connect"):
        lab.stream("pod-a1", target, 7001)


def test_playbook_runs_on_the_nodes(lab: Lab, tmp_path: Path) -> None:
    """Modules run inside: they see the node's name and write the node's files."""
    playbook = tmp_path / "try.yml"
    playbook.write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "servicenet_nodes",
                    "gather_facts": False,
                    "tasks": [
                        {"ansible.builtin.command": "hostname", "register": "said", "changed_when": False},
                        {
                            "ansible.builtin.copy": {
                                "content": "{{ said.stdout }}",
                                "dest": "/etc/lab-test",
                                "mode": "0600",
                            }
                        },
                    ],
                }
            ]
        )
    )
    first = lab.playbook(str(playbook))
    assert first.changed == {"node-a": 1, "node-b": 1}
    assert [lab.node(name).path("/etc/lab-test").read_text() for name in lab.nodes] == ["node-a", "node-b"]
    assert lab.playbook(str(playbook)).changed == {"node-a": 0, "node-b": 0}
    assert not Path("/etc/lab-test").exists()


def test_everything_is_gone_after_close() -> None:
    """Namespaces, processes, files; and a second lab beside it is not touched."""
    with Lab(nodes=1, pods=1) as other:
        with Lab(nodes=1, pods=1) as short:
            holder = short.node("node-a").holder
            assert namespaces(short.prefix)
            assert started(holder)
        assert not namespaces(short.prefix)
        assert not started(holder)
        assert not (BASE / short.prefix).exists()
        assert dict(other.probe("pod-a1", "10.128.1.1", PLAIN, count=1).who) == {"node-a": 1}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_everything_is_gone_after_the_owner_was_killed(how: signal.Signals) -> None:
    """After SIGTERM at once, after `kill -9` as soon as somebody starts the next lab."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(TESTS)}
    )
    assert owner.stdout
    prefix, holder = owner.stdout.readline().split()
    try:
        assert namespaces(prefix)
        owner.send_signal(how)
        owner.wait()
        if how == signal.SIGKILL:
            # Whoever starts a lab beside this test may have been faster.
            remove_stale()
            wait_until(lambda: not (BASE / prefix).exists(), "the other one to have removed it")
        assert not namespaces(prefix)
        assert not started(int(holder))
        assert not (BASE / prefix).exists()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
        remove(prefix)


def test_a_lab_that_is_kept_at_the_last_moment_is_not_swept() -> None:
    """Its owner was seen when it did not ask for that yet, and was gone at the second look."""
    claim = Claim()
    try:
        claim.register(kept=False)
        seen = labs()[claim.prefix] | {"pid": 2**22, "started": "0"}
        claim.register(kept=True)
        assert not is_stale(claim.prefix, seen)
    finally:
        remove(claim.prefix)


def test_a_lab_takes_no_name_of_another() -> None:
    """One that was kept by a process of the same id."""
    first = Claim()
    number = int(first.prefix.rpartition("x")[2])
    kept = [BASE / f"{first.prefix.rpartition('x')[0]}x{number + i}" for i in (1, 2)]
    try:
        for directory in kept:
            directory.mkdir(parents=True)
        assert Claim().prefix.endswith(f"x{number + 3}")
    finally:
        for directory in kept:
            directory.rmdir()


def test_servers_of_a_kept_lab_outlive_the_group_of_its_owner() -> None:
    """As Ansible ends all processes of a task that it gives up."""
    script = OWNER.replace("time.sleep(1000)", "lab.keep(); time.sleep(1000)")
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        start_new_session=True,
    )
    assert owner.stdout
    prefix = owner.stdout.readline().split()[0]
    try:
        wait_until(lambda: labs()[prefix]["kept"])
        os.killpg(owner.pid, signal.SIGKILL)
        owner.wait()
        url = "http://10.128.1.11:8080/"
        assert sh("ip", "netns", "exec", f"{prefix}-client", "curl", "--silent", url).stdout.startswith("pod-a1\n")
    finally:
        remove(prefix)
        owner.wait()
        owner.stdout.close()


def test_a_kept_lab_goes_with_its_control_plane() -> None:
    """`down` takes everything that the same process kept."""
    kept = [Claim(), Claim()]
    try:
        for claim in kept:
            claim.register(kept=True)
        subprocess.run([sys.executable, COMMAND_LINE, "down", "--lab", kept[0].prefix], check=True, capture_output=True)
        assert not [claim.prefix for claim in kept if claim.directory.exists()]
    finally:
        for claim in kept:
            remove(claim.prefix)


def test_manifests_describe_this_lab(lab: Lab) -> None:
    """Their Nodes and Pods are the lab's, and every endpoint is the Pod that its targetRef names, where that Pod is."""
    nodes = {m["metadata"]["name"]: m for m in manifest_objects() if m["kind"] == "Node"}
    assert list(nodes.values()) == lab.node_objects()
    pods = [m for m in manifest_objects() if m["kind"] == "Pod"]
    assert {pod["metadata"]["name"] for pod in pods} == set(lab.pods)
    for pod in pods:
        there = lab.pods[pod["metadata"]["name"]]
        assert pod["spec"]["nodeName"] == there.node
        assert tuple(entry["ip"] for entry in pod["status"]["podIPs"]) == there.ips
    endpoints = 0
    for piece in (m for m in manifest_objects() if m["kind"] == "EndpointSlice"):
        for endpoint in piece["endpoints"]:
            there = lab.pods[endpoint["targetRef"]["name"]]
            assert endpoint["addresses"][0] == there.ips[piece["addressType"] == "IPv6"]
            assert endpoint["nodeName"] == there.node
            assert endpoint["zone"] == lab.node(there.node).zone
            endpoints += 1
    assert endpoints


def test_control_plane_takes_the_manifests_and_knows_its_users(control_plane: ControlPlane) -> None:
    """The very objects of the demonstration pass a real API server; a user without rights is refused."""
    api = control_plane.api
    api.create_all(m for m in manifest_objects() if m["metadata"]["name"] not in ("default", "kube-system"))
    services = {s["metadata"]["name"]: s for s in api.list("Service", "shop")}
    assert services["web"]["spec"]["clusterIP"] == "10.96.0.10"
    assert services["front"]["status"]["loadBalancer"]["ingress"][0]["ip"] == "198.19.0.12"
    with pytest.raises(ApiError, match="403"):
        Api(control_plane.port, control_plane.token("nobody")).list("Service")
    api.clear()
    assert {s["metadata"]["name"] for s in api.list("Service")} <= {"kubernetes"}


def test_control_plane_survives_an_outage(control_plane: ControlPlane) -> None:
    """The state is etcd's; only the API server goes and comes back."""
    api = control_plane.api
    with contextlib.suppress(ApiError):
        api.create({"kind": "Namespace", "metadata": {"name": "outage"}})
    control_plane.stop_api()
    with pytest.raises(OSError, match="namespaces"):
        api.list("Namespace")
    control_plane.start_api()
    assert "outage" in [n["metadata"]["name"] for n in api.list("Namespace")]


def test_node_reaches_the_control_plane(lab: Lab, control_plane: ControlPlane) -> None:
    """Through the relay on its loopback."""
    url = lab.reach("node-b", control_plane)
    token = f"Authorization: Bearer {control_plane.token('admin')}"
    said = wait_until(
        lambda: lab.node("node-b").run(["curl", "-sk", "-H", token, f"{url}/version"], check=False).stdout, "an answer"
    )
    assert "v1.36" in said


def test_control_plane_leaves_no_process() -> None:
    """Neither etcd nor the API server nor the relay."""
    if not os.access(Path.home() / ".cache/servicenet/peers/bin/kube-apiserver", os.X_OK):
        pytest.skip("kube-apiserver has not been built (`make peers`)")
    with ControlPlane() as plane:
        running = recorded_processes(plane.prefix)
        assert len(running) == 3
    assert not any(started(pid) for pid in running)
    assert not plane.directory.exists()

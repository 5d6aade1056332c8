# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""servicenet-agent on a bad day: it fetches a snapshot from a URL, and what follows each fault, by real packets."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

PROGRAM = "/usr/local/lib/servicenet/servicenet-agent.pyz"
STATE = "/var/lib/servicenet"
TOKEN = "/etc/servicenet/agent.token"
PORT = 8000
# The Services of the cluster, by their addresses.
NUMBERS = range(10, 20)
# Longer than any run takes on a busy machine.
LONG = 6000


class Pulling:
    """node-a with its agent, and nginx on the client of the lab that serves the snapshot."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.node, self.served = lab, lab.node("node-a"), directory / "served"
        self.address = lab.client_ips[0][0]
        self.served.mkdir()
        self.given = 1_000_000_000
        self.log = directory / "access.log"
        (directory / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;\n"
            f"events {{}} http {{ access_log {self.log}; server {{ listen {PORT}; root {self.served}; }} }}\n"
        )
        self.command = ["ip", "netns", "exec", lab.ns("client"), "nginx", "-c", str(directory / "nginx.conf")]
        self.server: subprocess.Popen[bytes] | None = None
        self.serve()
        self.give("pod-a1")
        manifest = directory / "cluster.json"
        manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": self.objects("pod-a1")}))
        self.inventory = lab.inventory(
            directory / "inventory.yml",
            cluster_snapshot_manifests=[str(manifest)],
            service_proxy_mode="nftables",
            service_proxy_install=False,
            servicenet_resync=True,
            service_resync_supervisor="cron",
            service_resync_source="url",
            service_resync_url=f"http://{self.address}:{PORT}/snapshot.jsonl.gz",
            service_resync_checksum_url=f"http://{self.address}:{PORT}/sha256sum",
            service_resync_textfile_dir=STATE,
            service_resync_agent_path=str(directory / "servicenet-agent.pyz"),
        )

    def serve(self) -> None:
        """Starts the server."""
        self.server = subprocess.Popen(self.command)

    def away(self) -> None:
        """Ends the server."""
        if self.server is not None:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait()
            self.server = None

    def objects(self, pod: str, numbers: range = NUMBERS, **spec: Any) -> list[dict[str, Any]]:
        """The cluster: Services with this Pod behind each; ``spec`` is of the first one."""
        made: list[dict[str, Any]] = [*self.lab.node_objects()]
        made.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        for number in numbers:
            own = spec if number == numbers[0] else {}
            port = PORT if "externalIPs" in own else 80
            made += [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"namespace": "shop", "name": f"s{number}"},
                    "spec": {
                        "clusterIP": f"10.96.0.{number}",
                        "clusterIPs": [f"10.96.0.{number}"],
                        "ports": [{"name": "plain", "protocol": "TCP", "port": port, "targetPort": 9000}],
                        **own,
                    },
                },
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "namespace": "shop",
                        "name": f"s{number}-1",
                        "labels": {"kubernetes.io/service-name": f"s{number}"},
                    },
                    "addressType": "IPv4",
                    "ports": [{"name": "plain", "protocol": "TCP", "port": 9000}],
                    "endpoints": [
                        {
                            "addresses": [self.lab.pods[pod].ips[0]],
                            "conditions": {"ready": True},
                            "nodeName": self.lab.pods[pod].node,
                        }
                    ]
                    if pod
                    else [],
                },
            ]
        return made

    def give(self, pod: str, numbers: range = NUMBERS, **spec: Any) -> None:
        """What is served from now on."""
        data = snapshot.dump(build_snapshot(self.objects(pod or "pod-a1", numbers, **spec)))
        if not pod:
            data = snapshot.dump(build_snapshot(self.objects("", numbers)))
        path = self.served / "snapshot.jsonl.gz"
        path.write_bytes(data)
        # Another time each, since nginx makes its ETag of seconds and length.
        self.given += 1
        os.utime(path, (self.given, self.given))
        (self.served / "sha256sum").write_text(f"{hashlib.sha256(data).hexdigest()}  snapshot.jsonl.gz\n")

    def run(self, *arguments: str) -> tuple[int, str]:
        """The agent, as cron would run it -> its status and what it said."""
        done = self.node.run(["python3", PROGRAM, *arguments], check=False)
        return done.returncode, done.stdout + done.stderr

    def agents(self) -> list[int]:
        """The processes of the agent, as the node numbers them."""
        found = []
        for path in self.node.path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has just ended
                if PROGRAM.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def settings(self, **changed: Any) -> None:
        """Other settings of the agent."""
        path = self.node.path("/etc/servicenet/agent.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    def who(self, number: int = 10, port: int = 80) -> set[str]:
        """Who answers a Pod of the node: a Service has one endpoint."""
        answers = self.lab.probe("pod-a3", f"10.96.0.{number}", port, count=2)
        return {*answers.who, *answers.failures}

    def flush(self) -> None:
        """All rules are gone."""
        self.node.run(["nft", "flush", "ruleset"])


@pytest.fixture(scope="module")
def pulling(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulling]:
    made = Pulling(lab, tmp_path_factory.mktemp("url"))
    # As if it had read the cluster before.
    made.node.run(["mkdir", "-p", "/etc/servicenet"])
    made.node.path(TOKEN).write_text("secret")
    try:
        lab.playbook("site", None, "--limit=node-a,localhost", inventory=made.inventory)
        yield made
    finally:
        made.away()


@pytest.fixture(autouse=True)
def as_before(pulling: Pulling) -> None:
    """Each test begins with pod-a1 behind all Services, and the server there."""
    if pulling.server is None:
        pulling.serve()
    pulling.give("pod-a1")
    pulling.settings(confirm_seconds=0, max_removed_percent=100)
    pulling.run("release")
    wait_until(lambda: pulling.run("pull")[0] == 0, seconds=300)
    pulling.settings(max_removed_percent=50)
    assert pulling.who() == {"pod-a1"}


def test_a_token_that_is_not_given_any_more_is_gone(pulling: Pulling) -> None:
    assert pulling.node.path("/etc/servicenet/agent.json").exists()
    assert not pulling.node.path(TOKEN).exists()


def test_a_snapshot_from_a_url(pulling: Pulling) -> None:
    # The same ETag: the server sends nothing, and nothing changes.
    pulling.log.write_text("")
    assert pulling.run("pull")[0] == 0
    # The server writes it down after it has answered.
    wait_until(lambda: pulling.log.read_text().endswith("\n"), "a line of the server's log")
    assert [line.split('" ')[1].split()[0] for line in pulling.log.read_text().splitlines()] == ["304"]
    pulling.give("pod-b1")
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (0, {"pod-b1"}), said
    # What does not match its checksum, or is no snapshot, is refused; the rules stay.
    pulling.give("pod-b2")
    (pulling.served / "sha256sum").write_text("0" * 64 + "\n")
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (1, {"pod-b1"})
    assert f"does not match http://{pulling.address}:{PORT}/sha256sum: it is refused." in said
    data = gzip.compress(b"<html>\n")
    (pulling.served / "snapshot.jsonl.gz").write_bytes(data)
    (pulling.served / "sha256sum").write_text(hashlib.sha256(data).hexdigest())
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (1, {"pod-b1"})
    assert "The file is not a snapshot" in said


def test_an_hour_without_the_source(pulling: Pulling) -> None:
    pulling.away()
    record = pulling.node.path(f"{STATE}/last-run.json")
    before = json.loads(record.read_text())
    record.write_text(json.dumps({**before, "snapshot_read": before["snapshot_read"] - 3600}))
    # Somebody flushes all rules meanwhile: the last state comes back without the source.
    pulling.flush()
    assert pulling.who() == {"drop"}
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (3, {"pod-a1"})
    age = int(said.partition("the cluster was read ")[2].split()[0])
    assert 3600 <= age < 3600 + LONG
    assert json.loads(pulling.run("status")[1])["snapshot_age"] >= 3600
    metrics = pulling.node.path(f"{STATE}/servicenet.prom").read_text()
    (read,) = re.findall(r"^servicenet_snapshot_read_timestamp_seconds (.+)$", metrics, re.MULTILINE)
    assert 3600 <= time.time() - float(read) < 3600 + LONG
    # The same if the node starts anew.
    pulling.flush()
    pulling.node.run(["rm", "-rf", "/run/servicenet"])
    assert pulling.who() == {"drop"}
    status, said = pulling.run("restore")
    assert (status, pulling.who()) == (0, {"pod-a1"}), said


def test_the_loss_of_most_is_refused_and_can_be_allowed(pulling: Pulling) -> None:
    """An empty answer, one without most Services, one without the endpoints."""
    for numbers, pod, what in (
        (range(0), "pod-b1", "lacks 10 of 10 Services"),
        (range(10, 14), "pod-b1", "lacks 6 of 10 Services"),
        (NUMBERS, "", "lacks 10 of 10 ready endpoints"),
    ):
        pulling.give(pod, numbers)
        status, said = pulling.run("pull")
        assert status == 1
        assert what in said
        assert "more than 50 %: it is refused and the old one stays" in said
        assert "allow it with max_removed_percent" in said
        assert pulling.who() == {"pod-a1"}
    pulling.settings(max_removed_percent=100)
    assert pulling.run("pull")[0] == 0
    assert pulling.who() == {"reject"}


def test_rules_that_were_flushed_or_edited_are_repaired_and_named(pulling: Pulling) -> None:
    pulling.node.run(["nft", "delete", "element", "ip", "servicenet", "service", "{ 10.96.0.10 . tcp . 80 }"])
    assert pulling.who() != {"pod-a1"}
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (0, {"pod-a1"})
    assert "Repaired: shop/s10:plain had been altered." in said
    pulling.flush()
    assert pulling.who() == {"drop"}
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (0, {"pod-a1"})
    assert "Repaired: shop/s19:plain had been altered." in said


def test_two_at_once(pulling: Pulling) -> None:
    """One of them is at work, the other one says so and is no failure; a module of Ansible waits for the same lock."""
    pulling.give("pod-b1")
    slow = pulling.node.path("/usr/local/sbin/nft")
    slow.write_text(
        "#!/bin/sh\n[ -e /run/go ] || touch /run/here\nwhile [ ! -e /run/go ]; do sleep 0.1; done\n"
        'exec /usr/sbin/nft "$@"\n'
    )
    slow.chmod(0o755)
    first = pulling.node.start_process(["python3", PROGRAM, "pull"])
    try:
        wait_until(pulling.node.path("/run/here").exists, seconds=300)
        status, said = pulling.run("pull")
        assert status == 4
        assert "held the lock /run/servicenet/agent.lock" in said
        assert "Wait until that run has ended, or end it." in said
    finally:
        pulling.node.path("/run/go").touch()
        assert first.wait(300) == 0
        slow.unlink()
        pulling.node.path("/run/go").unlink()
        pulling.node.path("/run/here").unlink(missing_ok=True)
    assert pulling.who() == {"pod-b1"}


def test_a_kill_at_each_step_is_healed_by_the_next_run(pulling: Pulling) -> None:
    killer = pulling.node.path("/usr/local/sbin/nft")
    pods = ("pod-b1", "pod-b2")
    for step in range(1, 9):
        pulling.give(pods[step % 2])
        killer.write_text(
            '#!/bin/sh\necho . >>/run/calls\n/usr/sbin/nft "$@"\nstatus=$?\n'
            f"[ $(wc -l </run/calls) != {step} ] || kill -9 $PPID\nexit $status\n"
        )
        killer.chmod(0o755)
        try:
            killed = pulling.run("pull")[0] in (-9, 137)
        finally:
            killer.unlink()
            pulling.node.path("/run/calls").unlink(missing_ok=True)
        assert pulling.who() <= {"pod-a1", *pods}
        assert pulling.run("pull")[0] == 0
        assert pulling.who() == {pods[step % 2]}
        if not killed:
            break
    assert step > 1


def test_a_full_disk_changes_nothing(pulling: Pulling) -> None:
    pulling.give("pod-b1")
    state = pulling.node.path(STATE)
    pulling.node.run(["sh", "-c", f"cp -a {STATE} /run/state && mount -t tmpfs -o size=512k none {STATE}"])
    pulling.node.run(["sh", "-c", f"cp -a /run/state/. {STATE}/ && dd if=/dev/zero of={STATE}/ballast bs=4k || true"])
    try:
        status, said = pulling.run("pull")
        assert status == 1, said
        assert "No space left on device" in said
        assert pulling.who() == {"pod-a1"}
        (state / "ballast").unlink()
        assert pulling.run("pull")[0] == 0
        assert pulling.who() == {"pod-b1"}
    finally:
        pulling.node.run(["umount", STATE])
        pulling.node.run(["rm", "-rf", "/run/state"])


def test_a_change_that_cuts_the_node_off_its_source_goes_back(pulling: Pulling) -> None:
    """The Service takes the address and port of the source: from the node, a Pod answers there instead."""
    pulling.settings(confirm_seconds=3)
    pulling.give("pod-b1", NUMBERS, externalIPs=[pulling.address])
    status, said = pulling.run("pull")
    assert status == 1
    assert "could not be reached for 3 s after the change, which went back by itself" in said
    wait_until(lambda: not pulling.node.path(f"{STATE}/confirm.json").exists(), seconds=300)
    assert pulling.who(11) == {"pod-a1"}
    status, said = pulling.run("pull")
    assert status == 0
    assert "a change was not confirmed and went back by itself" in said
    assert json.loads(pulling.run("status")[1])["held"]
    # A change that leaves the way open is confirmed by the agent itself.
    assert pulling.run("release")[0] == 0
    pulling.settings(confirm_seconds=LONG)
    pulling.give("pod-b2")
    status, said = pulling.run("pull")
    assert (status, pulling.who()) == (0, {"pod-b2"}), said
    assert not pulling.node.path(f"{STATE}/confirm.json").exists()


def test_a_kill_while_the_agent_waits_is_undone_by_a_boot(pulling: Pulling) -> None:
    """Nobody is left to go back, and the source can't be reached: restore, and any run, do it before anything else."""
    for undoes in ("restore", "pull"):
        pulling.settings(confirm_seconds=LONG)
        pulling.give("pod-b1", NUMBERS, externalIPs=[pulling.address])
        agent = pulling.node.start_process(["python3", PROGRAM, "pull"])
        waiting = pulling.node.path(f"{STATE}/confirm.json")
        wait_until(
            lambda path=waiting: path.exists() and json.loads(path.read_text() or "{}").get("until", 0) > 0, seconds=300
        )
        assert pulling.who(11) == {"pod-b1"}
        for pid in pulling.agents():
            pulling.node.run(["kill", "-9", str(pid)], check=False)
        assert agent.wait(300) != 0
        if undoes == "pull":
            assert pulling.run("pull")[0] == 4  # there is still time to confirm it
            waiting.write_text(json.dumps({**json.loads(waiting.read_text()), "until": time.time()}))
        pulling.run(undoes)
        assert pulling.who(11) == {"pod-a1"}
        assert json.loads(pulling.run("status")[1])["held"]
        assert pulling.run("release")[0] == 0
    assert pulling.run("rollback", "ffffff")[0] == 1


def test_rollback_without_a_controller(pulling: Pulling) -> None:
    pulling.give("pod-b1")
    assert pulling.run("pull")[0] == 0
    status, said = pulling.run("rollback", "--hold", "3600")
    assert (status, pulling.who()) == (0, {"pod-a1"}), said
    assert "because it was rolled back at" in said
    pulling.give("pod-b2")
    assert pulling.run("pull")[0] == 0
    assert pulling.who() == {"pod-a1"}
    assert pulling.run("release")[0] == 0
    assert pulling.run("pull")[0] == 0
    assert pulling.who() == {"pod-b2"}

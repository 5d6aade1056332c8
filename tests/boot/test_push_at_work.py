# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd and cron really start what the role tells them to: that is seen by what answers afterwards.

The machine is the controller and its own only node: it has Ansible, and nobody outside runs anything.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boot.world import VIP, cluster_file, use_networkd
from collection_tree import CHECKOUT
from lab.claim import LabError
from lab.machine import ADDRESS, NAME, POD_CIDR, Machine, obstacle
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot

LIBRARIES = Path(sysconfig.get_path("purelib"))
# Both cron and systemd have a meaning of their own for %.
INVENTORY, SNAPSHOT = "/root/100% mine.json", "/root/cluster.jsonl.gz"
BY_SYSTEMD = {"service_resync_push_supervisor": "systemd", "service_resync_interval": 1}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STATE = "/var/lib/servicenet/nftables.json"
NO_NODE = "Could not match supplied host pattern, ignoring: servicenet_nodes"


class Controller:
    """The machine, with Ansible and a cluster that is a file."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.node = machine, machine.node
        # Its own Python; what the virtual environment has of compiled code may be built for another.
        machine.write("/usr/lib/python3/dist-packages/lab.pth", f"{LIBRARIES}\n")
        collections = "/usr/share/ansible/collections/ansible_collections/kubenode"
        self.node.run(["mkdir", "-p", collections])
        self.node.run(["ln", "-s", str(CHECKOUT), f"{collections}/servicenet"])

    def offer(self, pod: str) -> None:
        """The cluster is now one whose Service has this Pod."""
        new = self.node.path(f"{SNAPSHOT}.new")
        new.write_bytes(cluster_file(pod))
        new.rename(self.node.path(SNAPSHOT))

    def playbook(self, name: str, **variables: Any) -> None:
        """A playbook of the collection, run by root in a session."""
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "service_proxy_node_name": NAME,
            "service_proxy_node_ips": [ADDRESS],
        }
        given = {
            "cluster_snapshot_source": "file",
            "cluster_snapshot_path": SNAPSHOT,
            "service_proxy_mode": "nftables",
            "service_proxy_install": False,
            "service_proxy_pod_cidrs": [POD_CIDR],
            "servicenet_resync": True,
            "service_resync_method": "push",
            "service_resync_jitter": 0,
            "service_resync_serve": False,
            **variables,
        }
        hosts = {"servicenet_nodes": {"hosts": {NAME: host}, "vars": given}}
        self.machine.write(INVENTORY, json.dumps({"all": {"children": hosts}}))
        # Of this machine's environment nothing: it leads to another copy of the collection.
        session = ["env", "-i", f"PATH={PATH}", "HOME=/root", "XDG_RUNTIME_DIR=/run/user/0", "LC_ALL=C.UTF-8"]
        ansible = ["python3", "-m", "ansible", "playbook", "--inventory", INVENTORY, f"kubenode.servicenet.{name}"]
        done = self.node.run([*session, *ansible], check=False)
        if done.returncode:
            raise LabError(done.stdout + done.stderr)

    def says(self, *command: str) -> str:
        """What a program on the machine says."""
        return self.node.run(["env", "XDG_RUNTIME_DIR=/run/user/0", *command], check=False).stdout.strip()

    def lets_root_linger(self) -> None:
        """From now on the user manager of root runs without a session."""
        self.says("loginctl", "enable-linger", "root")
        wait_until(lambda: self.says("systemctl", "--user", "is-system-running") == "running", "root's user manager")

    def who_answers(self) -> set[str]:
        """Who answers the Service's address, asked from outside."""
        return self.machine.answers("outside", VIP, 80)

    def comes_to(self, pod: str) -> None:
        """Waits until this Pod answers, and sees that the node says it holds that state."""
        wait_until(lambda: self.who_answers() == {pod}, f"{pod} behind the Service", 240)
        digest = snapshot.load(cluster_file(pod)).digest
        wait_until(lambda: json.loads(self.node.path(STATE).read_text())["snapshot"] == digest, "the state file")


@pytest.fixture
def controller() -> Iterator[Controller]:
    """A booted machine on which nothing of the collection is there yet."""
    reason = obstacle()
    if reason:
        pytest.skip(reason)
    with Machine(shared=(LIBRARIES, CHECKOUT)) as machine:
        use_networkd(machine)
        made = Controller(machine)
        made.offer("pod-1")
        yield made


def test_the_timer_of_the_user_manager(controller: Controller) -> None:
    controller.lets_root_linger()
    controller.playbook("site", **BY_SYSTEMD)
    assert controller.who_answers() == {"pod-1"}
    controller.offer("pod-2")
    controller.comes_to("pod-2")
    # While somebody else's run is at work there is no second one, and that is no failure.
    lock = "/root/.cache/servicenet/servicenet-resync.lock"
    held = "touch /run/held && exec sleep infinity"
    controller.says("systemd-run", "--unit=other", "flock", lock, "sh", "-c", held)
    wait_until(controller.node.path("/run/held").exists, "the other run")
    said = controller.says("journalctl", "--output=cat", "_SYSTEMD_USER_UNIT=servicenet-resync.service")
    assert "PLAY RECAP" in said
    ended = ["journalctl", "--output=cat", "USER_UNIT=servicenet-resync.service"]
    before = controller.says(*ended).count("Finished ")
    controller.offer("pod-1")
    wait_until(lambda: controller.says(*ended).count("Finished ") >= before + 2, "two runs that are none")
    assert controller.who_answers() == {"pod-2"}
    assert "Failed with result" not in controller.says(*ended)
    # Somebody flushes everything.
    controller.says("nft", "flush", "ruleset")
    assert "pod-2" not in controller.who_answers()
    controller.says("systemctl", "stop", "other.service")
    controller.comes_to("pod-1")
    # After a boot it goes on by itself.
    controller.machine.reboot()
    controller.offer("pod-2")
    controller.comes_to("pod-2")
    controller.playbook("cleanup", **BY_SYSTEMD)
    assert "servicenet" not in controller.says("systemctl", "--user", "list-timers", "--all")
    assert controller.who_answers() != {"pod-2"}


@pytest.mark.parametrize("supervisor", ["systemd", "cron"])
def test_a_run_that_hangs_is_ended_and_told(controller: Controller, supervisor: str, full_figures: bool) -> None:
    """So is one that finds no node."""
    if not full_figures:
        pytest.skip("a run that hangs is one of the full figures")
    if supervisor == "systemd":
        controller.lets_root_linger()
        log, hung, failed = "USER_UNIT=servicenet-resync.service", "result 'timeout'", "result 'exit-code'"
    else:
        controller.node.run(["systemctl", "enable", "--now", "cron.service"])
        log, hung, failed = "--identifier=servicenet-resync", "ended at its time limit of 30 s", NO_NODE
    controller.machine.write("/usr/bin/hangs", "#!/bin/sh\nexec sleep infinity\n", 0o755)
    controller.playbook(
        "site", **{**BY_SYSTEMD, "service_resync_push_supervisor": supervisor}, service_resync_time_limit=30
    )
    inventory = controller.node.path(INVENTORY)
    sound = inventory.read_text()
    inventory.write_text(sound.replace('"/usr/bin/python3"', '"/usr/bin/hangs"'))
    wait_until(lambda: hung in controller.says("journalctl", "--output=cat", log), "the time limit")
    inventory.write_text(sound.replace('"servicenet_nodes"', '"others"'))
    wait_until(lambda: failed in controller.says("journalctl", "--output=cat", log), "a run without nodes")
    assert NO_NODE in controller.says("journalctl", "--output=cat", "--boot")
    inventory.write_text(sound)
    controller.offer("pod-2")
    controller.comes_to("pod-2")


def test_cron_on_the_controller(controller: Controller) -> None:
    controller.node.run(["systemctl", "enable", "--now", "cron.service"])
    by_cron = {"service_resync_interval": 60}
    controller.playbook("site", **by_cron)
    assert controller.who_answers() == {"pod-1"}
    controller.offer("pod-2")
    controller.comes_to("pod-2")
    said = ["journalctl", "--output=cat", "--identifier=servicenet-resync"]
    wait_until(lambda: "PLAY RECAP" in controller.says(*said), "the end of the run")
    controller.playbook("cleanup", **by_cron)
    assert controller.says("crontab", "-l") == ""


def test_cron_on_a_node(controller: Controller, full_figures: bool) -> None:
    if not full_figures:
        pytest.skip("cron on a node is one of the full figures")
    controller.node.run(["systemctl", "enable", "--now", "cron.service"])
    pulls = {
        "service_resync_method": "pull",
        "service_resync_supervisor": "cron",
        "service_resync_interval": 60,
        "service_resync_source": "url",
        "service_resync_url": "http://127.0.0.1:8000/cluster.jsonl.gz",
    }
    controller.playbook("site", **pulls)
    # The URL gives nothing yet.
    controller.machine.reboot()
    controller.comes_to("pod-1")
    said = ["journalctl", "--output=cat", "--identifier=servicenet-agent"]
    assert "restore: " in controller.says(*said)
    source = ["python3", "-m", "http.server", "--directory=/root", "--bind=127.0.0.1", "8000"]
    controller.says("systemd-run", "--unit=source", *source)
    controller.offer("pod-2")
    controller.comes_to("pod-2")
    assert "pull: 1 Services changed" in controller.says(*said)
    controller.playbook("cleanup", **pulls)
    assert not controller.node.path("/etc/cron.d/servicenet").exists()
    assert controller.who_answers() != {"pod-2"}

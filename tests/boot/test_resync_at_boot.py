# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The units of service_resync under a real systemd: the timer, a boot without the cluster, neighbours that flush."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from boot.world import VIP, cluster_file, use_networkd
from lab.claim import kill_and_wait
from lab.machine import ADDRESS, GATEWAY, POD_CIDR, Machine
from lab.playbooks import PlaybookRun
from lab.waiting import wait_until

RESTORE = "servicenet-restore.service"
AT_ONLINE = "/var/lib/rules-at-online"
# What the kernel holds when the network is said to be up. Each unit waits for what stands behind After alone.
WITNESS = f"""\
[Unit]
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'nft list ruleset >{AT_ONLINE}'

[Install]
WantedBy=multi-user.target
"""
# A restore that takes its time: whoever does not wait for it comes first.
SLOW = "[Service]\nExecStartPre=/bin/sleep 2\n"
# firewalld counts as started when it has its name on the bus, and this comes behind: whoever does not wait is flushed.
SLOW_FIREWALLD = """\
[Service]
ExecStart=
ExecStart=/usr/bin/python3 /usr/local/bin/slow-firewalld --nofork --nopid
"""
SLOWLY = """\
import time
from firewall.core.fw import Firewall

start = Firewall._start

def slowly(*arguments, **more):
    time.sleep(5)
    return start(*arguments, **more)

Firewall._start = slowly
exec(open("/usr/sbin/firewalld").read())
"""


class Kept:
    """A machine that keeps its rules by itself, from a URL in the world outside."""

    def __init__(self, machine: Machine, mode: str) -> None:
        self.machine, self.mode = machine, mode
        self.served = machine.directory / "served"
        self.snapshot = self.served / "snapshot.jsonl.gz"
        self.served.mkdir(exist_ok=True)
        self._server = 0

    def offer(self, pod: str) -> None:
        """The cluster is now one whose Service has this Pod."""
        new = self.served / "new"
        new.write_bytes(cluster_file(pod))
        new.rename(self.snapshot)

    def start_source(self) -> None:
        """The URL answers."""
        command = [
            "ip",
            "netns",
            "exec",
            self.machine.ns("outside"),
            sys.executable,
            "-m",
            "http.server",
            "--directory",
        ]
        self._server = self.machine.spawn("source", *command, self.served, "8000").pid

    def stop_source(self) -> None:
        """The URL answers no longer."""
        if self._server:
            kill_and_wait([self._server])
        self._server = 0

    def comes_to(self, pod: str) -> None:
        """The URL answers, and the timer brings this Pod."""
        self.offer(pod)
        if not self._server:
            self.start_source()
        wait_until(lambda: self.who_answers() == {pod}, "the timer")

    def playbook(self, name: str, *options: str) -> PlaybookRun:
        """A playbook of the collection on the machine."""
        variables = {
            "cluster_snapshot_source": "file",
            "cluster_snapshot_path": str(self.snapshot),
            "service_proxy_mode": self.mode,
            "service_proxy_install": False,
            "service_proxy_pod_cidrs": [POD_CIDR],
            "service_proxy_max_removed_percent": 100,
            "servicenet_resync": True,
            "service_resync_source": "url",
            "service_resync_url": f"http://{GATEWAY}:8000/{self.snapshot.name}",
            "service_resync_interval": 1,
            "service_resync_jitter": 0,
            "service_resync_max_removed_percent": 100,
            "service_resync_agent_path": str(self.machine.directory / "servicenet-agent.pyz"),
        }
        return self.machine.playbook(name, variables, *options)

    def systemctl(self, *arguments: str) -> str:
        """What systemctl says on the machine."""
        return self.machine.node.run(["systemctl", *arguments], check=False).stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit said since the machine booted."""
        return self.machine.node.run(["journalctl", "--boot", "--output=cat", f"--unit={unit}"]).stdout

    def last_run(self) -> dict[str, Any]:
        """The state file of the agent."""
        return dict(json.loads(self.machine.node.path("/var/lib/servicenet/last-run.json").read_text()))

    def ports(self) -> dict[str, int]:
        """The ports of proxies, of which only the mode userspace has any."""
        path = self.machine.node.path("/var/lib/servicenet/userspace_ports.json")
        return dict(json.loads(path.read_text())["ports"]) if path.exists() else {}

    def who_answers(self) -> set[str]:
        """Who answers the Service's address, asked from outside."""
        return self.machine.answers("outside", VIP, 80)

    def answers_health_check(self, place: str) -> bool:
        """Does somebody there get an answer from the node's own server?"""
        ask = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
        url = f"http://{ADDRESS}:10256/healthz"
        command = ["ip", "netns", "exec", self.machine.ns(place), sys.executable, "-c", ask, url]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @contextmanager
    def without_timer(self) -> Iterator[None]:
        """The agent runs only where something else starts it."""
        self.systemctl("stop", "servicenet-pull.timer", "servicenet-pull.service")
        try:
            yield
        finally:
            self.systemctl("start", "servicenet-pull.timer")

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Waits in the end for one more restore than there was."""
        wait_until(lambda: self.systemctl("is-active", RESTORE) == "inactive", "the last restore")
        restored = self.journal(RESTORE).count("restore: ")
        yield
        wait_until(lambda: self.journal(RESTORE).count("restore: ") > restored, "a restore")


@pytest.fixture(scope="module", params=["nftables", "iptables", "userspace"])
def kept(request: pytest.FixtureRequest, machine: Machine, full_figures: bool) -> Iterator[Kept]:
    """A machine after `site`, with pod-1 behind the Service; the last test of a mode takes it all away."""
    if request.param != "nftables" and not full_figures:
        pytest.skip("each mode is one of the full figures")
    if not Path(machine.node.path("/etc/systemd/network/10-uplink.network")).exists():
        use_networkd(machine, "nftables.service")
        machine.write("/etc/systemd/system/witness.service", WITNESS)
        machine.write("/etc/systemd/system/servicenet-restore.service.d/slow.conf", SLOW)
        machine.node.run(["systemctl", "enable", "witness.service"])
    made = Kept(machine, request.param)
    made.offer("pod-1")
    made.start_source()
    # Check mode, on a machine that has none of the units.
    made.playbook("site", "--check")
    assert made.who_answers() != {"pod-1"}
    made.playbook("site")
    yield made
    made.stop_source()


def test_the_timer_applies_what_changed(kept: Kept) -> None:
    assert kept.who_answers() == {"pod-1"}
    assert kept.playbook("site").changed["node-a"] == 0
    kept.offer("pod-2")
    wait_until(lambda: kept.who_answers() == {"pod-2"}, "the timer")
    assert "pull: 1 Services changed" in kept.journal("servicenet-pull.service")
    assert kept.systemctl("is-failed", "servicenet-pull.service") != "failed"


def test_a_boot_brings_the_rules_back_before_the_network_is_up(kept: Kept) -> None:
    """Without the URL, so from what lies on the machine alone."""
    kept.offer("pod-2")
    wait_until(lambda: kept.who_answers() == {"pod-2"}, "the timer")
    kept.stop_source()
    ports = kept.ports()
    assert bool(ports) == (kept.mode == "userspace")
    kept.machine.power_off()
    kept.machine.boot()
    assert kept.who_answers() == {"pod-2"}
    assert VIP in kept.machine.node.path(AT_ONLINE).read_text()
    assert kept.ports() == ports
    proxies = kept.systemctl("is-active", "servicenet-userspace.service")
    assert proxies == ("active" if ports else "inactive")
    assert "restore: " in kept.journal(RESTORE)
    wait_until(lambda: "The rules stay as they are" in kept.journal("servicenet-pull.service"), "a pull in vain")
    assert kept.last_run()["result"] == "unreachable"
    assert kept.systemctl("is-system-running") == "running"
    assert kept.who_answers() == {"pod-2"}


@pytest.mark.parametrize("verb", ["restart", "reload", "start"])
def test_the_rules_come_back_when_nftables_flushes_everything(kept: Kept, verb: str) -> None:
    with kept.without_timer():
        with kept.restoring():
            kept.machine.node.run(["nft", "add", "table", "ip", "somebody"])
            if verb == "start":
                kept.systemctl("stop", "nftables.service")
            kept.systemctl(verb, "nftables.service")
            assert "somebody" not in kept.machine.node.run(["nft", "list", "tables"]).stdout
        assert kept.who_answers() == {"pod-2"}


def test_firewalld(kept: Kept, full_figures: bool) -> None:
    """Whatever its backend is, it flushes the tables of iptables; its own zone lets through what was translated."""
    run = kept.machine.node.run
    kept.comes_to("pod-2")
    if full_figures:
        kept.machine.write("/usr/local/bin/slow-firewalld", SLOWLY)
        kept.machine.write("/etc/systemd/system/firewalld.service.d/slow.conf", SLOW_FIREWALLD)
        kept.systemctl("daemon-reload")
    with kept.without_timer():
        # It conflicts with nftables, which is still active.
        with kept.restoring():
            run(["systemctl", "start", "firewalld.service"])
        assert kept.machine.answers("pod-1", VIP, 80) == kept.who_answers() == {"pod-2"}
        # What the node itself answers is firewalld's matter.
        assert not any(map(kept.answers_health_check, ("outside", "pod-1")))
        run(["firewall-cmd", "--add-port=10256/tcp"])
        assert all(map(kept.answers_health_check, ("outside", "pod-1")))
        run(["firewall-cmd", "--remove-port=10256/tcp"])
        run(["firewall-cmd", "--zone=trusted", f"--add-source={POD_CIDR}"])
        assert kept.answers_health_check("pod-1")
        assert not kept.answers_health_check("outside")
        for verb, backend in (("reload", "nftables"), ("restart", "iptables"), ("restart", "nftables")):
            if full_figures:
                run(["sed", "-i", f"s/^FirewallBackend=.*/FirewallBackend={backend}/", "/etc/firewalld/firewalld.conf"])
                with kept.restoring():
                    run(["systemctl", verb, "firewalld.service"])
                assert kept.machine.answers("pod-1", VIP, 80) == kept.who_answers() == {"pod-2"}
        # Of this systemd knows nothing.
        run(["firewall-cmd", "--reload"])
        assert (kept.who_answers() == {"pod-2"}) == (kept.mode != "iptables")
    wait_until(lambda: kept.who_answers() == {"pod-2"}, "the timer")
    if full_figures:
        run(["systemctl", "disable", "nftables.service", "servicenet-pull.timer"])
        run(["systemctl", "enable", "firewalld.service"])
        kept.machine.reboot()
        assert kept.who_answers() == {"pod-2"}
        assert kept.systemctl("is-active", "servicenet-pull.timer") == "inactive"
        run(["systemctl", "disable", "--now", "firewalld.service"])
        assert (kept.who_answers() == {"pod-2"}) == (kept.mode != "iptables")
        run(["systemctl", "enable", "--now", "nftables.service", "servicenet-pull.timer"])


def test_netfilter_persistent(kept: Kept) -> None:
    """It saved rules of ours, which are old by now, and loads them when it starts."""
    if kept.mode != "iptables":
        pytest.skip("it loads tables of iptables")
    run = kept.machine.node.run
    kept.comes_to("pod-1")
    run(["netfilter-persistent", "save"])
    kept.comes_to("pod-2")
    with kept.without_timer():
        with kept.restoring():
            run(["systemctl", "enable", "--now", "netfilter-persistent.service"])
        with kept.restoring():
            run(["systemctl", "restart", "netfilter-persistent.service"])
        assert kept.who_answers() == {"pod-2"}
        # Of what follows systemd knows nothing.
        run(["netfilter-persistent", "reload"])
        assert kept.who_answers() == {"pod-1"}
    wait_until(lambda: kept.who_answers() == {"pod-2"}, "the timer")
    with kept.without_timer():
        run(["netfilter-persistent", "flush"])
        assert "pod-2" not in kept.who_answers()
    wait_until(lambda: kept.who_answers() == {"pod-2"}, "the timer")
    run(["systemctl", "disable", "servicenet-pull.timer", "nftables.service"])
    kept.machine.reboot()
    assert kept.who_answers() == {"pod-2"}
    run(["systemctl", "disable", "netfilter-persistent.service"])
    run(["systemctl", "enable", "--now", "nftables.service", "servicenet-pull.timer"])


def test_nothing_is_left_after_cleanup_and_a_boot(kept: Kept) -> None:
    # Its timer has run every second or two since the machine booted.
    assert "start-limit-hit" not in kept.journal("servicenet-pull.service")
    kept.playbook("cleanup")
    kept.machine.reboot()
    assert kept.who_answers() != {"pod-2"}
    assert kept.systemctl("list-units", "--all", "--plain", "--no-legend", "servicenet-*") == ""
    assert not [*kept.machine.node.path("/etc/systemd/system").glob("*.wants/servicenet-*")]
    for path in (
        "/etc/servicenet",
        "/usr/local/lib/servicenet",
        "/var/lib/servicenet",
        "/usr/local/bin/servicenet-agent",
    ):
        assert not kept.machine.node.path(path).exists()
        assert not kept.machine.node.path(path).is_symlink()
    assert VIP not in kept.machine.node.run(["nft", "list", "ruleset"]).stdout
    assert kept.systemctl("is-system-running") == "running"

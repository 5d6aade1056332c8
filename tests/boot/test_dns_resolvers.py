# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role cluster_dns on a booted machine: its hardened unit, and resolvers that other programs run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from boot.world import VIP, cluster_file, use_network_manager, use_networkd
from lab.control_plane import has_peers, peer
from lab.machine import GATEWAY, Machine
from lab.playbooks import PlaybookRun
from lab.waiting import wait_until

PLAYBOOK = """
- name: DNS alone
  hosts: servicenet_nodes
  gather_facts: false
  roles:
    - role: kubenode.servicenet.cluster_dns
"""
OUTSIDE = """\
. 3600 IN SOA ns.outside.example. root.outside.example. 1 7200 1800 86400 60
. 3600 IN NS ns.outside.example.
www.outside.example. 60 IN A 198.18.0.80
"""
SNAPSHOT = "/var/lib/servicenet/snapshot.jsonl.gz"
DEVICE = "servicenet0"
STUB = "/run/systemd/resolve/stub-resolv.conf"
# Not the role's: notes of systemd and NetworkManager, the program, which stays, and the collection's directories.
OTHERS = re.compile(
    r"/etc/(machine-id|servicenet)|/usr/local/(bin/coredns|lib/servicenet)|/var/lib/(systemd|private|NetworkManager|dbus)(/.*)?"
)


class Resolving:
    """A machine whose resolver is run by systemd-resolved or NetworkManager, and a server of other names outside."""

    def __init__(self, machine: Machine, kind: str) -> None:
        self.machine, self.node, self.kind = machine, machine.node, kind
        self.playbook = machine.directory / "dns.yml"
        self.playbook.write_text(PLAYBOOK)
        zone, corefile = machine.directory / "outside.zone", machine.directory / "outside.corefile"
        zone.write_text(OUTSIDE)
        corefile.write_text(f". {{\n    file {zone} .\n}}\n")
        command = ("ip", "netns", "exec", machine.ns("outside"), peer("COREDNS", "coredns"), "-conf", corefile)
        machine.spawn("outside-dns", *command)
        # As an earlier version made it.
        self.node.path(SNAPSHOT).parent.mkdir(mode=0o750)
        self.node.path(SNAPSHOT).write_bytes(cluster_file("pod-1"))

    def role(self, *options: str, **variables: object) -> PlaybookRun:
        """Runs the role."""
        own = {"cluster_dns_install_path": peer("COREDNS", "coredns"), "cluster_dns_zone_reload_seconds": 1}
        return self.machine.playbook(str(self.playbook), own | variables, *options)

    def of_kubernetes(self) -> str:
        """What a resync would write into the Corefile where CoreDNS is to ask an API server."""
        part = {"name": "kubenode.servicenet.cluster_dns", "tasks_from": "zones"}
        given = {"cluster_dns_mode": "kubernetes", "cluster_dns_kubeconfig": str(self.playbook)}
        task = {"ansible.builtin.include_role": part, "vars": given}
        play = self.machine.directory / "kubernetes.yml"
        play.write_text(json.dumps([{"hosts": "servicenet_nodes", "gather_facts": False, "tasks": [task]}]))
        return self.machine.playbook(str(play), {}, "--check", "--diff").output

    def lookup(self, name: str) -> str:
        """The address that a program on the machine gets for a name; "" for none."""
        found = self.node.run(["getent", "ahostsv4", name], check=False).stdout.split()
        return found[0] if found else ""

    def coredns(self) -> str:
        """The process id of the CoreDNS that systemd runs; 0 for none."""
        asked = ["systemctl", "show", "--value", "--property=MainPID", "servicenet-dns.service"]
        return self.node.run(asked).stdout.strip()

    def files(self) -> dict[str, str]:
        """Every file of the machine that the role could have touched, and what is in it."""
        found = {}
        root = self.node.path("/")
        for top in ("/etc", "/usr/local", "/var/lib"):
            for path in sorted(self.node.path(top).rglob("*")):
                name = f"/{path.relative_to(root)}"
                if OTHERS.fullmatch(name):
                    continue
                if path.is_symlink():
                    found[name] = f"-> {path.readlink()}"
                else:
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        return found

    def asks(self) -> str:
        """Whom the machine's resolver asks."""
        if self.kind == "systemd-resolved":
            told = (["resolvectl", "dns"], ["resolvectl", "domain"], ["resolvectl", "default-route"])
            said = "".join(self.node.run(one).stdout for one in told)
            # The device is the role's, which takes it away.
            return "\n".join(line.split("(")[-1] for line in said.splitlines() if DEVICE not in line)
        return self.node.path("/etc/resolv.conf").read_text()

    def assert_split(self) -> None:
        """systemd-resolved asks CoreDNS for the names of the cluster."""
        if not self.node.path(f"/sys/class/net/{DEVICE}").exists():
            found = self.node.run(["resolvectl", "domain"]).stdout
            assert re.search(r"^Global:.* ~cluster\.local\b", found, re.MULTILINE), found
            return
        # And for no others: those are looked for behind the uplink alone.
        found = self.node.run(["resolvectl", "status", DEVICE]).stdout
        assert re.search(r"DNS Servers: 169\.254\.20\.10$", found, re.MULTILINE), found
        assert re.search(r"DNS Domain: .*~cluster\.local\b", found), found
        assert "-DefaultRoute" in found
        assert "link: eth0" in self.node.run(["resolvectl", "query", "www.outside.example"]).stdout
        assert f"link: {DEVICE}" in self.node.run(["resolvectl", "query", "web.shop.svc.cluster.local"]).stdout


@pytest.fixture(scope="module", params=["systemd-resolved", "systemd-resolved on the loopback", "NetworkManager"])
def resolving(request: pytest.FixtureRequest, full_figures: bool) -> Iterator[Resolving]:
    """A machine of its own for each of them, without the role."""
    if not has_peers("coredns"):
        pytest.skip("CoreDNS has not been built (`make peers`)")
    if request.param.endswith("loopback") and not full_figures:
        pytest.skip("a kernel without dummy devices is one of the full figures")
    with Machine(device="" if request.param.endswith("loopback") else DEVICE) as machine:
        made = Resolving(machine, request.param.split()[0])
        if made.kind == "systemd-resolved":
            use_networkd(machine, "systemd-resolved.service")
            machine.node.run(["ln", "-sf", STUB, "/etc/resolv.conf"])
        else:
            use_network_manager(machine)
        wait_until(lambda: made.lookup("www.outside.example") == "198.18.0.80", "the world outside")
        yield made


def test_the_role_from_nothing_to_nothing(resolving: Resolving) -> None:
    """On, after a crash, over a boot, again, and off: each in the state that the one before has left."""
    before, asked = resolving.files(), resolving.asks()
    # Check mode, on a machine that has none of the units.
    assert resolving.role("--check").changed["node-a"] > 0
    assert (resolving.files(), resolving.asks()) == (before, asked)
    resolving.role()

    # Every program on the machine resolves both worlds, by way of its own resolver.
    wait_until(lambda: resolving.lookup("web.shop.svc.cluster.local") == VIP, "the names of the cluster")
    assert resolving.lookup("database.shop.svc.cluster.local") == "10.128.1.11"
    assert resolving.lookup("www.outside.example") == "198.18.0.80"
    assert resolving.lookup("nobody.shop.svc.cluster.local") == ""
    if resolving.kind == "systemd-resolved":
        assert resolving.node.path("/etc/resolv.conf").readlink() == Path(STUB)
        resolving.assert_split()
    else:
        assert "Generated by NetworkManager" in resolving.asks()
        assert "nameserver 169.254.20.10\n" in resolving.asks()
    assert GATEWAY in resolving.node.path("/etc/servicenet/Corefile").read_text()

    # systemd's own judgement of the unit that runs.
    said = resolving.node.run(["systemd-analyze", "security", "servicenet-dns.service"]).stdout
    exposure = re.search(r"exposure level for servicenet-dns\.service: ([\d.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0
    main = resolving.coredns()
    status = resolving.node.path(f"/proc/{main}/status").read_text()
    assert re.search(r"^CapEff:\t0{13}400$", status, re.MULTILINE), status  # CAP_NET_BIND_SERVICE
    assert "NoNewPrivs:\t1" in status
    assert not re.search(r"^Uid:\t0\t", status, re.MULTILINE)

    # A crash.
    resolving.node.run(["kill", "-9", main])
    wait_until(lambda: resolving.coredns() not in ("0", main), "another CoreDNS")
    wait_until(lambda: resolving.lookup("web.shop.svc.cluster.local") == VIP, "its answer")

    # A boot.
    written = resolving.files()
    resolving.machine.reboot()
    wait_until(lambda: resolving.lookup("web.shop.svc.cluster.local") == VIP, "the names of the cluster")
    wait_until(lambda: resolving.lookup("www.outside.example") == "198.18.0.80", "the world outside")
    if resolving.kind == "systemd-resolved":
        resolving.assert_split()
    assert resolving.node.run(["systemctl", "is-system-running"], check=False).stdout == "running\n"

    # systemd hands CoreDNS, which is not root, its kubeconfig.
    assert "kubeconfig /run/credentials/servicenet-dns.service/kubeconfig" in resolving.of_kubernetes()

    # A second run.
    assert resolving.role().changed == {"node-a": 0}
    assert resolving.files() == written

    # Off.
    resolving.role(cluster_dns_state="absent")
    assert resolving.files() == before
    wait_until(lambda: resolving.asks() == asked, "the former resolver")
    assert resolving.lookup("web.shop.svc.cluster.local") == ""
    assert resolving.lookup("www.outside.example") == "198.18.0.80"
    assert "169.254.20.10" not in resolving.node.run(["ip", "address"]).stdout
    assert "servicenet_dns" not in resolving.node.run(["nft", "list", "tables"]).stdout

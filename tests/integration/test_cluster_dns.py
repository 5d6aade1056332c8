# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CoreDNS on a node: installed, served from, changed under load, broken in every way, and taken away again."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import ControlPlane, Lab
from lab.cluster import manifest_objects
from lab.control_plane import has_peers, peer
from lab.nodes import Node
from lab.playbooks import PlaybookRun
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.allocations import Allocations, Ranges
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_completion import complete
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

ADDRESS = "169.254.20.10"
SNAPSHOT = "/var/lib/servicenet/snapshot.jsonl.gz"
ZONE = "/var/lib/servicenet/zones/db.cluster.local"
PLAYBOOK = """
- name: DNS alone
  hosts: servicenet_nodes
  gather_facts: false
  roles:
    - role: kubenode.servicenet.cluster_dns
"""
SERVICE_CIDR = {"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}


class Dns:
    """The lab with the role on its first node, and a way to change the cluster."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.playbook = lab.directory / "dns.yml"
        self.playbook.write_text(PLAYBOOK)
        self.objects: list[Any] = [SERVICE_CIDR, *complete(manifest_objects(), Allocations(), Ranges()).objects]

    def hand_over(self, node: Node, *more: Any) -> str:
        """Puts a snapshot with further objects on a node; returns its digest."""
        made = build_snapshot([*self.objects, *more])
        path = node.path(SNAPSHOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(snapshot.dump(made))
        return made.digest

    def role(self, *options: str, node: str = "node-a", check: bool = True, **variables: Any) -> PlaybookRun:
        """Runs the role on a node."""
        own = {
            "cluster_dns_install_path": peer("COREDNS", "coredns"),
            "cluster_dns_supervisor": "process",
            "cluster_dns_zone_reload_seconds": 1,
        }
        return self.lab.playbook(str(self.playbook), own | variables, f"--limit={node}", *options, check=check)

    def module(self, node: Node, **options: Any) -> PlaybookRun:
        """Runs the module that writes the zones alone."""
        task = {
            "hosts": "servicenet_nodes",
            "gather_facts": False,
            "tasks": [{"kubenode.servicenet.cluster_dns_zones": {"zone_reload_seconds": 1} | options}],
        }
        path = self.lab.directory / "zones.yml"
        path.write_text(yaml.safe_dump([task]))
        return self.lab.playbook(str(path), {}, f"--limit={node.name}")


def service(name: str, address: str) -> dict[str, Any]:
    """A Service."""
    return {
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIPs": [address], "ports": [{"name": "http", "port": 80}]},
    }


def dig(node: Node, name: str, kind: str = "A", server: str = ADDRESS) -> list[str]:
    """The records of an answer; [] for none."""
    done = node.run(["dig", "+short", "+tries=3", "+time=3", f"@{server}", name, kind], check=False)
    return sorted(line for line in done.stdout.splitlines() if not line.startswith(";"))


def coredns_of(node: Node) -> int:
    """The process id of CoreDNS, as the node sees it."""
    return int(node.run(["pgrep", "-x", "coredns"]).stdout.split()[0])


def settle(node: Node) -> None:
    """Waits until CoreDNS has loaded the zone file."""
    held = str(serial(node))
    wait_until(lambda: held in " ".join(dig(node, "cluster.local", "SOA")).split(), "the zone file to be loaded")


def serial(node: Node) -> int:
    """The serial in the zone file."""
    return int(node.path(ZONE).read_text().splitlines()[1].split()[6])


@pytest.fixture(scope="module")
def dns() -> Iterator[Dns]:
    """A lab of two nodes; the role has run on the first."""
    if not has_peers("coredns"):
        pytest.skip("CoreDNS has not been built (`make peers`)")
    with Lab(nodes=2, pods=1) as lab:
        made = Dns(lab)
        made.hand_over(lab.node("node-a"))
        made.role()
        yield made


@pytest.fixture
def node(dns: Dns) -> Node:
    """The node with CoreDNS on it."""
    return dns.lab.node("node-a")


def test_the_nodes_programs_resolve_the_names_of_the_cluster(node: Node) -> None:
    assert node.run(["getent", "ahostsv4", "database.shop.svc.cluster.local"]).stdout.split()[0].startswith("10.128.")
    assert dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"]
    assert dig(node, "_tcp._tcp.database.shop.svc.cluster.local", "SRV") == [
        "0 50 9000 db-0.database.shop.svc.cluster.local.",
        "0 50 9000 db-1.database.shop.svc.cluster.local.",
    ]
    assert dig(node, "10.0.96.10.in-addr.arpa", "PTR") == ["web.shop.svc.cluster.local."]


def test_a_second_run_changes_nothing(dns: Dns, node: Node) -> None:
    before = {
        path: node.path(path).stat().st_mtime_ns for path in (ZONE, "/etc/servicenet/Corefile", "/etc/resolv.conf")
    }
    process = coredns_of(node)
    assert dns.role().changed == {"node-a": 0}
    assert {path: node.path(path).stat().st_mtime_ns for path in before} == before
    assert coredns_of(node) == process


def test_check_mode_on_a_node_never_touched_changes_nothing(dns: Dns) -> None:
    other = dns.lab.node("node-b")
    dns.hand_over(other)
    run = dns.role("--check", "--diff", node="node-b")
    assert run.changed["node-b"] > 0
    assert "+shop/web: web.shop.svc.cluster.local. 5 IN A 10.96.0.10" in run.output
    for path in (ZONE, "/etc/servicenet", "/usr/local/bin/coredns", "/usr/local/lib/servicenet"):
        assert not other.path(path).exists()
    assert ADDRESS not in other.run(["ip", "address"]).stdout
    assert "127.0.0.1" in other.path("/etc/resolv.conf").read_text()


def test_queries_stay_out_of_connection_tracking(node: Node) -> None:
    rules = "table ip tracked { chain c { type filter hook output priority 0; ct state new counter; }; }"
    node.run(["nft", "-f", "-"], text=rules)
    try:
        dig(node, "web.shop.svc.cluster.local")
        dig(node, "web.shop.svc.cluster.local", server=node.ips[0])  # nobody listens there: tracked
        tracked = node.run(["conntrack", "-L", "-p", "udp"]).stdout
    finally:
        node.run(["nft", "delete", "table", "ip", "tracked"])
    assert f"dst={node.ips[0]}" in tracked
    assert ADDRESS not in tracked


def test_pods_ask_the_address_of_the_dns_service(dns: Dns, node: Node) -> None:
    dns.role(cluster_dns_service_ip="10.96.0.53")
    wait_until(lambda: dig(node, "web.shop.svc.cluster.local", server="10.96.0.53") == ["10.96.0.10"])
    pod = [
        "ip",
        "netns",
        "exec",
        dns.lab.ns("pod-a1"),
        "dig",
        "+short",
        "+tries=2",
        "@10.96.0.53",
        "web.shop.svc.cluster.local",
    ]
    assert subprocess.run(pod, capture_output=True, text=True, check=True).stdout.split() == ["10.96.0.10"]
    dns.role()
    assert "10.96.0.53" not in node.run(["ip", "address"]).stdout


def test_a_change_is_seen_and_gets_another_serial(dns: Dns, node: Node) -> None:
    before = serial(node)
    reverse = node.path(ZONE).with_name("db.96.10.in-addr.arpa")
    untouched = reverse.read_bytes()
    dns.hand_over(node, service("fresh", "10.99.0.7"))
    run = dns.module(node)
    assert run.changed == {"node-a": 1}
    wait_until(lambda: dig(node, "fresh.shop.svc.cluster.local") == ["10.99.0.7"])
    assert serial(node) > before
    assert reverse.read_bytes() == untouched  # the address is in no zone
    digest = re.findall(r'_snapshot\S+ 5 IN TXT "(\w+)"', node.path(ZONE).read_text())
    assert dig(node, "_snapshot.cluster.local", "TXT") == [f'"{digest[0]}"']
    now = serial(node)
    assert dns.module(node).changed == {"node-a": 0}
    assert serial(node) == now


def test_a_snapshot_that_lost_most_is_refused(dns: Dns, node: Node) -> None:
    node.path(SNAPSHOT).write_bytes(snapshot.dump(build_snapshot([SERVICE_CIDR])))
    run = dns.role(check=False)
    assert run.failed["node-a"] == 1
    assert "The new snapshot lacks" in run.output
    assert dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"]
    dns.hand_over(node)
    dns.module(node)


def test_no_query_is_lost_while_zones_change(dns: Dns, node: Node, full_figures: bool) -> None:
    queries = dns.lab.directory / "queries"
    asked = ("web.shop.svc.cluster.local A", "database.shop.svc.cluster.local A", "dns-version.cluster.local TXT")
    queries.write_text("".join(f"{query}\n" for query in asked))
    changes = 50 if full_figures else 10
    # It runs until it is told to end; its time limit only sees to it that it reads the queries again and again.
    perf = ["dnsperf", "-s", ADDRESS, "-d", str(queries), "-Q", "1000", "-l", "3600", "-t", "60"]
    load = subprocess.Popen([*node.enter(), *perf], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for number in range(changes):
        dns.hand_over(node, service(f"extra-{number}", f"10.96.77.{number + 1}"))
        assert write_zones(node).returncode == 0
        name = f"extra-{number}.shop.svc.cluster.local"
        wait_until(lambda name=name, number=number: dig(node, name) == [f"10.96.77.{number + 1}"])  # type: ignore[misc]
    # What was started is the program that enters the node.
    node.run(["pkill", "-INT", "-x", "dnsperf"])
    said = load.communicate()[0]
    sent, lost = (int(re.search(rf"Queries {word}: +(\d+)", said)[1]) for word in ("sent", "lost"))  # type: ignore[index]
    assert sent > 100 * changes
    assert lost == 0, said
    assert re.search(r"NOERROR \d+ \(100\.00%\)", said), said
    dns.hand_over(node)
    write_zones(node)


PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(Path(snapshot.__file__).parents[6])!r})
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, dns
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import coredns
listen = ({ADDRESS!r},)
served = corefile.CorefileOptions("zones", "cluster.local.", listen, 53, (), (), zone_reload_seconds=1)
request = coredns.Request(
    {SNAPSHOT!r}, dns.options(servers=listen), served, {str(Path(ZONE).parent)!r}, "/etc/servicenet/Corefile",
    "/var/lib/servicenet", "/run/servicenet", int(time.time()))
try:
    coredns.present(request)
except ServicenetError as error:
    sys.exit(str(error))
"""


def write_zones(node: Node, *before: str) -> subprocess.CompletedProcess[str]:
    """What the module does, without the time that Ansible takes to start."""
    return node.run([*before, "python3", "-c", PROGRAM], check=False)


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", ["truncated", "cut at a line", "rubbish", "empty", "deleted"])
def test_what_was_served_is_served_on_and_the_next_run_heals_the_file(node: Node, fault: str) -> None:
    settle(node)
    path = node.path(ZONE)
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    if fault == "deleted":
        path.unlink()
    else:
        broken = {
            "truncated": whole[: len(whole) // 2],
            "cut at a line": "".join(lines[:3]),
            "rubbish": "\0 ( nothing" * 10,
            "empty": "",
        }
        path.write_text(broken[fault])
    time.sleep(2.5)  # it has looked at the file by now
    assert dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"]
    assert write_zones(node).returncode == 0
    assert path.read_text().splitlines()[2:] == whole.splitlines()[2:]
    settle(node)
    assert dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"]


@pytest.mark.parametrize("content", [None, "", "cut"])
def test_a_server_that_starts_with_a_broken_zone_gets_its_copy(node: Node, content: str | None) -> None:
    settle(node)
    path = node.path(ZONE)
    whole = path.read_text()
    if content is None:
        path.unlink()
    else:
        path.write_text("".join(whole.splitlines(keepends=True)[:5]) if content else "")
    node.run(["kill", "-9", str(coredns_of(node))])
    wait_until(lambda: dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"])
    assert path.read_text() == whole


def test_a_full_disk_leaves_the_old_zones(dns: Dns, node: Node) -> None:
    zones = str(Path(ZONE).parent)
    held = node.path(ZONE).read_bytes()
    node.run(["mount", "-t", "tmpfs", "-o", "size=12k", "full", zones])
    try:
        node.path(ZONE).write_bytes(held[:4096])
        dns.hand_over(node, *[service(f"much-{i}", f"10.96.9.{i}") for i in range(1, 250)])
        done = write_zones(node)
        assert "No space left on device" in done.stderr
        assert node.path(ZONE).read_bytes() == held[:4096]
        assert [p.name for p in node.path(zones).iterdir()] == ["db.cluster.local"]
        assert dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"]
    finally:
        node.run(["umount", zones])
        dns.hand_over(node)


def test_a_run_that_is_killed_leaves_whole_files(dns: Dns, node: Node, full_figures: bool) -> None:
    more = [service(f"many-{i}", f"10.96.{i >> 8}.{i & 255}") for i in range(1000, 3000)]
    dns.hand_over(node, *more)
    began = time.monotonic()
    write_zones(node)
    whole_run = time.monotonic() - began
    attempts = 40 if full_figures else 8
    for attempt in range(attempts):
        dns.hand_over(node, *(more[:1000] if attempt % 2 else more))
        # The first part of a run is the start of Python: kills are spread over the rest.
        write_zones(node, "timeout", "-s", "KILL", f"{whole_run * (0.4 + 0.6 * attempt / attempts):.2f}")
        text = node.path(ZONE).read_text()
        assert text.splitlines()[-1].startswith("_snapshot.cluster.local. 5 IN TXT")
        assert dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"]
    dns.hand_over(node)
    write_zones(node)
    assert sorted(p.name for p in node.path(str(Path(ZONE).parent)).iterdir()) == [
        "db.96.10.in-addr.arpa",
        "db.cluster.local",
    ]


def test_coredns_is_started_again(node: Node) -> None:
    first = coredns_of(node)
    node.run(["kill", "-9", str(first)])
    wait_until(lambda: dig(node, "web.shop.svc.cluster.local") == ["10.96.0.10"])
    assert coredns_of(node) != first


# ------------------------------------------------------------------------------------------------------- refused, gone


def test_another_server_on_the_address_is_named(dns: Dns) -> None:
    other = dns.lab.node("node-b")
    dns.hand_over(other)
    squatter = other.start_process(["socat", "UDP-LISTEN:53,fork", "SYSTEM:true"])
    try:
        wait_until(lambda: ":53" in other.run(["ss", "-lun"]).stdout)
        run = dns.role(node="node-b", check=False)
    finally:
        # What was started is the program that enters the node; the server itself is one of the node's processes.
        # It has children that end at any moment.
        other.run(["kill", *other.run(["pgrep", "-f", "UDP-LISTEN:53,"]).stdout.split()], check=False)
        squatter.wait()
    assert re.search(r"socat \(process \d+\) listens on 0\.0\.0\.0 port 53 \(UDP\)", run.output)
    assert not other.path(ZONE).exists()


def test_the_service_address_is_refused_with_ipvs(dns: Dns) -> None:
    run = dns.role(check=False, service_proxy_mode="ipvs", cluster_dns_service_ip="10.96.0.53")
    assert run.failed["node-a"] == 1
    assert "belongs to IPVS" in run.output


def test_the_resolver_is_not_switched_to_a_server_that_does_not_know_the_cluster(dns: Dns) -> None:
    other = dns.lab.node("node-b")
    before = other.path("/etc/resolv.conf").read_text()
    task = {
        "hosts": "servicenet_nodes",
        "gather_facts": False,
        "tasks": [{"kubenode.servicenet.cluster_dns_resolver": {"servers": ["127.0.0.9"]}}],
    }
    path = dns.lab.directory / "resolver.yml"
    path.write_text(yaml.safe_dump([task]))
    run = dns.lab.playbook(str(path), {}, "--limit=node-b", check=False)
    assert "and nothing was changed" in run.output
    assert other.path("/etc/resolv.conf").read_text() == before


def test_the_api_server_is_asked_in_the_other_mode(dns: Dns, control_plane: ControlPlane) -> None:
    other = dns.lab.node("node-b")
    url = dns.lab.reach("node-b", control_plane)
    asked = {
        "cluster_dns_mode": "kubernetes",
        "cluster_dns_kubeconfig": str(control_plane.kubeconfig(path=dns.lab.directory / "dns.kubeconfig", server=url)),
    }
    try:
        dns.role(node="node-b", **asked)
        address = control_plane.api.call("GET", "/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIP"]
        wait_until(lambda: dig(other, "kubernetes.default.svc.cluster.local") == [address])
        assert not other.path(ZONE).exists()
        assert dns.role(node="node-b", **asked).changed == {"node-b": 0}
    finally:
        dns.role(node="node-b", cluster_dns_state="absent")


def test_absent_puts_everything_back(dns: Dns, node: Node) -> None:
    run = dns.role(cluster_dns_state="absent")
    assert run.changed["node-a"] > 0
    assert node.path("/etc/resolv.conf").read_text().splitlines()[-1] == "nameserver 127.0.0.1"
    assert node.run(["pgrep", "-x", "coredns"], check=False).returncode == 1
    assert ADDRESS not in node.run(["ip", "address"]).stdout
    assert "servicenet" not in node.run(["ip", "link"]).stdout
    assert "servicenet_dns" not in node.run(["nft", "list", "ruleset"]).stdout
    for path in (ZONE, "/etc/servicenet/Corefile", "/var/lib/servicenet/resolver.json", "/var/lib/servicenet/dns.json"):
        assert not node.path(path).exists()
    assert node.path(SNAPSHOT).exists()
    assert dns.role(cluster_dns_state="absent").changed == {"node-a": 0}

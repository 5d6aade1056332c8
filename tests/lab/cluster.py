# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab: a cluster in miniature, two nodes that can both be programmed, their Pods and a client outside.

    client    198.18.0.100, fd98::100, and 15 more addresses
       |                                   the client asks ClusterIPs and load balancer IPs by way of node-a,
    ---+------- fabric 198.18.0.0/24, fd98::/64          until `route_client_via` says otherwise
       |           |
    node-a      node-b     198.18.0.11, fd98::11 and 198.18.0.12, fd98::12
    | | |       | | |
    pod-a1..3   pod-b1..3  10.128.1.11.., fd80:0:0:1::11.. and 10.128.2.11.., fd80:0:0:2::11..

Nodes route to each other's Pods, as a CNI plugin without an overlay does. Pods hang on their node by veth pairs `pod1`,
`pod2`, ... and are routed, not bridged. Every Pod, the client and the nodes themselves run a worker (worker.py) that
serves PORTS and opens connections on demand. All addresses exist inside the namespaces only.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from collection_tree import collections_path

from lab.claim import BASE, LabError, labs
from lab.control_plane import PEERS, ControlPlane
from lab.ground import Ground, Worker
from lab.nodes import Node
from lab.playbooks import PlaybookRun, inventory, run_playbook

MANIFESTS = Path(__file__).resolve().parent / "manifests"
COMMAND_LINE = Path(__file__).resolve().parent / "lab.py"

CLUSTER_CIDRS = ("10.128.0.0/9", "fd80::/16")
SERVICE_CIDRS = ("10.96.0.0/12", "fd00:10:96::/108")
LOAD_BALANCER_CIDRS = ("198.19.0.0/16", "fd98:19::/64")
CLIENT_ADDRESSES = 16
# The bridge, and everybody's default route: what has no other way ends there in silence.
FABRIC = ("198.18.0.1/24", "fd98::1/64")
# What every worker serves; see worker.py for what the kinds say.
PORTS = {"plain": [9000, 9001], "http": [8080], "stream": [7000]}
PLAIN, HTTP, STREAM = 9000, 8080, 7000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
API_ON_NODES = 16443
# The file in the lab's directory that Pods see as /etc/resolv.conf.
RESOLVER = "pods-resolv.conf"


class Pod(NamedTuple):
    """A Pod: its namespace is `Lab.ns(name)`."""

    name: str
    node: str
    ips: tuple[str, str]


class Answers(NamedTuple):
    """What came of a number of new flows.

    `who`: answers by the name of who gave them. `peers`: whom each of those saw as its client. `failures`: `reject`,
    `drop`, `closed` (accepted, but silent) or `error ERRNO`, and how often.
    """

    who: Counter[str]
    peers: dict[str, set[str]]
    failures: Counter[str]


class Stream:
    """A long connection from a place of the lab."""

    def __init__(self, worker: Worker, address: str, port: int, source: str) -> None:
        self._worker = worker
        self._number = worker.ask(op="open", address=address, port=port, source=source)
        if self._number < 0:
            raise LabError(f"{worker.name} could not connect to {address} port {port}.")

    def say(self, line: str, timeout: float = 60) -> str:
        """`NAME LINE` of who holds the other end; "" if the connection is broken, or silent for so many seconds."""
        return str(self._worker.ask(op="say", connection=self._number, line=line, timeout=timeout))

    def close(self) -> None:
        """Hangs up."""
        self._worker.ask(op="hang_up", connection=self._number)


class Lab(Ground):
    """Builds the picture above.

    :param nodes: how many nodes, up to 26.
    :param pods: how many Pods on each, up to 80.
    """

    node_type: type[Node] = Node

    def __init__(self, nodes: int = 2, pods: int = 3, prefix: str | None = None) -> None:
        super().__init__(prefix)
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}
        for i, letter in enumerate(LETTERS[:nodes], 1):
            name = f"node-{letter}"
            self.nodes[name] = self.node_type(
                name,
                self.ns(name),
                self.directory,
                (f"198.18.0.{10 + i}", f"fd98::{10 + i}"),
                (f"10.128.{i}.0/24", f"fd80:0:0:{i}::/64"),
                f"zone-{2 - i % 2}",
            )
            for j in range(1, pods + 1):
                pod = Pod(f"pod-{letter}{j}", name, (f"10.128.{i}.{10 + j}", f"fd80:0:0:{i}::{10 + j}"))
                self.pods[pod.name] = pod
        self.client_ips = tuple((f"198.18.0.{100 + i}", f"fd98::{100 + i}") for i in range(CLIENT_ADDRESSES))

    # ---- building

    def build(self) -> None:
        """Namespaces, wires, routes, the nodes' holders, workers."""
        self.add("fabric")
        self.ip(
            "fabric",
            "link add fabric type bridge",
            "link set fabric up",
            *(f"addr add {ip} dev fabric" for ip in FABRIC),
        )
        self.add("client")
        self._attach("client", self.client_ips)
        for node in self.nodes.values():
            self.add(node.name, router=True)
            self._attach(node.name, [node.ips])
        for node in self.nodes.values():
            self.ip(
                node.name,
                *(
                    f"route add {cidr} via {ip}"
                    for other in self.nodes.values()
                    if other is not node
                    for cidr, ip in zip(other.pod_cidrs, other.ips, strict=True)
                ),
            )
            self.ip(
                "client", *(f"route add {cidr} via {ip}" for cidr, ip in zip(node.pod_cidrs, node.ips, strict=True))
            )
        self.route_client_via("node-a")
        for pod in self.pods.values():
            self._add_pod(pod)
        names = "".join(f"{ip} {node.name}\n" for node in self.nodes.values() for ip in node.ips)
        for node in self.nodes.values():
            node.start(f"127.0.0.1 localhost\n::1 localhost\n{names}")
        self.start_workers(["client", *self.nodes, *self.pods], PORTS)
        (self.directory / "lab.json").write_text(
            json.dumps(
                {"nodes": {node.name: node.holder for node in self.nodes.values()}, "others": ["client", *self.pods]}
            )
        )

    def _attach(self, name: str, addresses: Sequence[tuple[str, ...]]) -> None:
        """Wires a namespace to the fabric; only the first pair of addresses is chosen as a source by itself."""
        self.wire(name, "eth0", "fabric", name)
        self.ip("fabric", f"link set {name} master fabric")
        first = addresses[0]
        self.ip(
            name,
            *(f"addr add {v4}/24 dev eth0" for v4, _v6 in addresses),
            *(f"addr add {v6}/64 dev eth0 preferred_lft {'forever' if v6 == first[1] else 0}" for _v4, v6 in addresses),
            *(f"route add default via {ip.partition('/')[0]}" for ip in FABRIC),
        )

    def _add_pod(self, pod: Pod) -> None:
        """A namespace with one address of each family, routed by its node."""
        self.add(pod.name)
        device = f"pod{pod.name[len('pod-a') :]}"
        self.wire(pod.name, "eth0", pod.node, device)
        for family, ip, cidr in zip((4, 6), pod.ips, self.nodes[pod.node].pod_cidrs, strict=True):
            bits = 32 if family == 4 else 128
            gateway = cidr.split("/")[0][:-1] + "1" if family == 4 else cidr.split("/")[0] + "1"
            self.ip(pod.node, f"addr add {gateway}/{bits} dev {device}", f"route add {ip} dev {device}", family=family)
            self.ip(
                pod.name,
                f"addr add {ip}/{bits} dev eth0",
                f"route add {gateway} dev eth0",
                f"route add default via {gateway} dev eth0 onlink",
                family=family,
            )

    def set_resolver_of_pods(self, text: str) -> None:
        """From now on what `enter_place` starts in a Pod has this text as its /etc/resolv.conf."""
        (self.directory / RESOLVER).write_text(text)

    def keep(self) -> None:
        """Leaves the lab standing when this process ends, servers included."""
        for worker in self.workers.values():
            worker.ask(op="stay")
        super().keep()

    # ---- using

    def node(self, name: str) -> Node:
        """A node by its name."""
        return self.nodes[name]

    def route_client_via(self, name: str) -> None:
        """From now on the client sends what is for ClusterIPs and load balancer IPs to this node."""
        for ip, *cidrs in zip(self.nodes[name].ips, SERVICE_CIDRS, LOAD_BALANCER_CIDRS, strict=True):
            self.ip("client", *(f"route replace {cidr} via {ip}" for cidr in cidrs))

    def probe(
        self,
        client: str,
        address: str,
        port: int,
        proto: str = "TCP",
        count: int = 10,
        source: str = "",
        timeout: float = 0.6,
    ) -> Answers:
        """Opens `count` new flows from a Pod, a node or "client" to a `plain` server.

        :param proto: TCP, UDP or SCTP.
        :param source: one of the client's own addresses.
        :param timeout: seconds of silence that count as a drop.
        """
        (got,) = self.workers[client].ask(
            op="probe",
            probes=[
                {
                    "proto": proto,
                    "address": address,
                    "port": port,
                    "count": count,
                    "sources": [source] if source else None,
                    "timeout": timeout,
                }
            ],
        )
        answers = Answers(Counter(), {}, Counter())
        for outcomes in got.values():
            for outcome, times in outcomes.items():
                if "|" not in outcome:
                    answers.failures[outcome] += times
                    continue
                server, peer = outcome.split("|")
                name = server.rpartition(":")[0]
                answers.who[name] += times
                answers.peers.setdefault(name, set()).add(peer)
        return answers

    def http(self, client: str, url: str) -> tuple[int, str]:
        """Status and body of a GET; status 0 if nobody answered."""
        status, body = self.workers[client].ask(op="http", url=url)
        return status, body

    def stream(self, client: str, address: str, port: int, source: str = "") -> Stream:
        """Opens a long connection to a `stream` server."""
        return Stream(self.workers[client], address, port, source)

    def reach(self, node: str, plane: ControlPlane) -> str:
        """Lets a node reach a control plane; returns the URL to use there."""
        self.nodes[node].start_process(
            ["socat", f"TCP-LISTEN:{API_ON_NODES},bind=127.0.0.1,fork,reuseaddr", f"UNIX-CONNECT:{plane.socket}"]
        )
        return f"https://127.0.0.1:{API_ON_NODES}"

    def inventory(self, path: Path | None = None, **variables: Any) -> Path:
        """Writes an Ansible inventory of the nodes and returns its path; `variables` are for all of them."""
        path = path or self.directory / "inventory.yml"
        path.write_text(
            inventory(
                self.nodes.values(),
                {
                    "cluster_snapshot_source": "manifests",
                    "cluster_snapshot_manifests": [str(MANIFESTS)],
                    "cluster_snapshot_path": str(self.directory / "snapshot.jsonl.gz"),
                    "service_proxy_detect_local_mode": "ClusterCIDR",
                    "service_proxy_pod_cidrs": list(CLUSTER_CIDRS),
                    "cluster_dns_install_path": str(PEERS / "coredns"),
                }
                | variables,
            )
        )
        return path

    def playbook(
        self,
        name: str,
        extra_vars: Mapping[str, Any] | None = None,
        *options: str,
        inventory: Path | None = None,
        check: bool = True,
    ) -> PlaybookRun:
        """Runs one of the collection's playbooks (`site`), or a file (`/tmp/mine.yml`), on the nodes.

        :param options: further arguments of ansible-playbook, for example "--check", "--diff", "--limit=node-a".
        :param inventory: what `inventory` wrote; else it is written anew.
        :param check: a run that failed is a LabError.
        """
        run = run_playbook(name, inventory or self.inventory(), extra_vars or {}, options)
        if check and run.rc:
            raise LabError(f"The playbook {name} ended with {run.rc}:\n{run.output}")
        return run

    def node_objects(self) -> list[dict[str, Any]]:
        """The Node objects that a cluster of this lab has."""
        return [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": node.name,
                    "labels": {"kubernetes.io/hostname": node.name, "topology.kubernetes.io/zone": node.zone},
                },
                "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)},
                "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in node.ips]},
            }
            for node in self.nodes.values()
        ]


def manifest_objects() -> Iterator[dict[str, Any]]:
    """The objects of the lab's manifests, one by one."""
    for path in sorted(MANIFESTS.glob("*.yaml")):
        found = yaml.safe_load(path.read_text())
        yield from found["items"] if found["kind"] == "List" else [found]


def how_to_use(inventory: Path) -> str:
    """What to type where a lab was left standing."""
    me = f"{Path(sys.executable).name} {os.path.relpath(COMMAND_LINE)}"
    return (
        f"  export ANSIBLE_COLLECTIONS_PATH={collections_path()}\n"
        f"  ansible-playbook -i {inventory} kubenode.servicenet.site\n"
        f"  {me} enter node-a\n"
        f"  {me} enter pod-a1 curl -s http://10.96.0.10/\n"
        f"  {me} down"
    )


def kept_labs() -> list[str]:
    """Prefixes of the labs that `lab.py up` or KEEP=1 left standing, oldest first."""
    kept = [prefix for prefix, owner in labs().items() if owner["kept"] and (BASE / prefix / "lab.json").exists()]
    return sorted(kept, key=lambda prefix: (BASE / prefix / "lab.json").stat().st_mtime)

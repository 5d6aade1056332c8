# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook resync on a fleet: what a run costs by the number of nodes, beside a playbook that does nothing there.

    python tests/benchmarks/resync.py [--nodes 1 10 25 50] [--services 1000] [--forks 10] [--mode nftables]
        [--publish docs]

The nodes are network namespaces with files of their own, the cluster is a real API server. For each number of nodes:
nothing changed, and one endpoint changed, several times each; beside them Ansible's ping of the same nodes with the
same forks. Needs root, and what `make peers` builds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from benchmarks import report
from benchmarks.cluster import POD_CIDR, Filled, Size
from lab.claim import LabError, clean_exit
from lab.control_plane import ControlPlane
from lab.ground import Ground
from lab.nodes import Node
from lab.playbooks import inventory, run_playbook

PING = """\
- name: Do nothing
  hosts: servicenet_nodes
  gather_facts: false
  tasks:
    - name: Ask for an answer
      ansible.builtin.ping:
"""


class Fleet(Ground):
    """Nodes without Pods on one bridge, where every address that is not a node's ends in silence."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.nodes = [
            Node(f"fleet-{i}", self.ns(f"fleet-{i}"), self.directory, (f"198.18.0.{i}",), (), "")
            for i in range(1, count + 1)
        ]

    def build(self) -> None:
        """Namespaces, wires, the nodes' holders."""
        self.add("fabric")
        self.ip("fabric", "link add fabric type bridge", "link set fabric up", "addr add 198.18.0.254/24 dev fabric")
        for node in self.nodes:
            self.add(node.name, router=True)
            self.wire(node.name, "eth0", "fabric", node.name)
            self.ip("fabric", f"link set {node.name} master fabric")
            self.ip(node.name, f"addr add {node.ips[0]}/24 dev eth0", "route add default via 198.18.0.254")
        for node in self.nodes:
            node.start("127.0.0.1 localhost\n")


class Figures(NamedTuple):
    """Seconds of the runs with a number of nodes."""

    nodes: int
    ping: list[float]
    nothing: list[float]
    changed: list[float]


class Bench:
    """The fleet, the cluster that it follows, and the runs."""

    def __init__(self, fleet: Fleet, plane: ControlPlane, options: argparse.Namespace) -> None:
        self.fleet, self.options = fleet, options
        self.filled = Filled(plane.api)
        self.filled.grow(Size(options.services, 2))
        self.ping = fleet.directory / "ping.yml"
        self.ping.write_text(PING)
        self.inventory = fleet.directory / "inventory.yml"
        self.variables = {
            "cluster_snapshot_source": "cluster",
            "cluster_snapshot_kubeconfig": str(plane.kubeconfig()),
            "cluster_snapshot_path": str(fleet.directory / "snapshot.jsonl.gz"),
            "service_proxy_mode": options.mode,
            "service_proxy_pod_cidrs": [POD_CIDR],
        }
        self.other = False

    def run(self, playbook: str, expected: int | None = None) -> float:
        """Seconds of one run. ``expected`` is on how many nodes something has to change, None for any number."""
        began = time.monotonic()
        done = run_playbook(playbook, self.inventory, {}, [f"--forks={self.options.forks}"])
        seconds = time.monotonic() - began
        changed = sum(1 for host, tasks in done.changed.items() if tasks and host != "localhost")
        if done.rc or (expected is not None and changed != expected):
            raise LabError(f"{playbook} changed {changed} nodes, not {expected}:\n{done.output[-4000:]}")
        return seconds

    def measure(self, count: int) -> Figures:
        """With the first ``count`` nodes of the fleet."""
        self.inventory.write_text(inventory(self.fleet.nodes[:count], self.variables))
        self.run("resync")
        figures = Figures(count, [], [], [])
        for _index in range(self.options.repeats):
            figures.ping.append(self.run(str(self.ping)))
            figures.nothing.append(self.run("resync", 0))
            self.other = not self.other
            self.filled.change(self.options.services // 2, self.other)
            figures.changed.append(self.run("resync", count))
        print(f"{count} nodes: {figures}", file=sys.stderr, flush=True)
        return figures


def table(options: argparse.Namespace, load: report.Load, found: list[Figures]) -> str:
    """Everything as Markdown."""
    size = f"{options.services:,} Services of 2 endpoints, mode {options.mode}"
    lines = [
        report.circumstances(
            load,
            f"{size}, {options.forks} forks, {options.repeats} runs each",
            "the controller, the API server and all nodes share these processors",
        ),
        "| nodes | resync, nothing changed | resync, one endpoint changed | Ansible's ping of the same nodes |",
        "|---:|---|---|---|",
    ]
    for one in found:
        cells = [report.spread(values) for values in (one.nothing, one.changed, one.ping)]
        lines.append(f"| {one.nodes} | {' | '.join(cells)} |")
    if len(found) > 1:
        first, last = found[0], found[-1]
        slopes = [
            (statistics.median(b) - statistics.median(a)) / (last.nodes - first.nodes)
            for a, b in ((first.nothing, last.nothing), (first.changed, last.changed), (first.ping, last.ping))
        ]
        lines.append(f"| each further node | {' | '.join(f'{slope * 1000:.0f} ms' for slope in slopes)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 25, 50])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--mode", choices=("iptables", "nftables"), default="nftables")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--publish", type=Path, metavar="DOCS", help="put the table into DOCS/performance.md")
    options = parser.parse_args()
    clean_exit()
    load = os.getloadavg()
    with ControlPlane() as plane, Fleet(max(options.nodes)) as fleet:
        bench = Bench(fleet, plane, options)
        text = table(options, load, [bench.measure(count) for count in sorted(options.nodes)])
    print(text)
    if options.publish:
        report.splice(options.publish, "resync", text)


if __name__ == "__main__":
    main()

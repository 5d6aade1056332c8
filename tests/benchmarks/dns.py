# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zones of a big cluster: how long they take to make, and how fast a real CoreDNS serves them.

    python tests/benchmarks/dns.py [--services 10000] [--endpoints 100000] [--runs 3] [--seconds 10]

One Service in ten is headless. The module's node half runs as a process of its own, start of Python included: first
with nothing there, then with nothing changed. Then dnsperf asks 2,000 names without a cache. Needs dnsperf and a
CoreDNS from `make peers`.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from conformance.dns.queries import Query
from conformance.dns.servers import LOOPBACK, Servers, corefile_for
from lab.control_plane import free_port

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, snapshot

NAMESPACES = 200
# The node half of the module cluster_dns_zones.
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, dns
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import coredns
work = sys.argv[2]
listen = ("127.0.0.1",)
options = dns.options(servers=listen, reverse_cidrs=["10.96.0.0/12"])
served = corefile.CorefileOptions("zones", options.domain, listen, 1, (), ())
paths = [f"{work}/{name}" for name in ("zones", "Corefile", "state", "run")]
outcome = coredns.present(coredns.Request(f"{work}/snapshot", options, served, *paths, int(time.time())))
print(outcome.changed, outcome.facts["records"])
"""


def cluster(services: int, endpoints: int) -> Iterator[dict[str, Any]]:
    """One headless Service in ten, two ports each."""
    for number in range(NAMESPACES):
        yield {"kind": "Namespace", "metadata": {"name": f"space-{number}"}}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "metrics", "port": 9090, "protocol": "TCP"}]
    each = endpoints // services
    for number in range(services):
        space, name = f"space-{number % NAMESPACES}", f"service-{number:05}"
        address = "None" if number % 10 == 0 else f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        yield {
            "kind": "Service",
            "metadata": {"namespace": space, "name": name},
            "spec": {"clusterIPs": [address], "ports": ports},
        }
        first = number * each
        yield {
            "kind": "EndpointSlice",
            "metadata": {"namespace": space, "name": f"{name}-a", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [
                {"addresses": [f"10.{128 + (i >> 16)}.{i >> 8 & 255}.{i & 255}"], "nodeName": f"node-{i % 100}"}
                for i in range(first, first + each)
            ],
        }


def generate(work: Path) -> tuple[float, float, str]:
    """-> (seconds, CPU seconds, what the run said) of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(collections_path()), str(work)], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu, done.stdout.strip()


def show(what: str, runs: list[tuple[float, float, str]]) -> None:
    """One line for some runs."""
    wall, cpu = ([run[index] for run in runs] for index in (0, 1))
    print(
        f"{what}: {statistics.median(wall):.2f} s (from {min(wall):.2f} to {max(wall):.2f}),"
        f" CPU {statistics.median(cpu):.2f} s (from {min(cpu):.2f} to {max(cpu):.2f})"
    )


def serve(servers: Servers, work: Path, services: int, seconds: int) -> None:
    """Loads a real CoreDNS with the zones and asks as fast as it answers."""
    sources = tuple(
        corefile.ZoneSource(path.name.removeprefix("db.") + ".", str(path)) for path in (work / "zones").iterdir()
    )
    names = [
        f"service-{i:05}.space-{i % NAMESPACES}.svc.cluster.local" for i in range(0, services, max(1, services // 2000))
    ]
    queries = work / "queries"
    queries.write_text("".join(f"{name} A\n" for name in names))
    port = free_port()
    began = time.monotonic()
    servers.coredns(
        "coredns", corefile_for("zones", port, 1, zones=sources, upstreams=()), port, Query(f"{names[0]}.", "A")
    )
    print(f"from start to the first answer: {time.monotonic() - began:.2f} s")
    done = subprocess.run(
        ["dnsperf", "-s", LOOPBACK, "-p", str(port), "-d", str(queries), "-l", str(seconds), "-c", "10", "-q", "200"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in re.findall(
        r"^ +((?:Queries lost|Response codes|Queries per second|Average Latency).*)$", done.stdout, re.MULTILINE
    ):
        print(" ".join(line.split()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of queries")
    args = parser.parse_args()
    with Servers() as servers:
        work = servers.directory / "node"
        work.mkdir()
        (work / "snapshot").write_bytes(snapshot.dump(snapshot.build(cluster(args.services, args.endpoints))))
        cold = []
        for _run in range(args.runs):
            subprocess.run(["rm", "-rf", str(work / "zones"), str(work / "state"), str(work / "Corefile")], check=True)
            cold.append(generate(work))
        print(f"{args.services} Services, {args.endpoints} endpoints, {cold[0][2].split()[1]} records")
        show("zones made and written", cold)
        show("nothing changed", [generate(work) for _run in range(args.runs)])
        serve(servers, work, args.services, args.seconds)


if __name__ == "__main__":
    main()

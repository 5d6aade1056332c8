# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of a big cluster: how long its zones take to make, and a real CoreDNS with them beside its kubernetes plugin.

    python tests/benchmarks/dns.py [--services 10000] [--endpoints 100000] [--runs 3] [--seconds 10] [--publish docs]

One Service in ten is headless. The module's node half runs as a process of its own, start of Python included: first
with nothing there, then with nothing changed. Then a CoreDNS with the zones and one with the kubernetes plugin, behind
a real API server with the same objects, are started one after the other, and dnsperf asks both in turns for 2,000
names, without a cache. Needs dnsperf, and CoreDNS and kube-apiserver from `make peers`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from benchmarks import report
from conformance.dns.queries import Query
from conformance.dns.servers import LOOPBACK, Servers, corefile_for
from lab.control_plane import ControlPlane, free_port
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

NAMESPACES = 200
NAMES = 2000
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


class Made(NamedTuple):
    """A run of the module's node half: seconds by the clock and of processor's time, and how many records there are."""

    wall: float
    cpu: float
    records: int


class Served(NamedTuple):
    """A CoreDNS: seconds from its start to the first answer; then, for each round of queries, how many it answered in a
    second, the average latency in milliseconds, and how many were lost; MiB before the first round, and at most."""

    first: float
    rounds: list[tuple[float, float, int]]
    resident: float
    peak: float


def cluster(services: int, endpoints: int) -> Iterator[dict[str, Any]]:
    """One headless Service in ten, two ports each."""
    for number in range(NAMESPACES):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"space-{number}"}}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "metrics", "port": 9090, "protocol": "TCP"}]
    each = endpoints // services
    for number in range(services):
        space, name = f"space-{number % NAMESPACES}", f"service-{number:05}"
        place = number + 256  # behind the addresses that the API server takes for itself
        address = "None" if number % 10 == 0 else f"10.{96 + (place >> 16)}.{place >> 8 & 255}.{place & 255}"
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": space, "name": name},
            "spec": {"clusterIP": address, "clusterIPs": [address], "ports": ports},
        }
        first = number * each
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"namespace": space, "name": f"{name}-a", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [
                {"addresses": [f"10.{128 + (i >> 16)}.{i >> 8 & 255}.{i & 255}"], "nodeName": f"node-{i % 100}"}
                for i in range(first, first + each)
            ],
        }


# ----------------------------------------------------------------------------------------------------------- measuring


def generate(work: Path) -> Made:
    """One process that makes the zones, or finds that there is nothing to do."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(collections_path()), str(work)], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Made(time.monotonic() - began, cpu, int(done.stdout.split()[1]))


def generations(work: Path, runs: int) -> tuple[list[Made], list[Made]]:
    """With nothing there, and with nothing changed."""
    cold = []
    for _run in range(runs):
        subprocess.run(["rm", "-rf", str(work / "zones"), str(work / "state"), str(work / "Corefile")], check=True)
        cold.append(generate(work))
    return cold, [generate(work) for _run in range(runs)]


def seen(work: Path, objects: list[dict[str, Any]], port: int, number: int) -> float:
    """One Service more -> seconds from its written zone to its first answer; the server looks every two seconds."""
    name, address = f"new-{number}", f"10.111.0.{number + 1}"
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]}
    metadata = {"namespace": "space-0", "name": name}
    objects.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    (work / "snapshot").write_bytes(snapshot.dump(build_snapshot(objects)))
    generate(work)
    began = time.monotonic()
    query = ["dig", "+short", "-p", str(port), f"@{LOOPBACK}", f"{name}.space-0.svc.cluster.local.", "A"]

    def answered() -> bool:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() == address

    wait_until(answered, f"the name {name}", 60)
    return time.monotonic() - began


def names(services: int) -> list[str]:
    """What is asked: names spread over all Services."""
    step = max(1, services // NAMES)
    return [f"service-{i:05}.space-{i % NAMESPACES}.svc.cluster.local." for i in range(0, services, step)]


def memory(pid: int, field: str) -> float:
    """A figure of a process in MiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def ask(port: int, queries: Path, seconds: int) -> tuple[float, float, int]:
    """Asks as fast as it is answered -> see ``Served.rounds``."""
    done = subprocess.run(
        ["dnsperf", "-s", LOOPBACK, "-p", str(port), "-d", str(queries), "-l", str(seconds), "-c", "10", "-q", "200"],
        capture_output=True,
        text=True,
        check=True,
    )

    def figure(pattern: str) -> float:
        found = re.search(pattern, done.stdout)
        if not found:
            raise ValueError(f"dnsperf said no {pattern}:\n{done.stdout}")
        return float(found[1])

    figure(r"NOERROR \d+ \((100\.00)%\)")  # nothing else was answered
    lost = int(figure(r"Queries lost: +(\d+)"))
    return figure(r"Queries per second: +([\d.]+)"), figure(r"Average Latency \(s\): +([\d.]+)") * 1000, lost


def serve(
    servers: Servers, texts: dict[str, tuple[int, str]], asked: list[str], rounds: int, seconds: int
) -> list[Served]:
    """Starts each server (name -> port, Corefile) when the one before has answered, then asks all of them in turns."""
    queries = servers.directory / "queries"
    queries.write_text("".join(f"{name} A\n" for name in asked))
    first, resident, got = {}, {}, {name: [] for name in texts}  # type: ignore[var-annotated]
    for name, (port, text) in texts.items():
        began = time.monotonic()
        servers.coredns(name, text, port, Query(asked[-1], "A"))
        first[name] = time.monotonic() - began
    time.sleep(1)  # for the garbage of the start
    for name in texts:
        resident[name] = memory(servers.pids[name], "VmRSS")
    for _round in range(rounds):
        for name, (port, _text) in texts.items():
            got[name].append(ask(port, queries, seconds))
    return [Served(first[n], got[n], resident[n], memory(servers.pids[n], "VmHWM")) for n in texts]


# ------------------------------------------------------------------------------------------------------------- telling


def spread(values: list[float], digits: int) -> str:
    """The median and, in brackets, the least and the most."""
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return median if least == most else f"{median} ({least} to {most})"


def table(
    args: argparse.Namespace,
    load: report.Load,
    cold: list[Made],
    again: list[Made],
    served: list[Served],
    shown: list[float],
) -> str:
    """Everything as Markdown; ``shown`` is what ``seen`` told."""
    size = f"{args.services:,} Services, {args.endpoints:,} endpoints, {cold[0].records:,} records"
    lines = [
        report.circumstances(load, f"{size}; {args.runs} runs each, rounds of {args.seconds} s"),
        "| the module's node half, with the start of Python | seconds | processor's seconds |",
        "|---|---|---|",
    ]
    for what, runs in (("all zones made and written", cold), ("nothing changed", again)):
        lines.append(f"| {what} | {spread([r.wall for r in runs], 2)} | {spread([r.cpu for r in runs], 2)} |")
    lines += ["", "| CoreDNS | zone files | kubernetes plugin |", "|---|---|---|"]
    rows = {
        "from its start to the first answer, s": [f"{s.first:.1f}" for s in served],
        "answers in a second, without a cache": [spread([r[0] for r in s.rounds], 0) for s in served],
        "average latency at that rate, ms": [spread([r[1] for r in s.rounds], 2) for s in served],
        "queries lost": [str(sum(r[2] for r in s.rounds)) for s in served],
        "resident memory before the queries, MiB": [f"{s.resident:.0f}" for s in served],
        "at most, MiB": [f"{s.peak:.0f}" for s in served],
        "from a written change to its first answer, s": [spread(shown, 1)],
    }
    lines += [f"| {what} | {' | '.join([*values, 'not measured'][:2])} |" for what, values in rows.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3, help="of the module, and rounds of queries")
    parser.add_argument("--seconds", type=int, default=10, help="of queries in a round")
    parser.add_argument("--no-peer", action="store_true", help="without the kubernetes plugin")
    parser.add_argument("--publish", type=Path, metavar="DOCS", help="put the tables into DOCS/performance.md")
    args = parser.parse_args()
    load = os.getloadavg()
    with Servers() as servers, contextlib.ExitStack() as stack:
        work = servers.directory / "node"
        work.mkdir()
        objects = list(cluster(args.services, args.endpoints))
        (work / "snapshot").write_bytes(snapshot.dump(build_snapshot(objects)))
        cold, again = generations(work, args.runs)
        ports = [free_port(), free_port()]
        files = [(path.name.removeprefix("db.") + ".", str(path)) for path in (work / "zones").iterdir()]
        zones = tuple(corefile.ZoneSource(*file) for file in files)
        texts = {"zones": (ports[0], corefile_for("zones", ports[0], 1, zones=zones, upstreams=()))}
        if not args.no_peer:
            plane = stack.enter_context(ControlPlane())
            plane.api.create_all(objects)
            options = {"kubeconfig": str(plane.kubeconfig()), "upstreams": ()}
            texts["kubernetes"] = (ports[1], corefile_for("kubernetes", ports[1], 1, **options))
        served = serve(servers, texts, names(args.services), args.runs, args.seconds)
        shown = [seen(work, objects, ports[0], number) for number in range(args.runs)]
        text = table(args, load, cold, again, served, shown)
    print(text)
    if args.publish:
        report.splice(args.publish, "dns", text)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a change in the API to the first right packet: the agent and the pushed playbook beside the real kube-proxy.

    python tests/benchmarks/latency.py [--services 1000] [--interval 10] [--changes 10] [--mode nftables]

Three nodes of one lab hear of the same cluster: on one servicenet-agent pulls every so many seconds, to one the
playbook resync is pushed as often, and on one kube-proxy watches. At random moments the endpoint of a Service is
exchanged, and on each node a Pod asks the Service until the new endpoint answers. Needs root, and what `make peers`
builds.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

import yaml
from benchmarks.cluster import Filled, Size
from conformance.packets.reference import KubeProxy
from lab import ControlPlane, Lab
from lab.claim import clean_exit, kill_and_wait
from lab.cluster import CLUSTER_CIDRS

ADDRESS, PORT = "10.96.0.10", 80
SLICE = "web-1"
AGENT, PUSH, PEER = "agent", "push", "kube-proxy"
# What has not changed after so many seconds never will.
LIMIT = 600


class Place(NamedTuple):
    """A node, the Pod on it that asks, and the Pod that is one of the two endpoints."""

    node: str
    client: str


PLACES = {AGENT: Place("node-a", "pod-a1"), PUSH: Place("node-b", "pod-b1"), PEER: Place("node-c", "pod-c1")}
ENDPOINTS = ("pod-a2", "pod-b2")


class Timer:
    """Starts something every so many seconds, as a timer of systemd does; a run that is late delays the next one."""

    def __init__(self, interval: float, run: Callable[[], Any]) -> None:
        self._interval, self._run = interval, run
        self.seconds: list[float] = []
        self._ended = threading.Event()
        self._future: concurrent.futures.Future[None] | None = None

    def start(self, pool: concurrent.futures.Executor) -> None:
        """From now on."""
        self._future = pool.submit(self._go_on)

    def stop(self) -> None:
        """After the run that is at work; raises what a run raised."""
        self._ended.set()
        if self._future is not None:
            self._future.result()

    def check(self) -> None:
        """Raises what a run raised."""
        if self._future is not None and self._future.done():
            self._future.result()

    def _go_on(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self._run()
            self.seconds.append(time.monotonic() - began)
            self._ended.wait(max(0.0, self._interval - self.seconds[-1]))


class Bench(contextlib.ExitStack):
    """The lab, the API server, and the three programs."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.mode, self.interval, self.services = options.mode, options.interval, options.services

    def __enter__(self) -> Bench:
        super().__enter__()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def _build(self) -> None:
        self.pool = self.enter_context(concurrent.futures.ThreadPoolExecutor(8))
        self.plane = self.enter_context(ControlPlane())
        self.lab = self.enter_context(Lab(nodes=3, pods=2))
        self._fill()
        self.timers = {AGENT: self._agent(), PUSH: self._push()}
        self._kube_proxy()
        for timer in self.timers.values():
            timer.start(self.pool)
            self.callback(timer.stop)

    def _fill(self) -> None:
        role = yaml.safe_load(
            Path(collections_path(), "ansible_collections/kubenode/servicenet/roles/cluster_snapshot/files")
            .joinpath("clusterrole.yaml")
            .read_text(encoding="utf-8")
        )
        group = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role["metadata"]["name"]},
            "subjects": [{"kind": "User", "name": "reader", "apiGroup": group}],
        }
        self.plane.api.create_all([role, binding, *self.lab.node_objects(), *self._service()])
        Filled(self.plane.api).grow(Size(self.services, 2))

    def _service(self) -> list[dict[str, Any]]:
        port = {"name": "plain", "protocol": "TCP"}
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"namespace": "default", "name": "web"},
                "spec": {"clusterIP": ADDRESS, "ports": [{**port, "port": PORT, "targetPort": 9000}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "namespace": "default",
                    "name": SLICE,
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": "IPv4",
                "ports": [{**port, "port": 9000}],
                "endpoints": self._endpoints(ENDPOINTS[0]),
            },
        ]

    def _endpoints(self, name: str) -> list[dict[str, Any]]:
        pod = self.lab.pods[name]
        return [{"addresses": [pod.ips[0]], "conditions": {"ready": True}, "nodeName": pod.node}]

    # ---- the three programs

    def _played(self, what: str, variables: dict[str, Any]) -> Callable[[str], Any]:
        """`site` on its node -> a function that runs another playbook there."""
        shared = {
            "cluster_snapshot_source": "cluster",
            "cluster_snapshot_kubeconfig": str(self.plane.kubeconfig("reader")),
            "cluster_snapshot_path": str(self.lab.directory / f"{what}.jsonl.gz"),
            "service_proxy_mode": self.mode,
            "service_proxy_install": False,
            "service_proxy_max_removed_percent": 100,
        }
        inventory = self.lab.inventory(self.lab.directory / f"{what}.yml", **shared, **variables)
        limit = f"--limit={PLACES[what].node},localhost"

        def play(name: str) -> Any:
            return self.lab.playbook(name, None, limit, inventory=inventory)

        play("site")
        return play

    def _agent(self) -> Timer:
        place = PLACES[AGENT]
        self._played(
            AGENT,
            {
                "servicenet_resync": True,
                "service_resync_supervisor": "cron",
                "service_resync_server": self.lab.reach(place.node, self.plane),
                "service_resync_token": self.plane.token("reader"),
                "service_resync_ca_cert": self.plane.certificate.read_text(),
                "service_resync_agent_path": str(self.lab.directory / "servicenet-agent.pyz"),
            },
        )
        command = ["python3", "/usr/local/lib/servicenet/servicenet-agent.pyz", "pull"]
        return Timer(self.interval, lambda: self.lab.node(place.node).run(command))

    def _push(self) -> Timer:
        play = self._played(PUSH, {})
        return Timer(self.interval, lambda: play("resync"))

    def _kube_proxy(self) -> None:
        node = self.lab.node(PLACES[PEER].node)
        proxy = KubeProxy(node.netns, self.lab.directory / "kube-proxy", str(self.plane.socket))
        self.callback(lambda: kill_and_wait(process.pid for process in proxy.processes))
        proxy.start(self.mode, {"node_name": node.name, "cluster_cidrs": list(CLUSTER_CIDRS)})

    # ---- what is measured

    def change(self, endpoint: str) -> dict[str, float]:
        """Exchanges the endpoint; seconds until each program's node asks the new one."""
        began = time.monotonic()
        self.plane.api.patch("EndpointSlice", "default", SLICE, {"endpoints": self._endpoints(endpoint)})
        jobs = {what: self.pool.submit(self._until, place.client, endpoint, began) for what, place in PLACES.items()}
        return {what: job.result() for what, job in jobs.items()}

    def _until(self, client: str, endpoint: str, began: float) -> float:
        while set(self.lab.probe(client, ADDRESS, PORT, count=1, timeout=0.3).who) != {endpoint}:
            for timer in self.timers.values():
                timer.check()
            if time.monotonic() - began > LIMIT:
                raise TimeoutError(f"{client} is not led to {endpoint} after {LIMIT} s.")
            time.sleep(0.01)
        return time.monotonic() - began


def row(what: str, found: list[float], took: list[float]) -> str:
    """A line of the table; all in seconds."""
    runs = f"{statistics.median(took):.2f}" if took else "watches"
    return f"| {what} | {min(found):.2f} | {statistics.median(found):.2f} | {max(found):.2f} | {runs} |"


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--interval", type=float, default=10)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--mode", choices=["iptables", "nftables"], default="nftables")
    options = parser.parse_args()
    clean_exit()
    found: dict[str, list[float]] = {what: [] for what in PLACES}
    with Bench(options) as bench:
        for number in range(options.changes + 1):
            time.sleep(random.uniform(0, options.interval))
            for what, seconds in bench.change(ENDPOINTS[number % 2]).items():
                # The first one only shows that all three are there.
                found[what] += [seconds] if number else []
        took = {what: timer.seconds for what, timer in bench.timers.items()}
    print(
        f"{options.services} Services, mode {options.mode}, every {options.interval:g} s, {options.changes} changes\n"
    )
    print("| | least s | median s | most s | a run takes s |\n|---|---|---|---|---|")
    for what, seconds in found.items():
        print(row(what, seconds, took.get(what, [])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

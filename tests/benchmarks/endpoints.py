# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass of the endpoints controller over a big cluster in a real API server, and one after a change.

    python tests/benchmarks/endpoints.py [--services 5000] [--pods 50000] [--publish docs]

Starts a control plane and fills it, which takes some minutes. Then the module endpoint_slices runs as a process of its
own: for all records, with nothing to do, and after one Pod has changed. Each line has the seconds of the process, its
processor time and memory, and what it wrote; the plan alone is timed on the same objects. It fails if the second pass
writes, or the third one more than once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from benchmarks import report
from benchmarks.snapshot import Run, run_module
from conformance.endpoints.builders import node
from integration.endpoints_lab import plain_pod, plain_service
from lab.control_plane import Api, ControlPlane

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoints import (
    ClusterObjects,
    EndpointsSettings,
    plan_endpoints,
)

NAMESPACES = 50
NODES = 500
NOT_READY = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
# (what is done, how many records it may write, None for any number)
PASSES = (("all records", None), ("nothing changed", 0), ("one Pod changed", 1))


def objects(services: int, pods: int) -> Iterator[dict]:
    """The cluster."""
    for number in range(NAMESPACES):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"space-{number}"}}
    for number in range(NODES):
        yield node(f"node-{number}", f"zone-{number % 3}")
    for number in range(services):
        yield plain_service(f"app-{number}", namespace=f"space-{number % NAMESPACES}")
    for number in range(pods):
        app = number % services
        yield plain_pod(number, app=f"app-{app}", node=f"node-{number % NODES}", namespace=f"space-{app % NAMESPACES}")


def planned(api: Api) -> float:
    """Processor seconds that the plan of all records takes, with nothing there."""
    read = ClusterObjects(api.list("Service"), api.list("Pod"), api.list("Node"), [], [])
    started = time.process_time()
    plan_endpoints(read, EndpointsSettings(write="endpointslices"))
    return time.process_time() - started


def measured(plane: ControlPlane) -> tuple[Run, int]:
    """One run of the module, and how many records it wrote."""
    run = run_module("endpoint_slices", kubeconfig=str(plane.kubeconfig()))
    if run.result.get("failed"):
        raise RuntimeError(run.result["msg"])
    return run, sum(run.result["counts"].values())


def main() -> int:
    """Measures, prints and publishes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--publish", type=Path, metavar="DOCS", help="put the table into DOCS/performance.md")
    options = parser.parse_args()
    rows = [
        report.circumstances(os.getloadavg(), f"{options.services:,} Services, {options.pods:,} Pods, {NODES} nodes"),
        "| endpoint_slices, the whole process | seconds | processor's seconds | memory | records written |",
        "|---|---:|---:|---:|---:|",
    ]
    with ControlPlane() as plane:
        started = time.monotonic()
        plane.api.create_all(objects(options.services, options.pods))
        print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
        plan = planned(plane.api)
        for what, allowed in PASSES:
            if allowed:
                plane.api.patch("Pod", "space-0", "app-0-0", NOT_READY, "/status")
            run, wrote = measured(plane)
            rows.append(f"| {what} | {run.seconds:.1f} | {run.cpu_seconds:.1f} | {run.mebibytes:.0f} MiB | {wrote:,} |")
            print(rows[-1], flush=True)
            if allowed is not None and wrote != allowed:
                print(f"{wrote} records were written, and it had to be {allowed}.", file=sys.stderr)
                return 1
    rows.append(f"| of the first pass, computing all records | | {plan:.1f} | | |")
    text = "\n".join(rows) + "\n"
    print(text)
    if options.publish:
        report.splice(options.publish, "endpoints", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

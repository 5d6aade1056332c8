# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the module cluster_snapshot takes, and how much memory, with 10,000 Services of a real API server.

    python tests/benchmarks/snapshot.py [--services 10000] [--runs 5] [--kubeconfig FILE]

Starts a control plane and fills it, which takes a minute or two; or measures the cluster of a kubeconfig. Prints one
line a run: seconds, CPU seconds and MiB of the whole module process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path
from fixtures import malformed
from lab.control_plane import ControlPlane

# Starts the module as Ansible does, in a process of its own, with its arguments on standard input.
PROGRAM = """
import json, sys
from ansible.module_utils import basic
from ansible_collections.kubenode.servicenet.plugins.modules import MODULE as module
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
module.main()
"""


class Run(NamedTuple):
    """One run of the module: its result, and what the process took."""

    result: dict[str, Any]
    seconds: float
    cpu_seconds: float
    mebibytes: float


def run_module(name: str, **options: Any) -> Run:
    """Runs a module as a process."""
    environment = {**os.environ, "PYTHONPATH": str(collections_path())}
    started = time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as arguments:
        arguments.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
        arguments.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("MODULE", name)], stdin=arguments, stdout=output, env=environment
        )
        _pid, _status, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        seconds = time.monotonic() - started
        output.seek(0)
        return Run(json.loads(output.read()), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def fill(plane: ControlPlane, services: int) -> None:
    """Creates the Services, two ready endpoints each; the API server gives them their addresses."""
    objects = malformed.good(services)
    for raw in objects:
        if raw["kind"] == "Service":
            del raw["spec"]["clusterIP"], raw["spec"]["clusterIPs"]
    plane.api.create_all(raw for raw in objects if raw["kind"] != "ServiceCIDR")


@contextlib.contextmanager
def cluster(options: argparse.Namespace) -> Iterator[str]:
    """The path of a kubeconfig."""
    if options.kubeconfig:
        yield options.kubeconfig
        return
    with ControlPlane() as plane:
        started = time.monotonic()
        fill(plane, options.services)
        print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
        yield str(plane.kubeconfig())


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kubeconfig")
    options = parser.parse_args()
    with cluster(options) as kubeconfig, tempfile.TemporaryDirectory() as directory:
        runs = []
        for number in range(options.runs):
            run = run_module("cluster_snapshot", kubeconfig=kubeconfig, dest=f"{directory}/snapshot.jsonl.gz")
            if run.result.get("failed"):
                print(run.result["msg"], file=sys.stderr)
                return 1
            runs.append(run)
            counts = run.result["counts"]
            print(
                f"run {number + 1}: {run.seconds:.2f} s ({run.cpu_seconds:.2f} s of CPU), {run.mebibytes:.0f} MiB, "
                f"{counts['services']} Services, {counts['ready_endpoints']} endpoints",
                flush=True,
            )
        slowest = max(run.seconds for run in runs)
        print(
            f"median {statistics.median(run.seconds for run in runs):.2f} s, most {slowest:.2f} s "
            f"({max(run.cpu_seconds for run in runs):.2f} s of CPU), {max(run.mebibytes for run in runs):.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

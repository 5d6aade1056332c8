# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demonstration: two nodes, one playbook, and who answers behind a Service's address.

    python tests/lab/demo.py [--mode MODE] [--source manifests|cluster] [--keep]

Builds the lab, runs `site` on its nodes (from the manifests beside this file, or from a real etcd and kube-apiserver),
runs it again to see that nothing is left to change, and sends ten requests from each of several places. Ends with a
clean machine, unless it is told to keep the lab. `make demo` hands in MODE, SOURCE and KEEP=1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.claim import LabError, clean_exit, labs, namespaces
from lab.cluster import MANIFESTS, Lab, how_to_use, manifest_objects
from lab.control_plane import ControlPlane

REQUESTS = 10
BEGAN = time.monotonic()
# What a cluster has by itself.
BUILT_IN = ("default", "kube-system")


class Row(NamedTuple):
    """One line of the table. `who`: how often each Pod answered, or why there was no answer."""

    client: str
    what: str
    url: str
    who: Counter[str]
    answered: int


def say(text: str) -> None:
    """A progress line with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def source_variables(source: str, stack: contextlib.ExitStack, keep: bool) -> dict[str, Any]:
    """The variables that say where the cluster's state comes from; starts a control plane if that is where."""
    if source == "manifests":
        say(f"The cluster's state comes from the manifests in {os.path.relpath(MANIFESTS)}.")
        return {}
    say("Starting a real etcd and kube-apiserver on loopback.")
    plane = ControlPlane()
    plane.open()
    if keep:
        plane.keep()
    else:
        stack.callback(plane.close)
    count = plane.api.create_all(m for m in manifest_objects() if m["metadata"]["name"] not in BUILT_IN)
    say(f"The API server holds {count} objects: Nodes, Namespaces, Services and EndpointSlices.")
    return {"cluster_snapshot_source": "cluster", "cluster_snapshot_kubeconfig": str(plane.kubeconfig())}


def run_site(lab: Lab, inventory: Path, what: str) -> int:
    """Runs `site`, says how long it took, and returns how many tasks changed something."""
    began = time.monotonic()
    run = lab.playbook("site", inventory=inventory)
    changed = sum(run.changed.values())
    seconds = time.monotonic() - began
    say(f"{what}: {changed} tasks changed something on {', '.join(sorted(lab.nodes))}, in {seconds:.1f} s.")
    return changed


def ask(lab: Lab, client: str, what: str, url: str) -> Row:
    """Ten requests, one connection each."""
    who: Counter[str] = Counter()
    answered = 0
    for _request in range(REQUESTS):
        status, body = lab.http(client, url)
        answered += status == 200
        who[body.split("\n")[0] if status == 200 else f"no answer: {body}"] += 1
    return Row(client, what, url, who, answered)


def ask_all(lab: Lab) -> list[Row]:
    """The requests of the demonstration; the addresses are those of manifests/web.yaml."""
    node_a, node_b = lab.node("node-a"), lab.node("node-b")
    return [
        ask(lab, "pod-a3", "Service's IP", "http://10.96.0.10/"),
        ask(lab, "pod-a1", "Service's IP, itself an endpoint", "http://10.96.0.10/"),
        ask(lab, "pod-b3", "Service's IP, IPv6", "http://[fd00:10:96::10]/"),
        ask(lab, "node-a", "Service's IP", "http://10.96.0.10/"),
        ask(lab, "node-b", "Service's IP", "http://10.96.0.10/"),
        ask(lab, "client", "node port of node-a", f"http://{node_a.ips[0]}:30080/"),
        ask(lab, "client", "node port of node-b", f"http://{node_b.ips[0]}:30080/"),
        ask(lab, "client", "node port of node-b, IPv6", f"http://[{node_b.ips[1]}]:30080/"),
    ]


def show(rows: list[Row]) -> None:
    """The table."""
    places = {"client": "outside"}
    lines = [("from", "asks", "", "who answered")]
    for row in rows:
        who = ", ".join(f"{name} x {times}" for name, times in sorted(row.who.items()))
        lines.append((places.get(row.client, row.client), row.what, row.url, who))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    print()
    for line in lines:
        print("  " + "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]))
    print()


def demonstrate(args: argparse.Namespace) -> bool:
    """The whole of it; whether everything answered and nothing was left to change."""
    with contextlib.ExitStack() as stack:
        say("Building two nodes with three Pods each, and a client outside.")
        lab = Lab()
        lab.open()
        if args.keep:
            lab.keep()
        else:
            stack.callback(lab.close)
        variables = source_variables(args.source, stack, args.keep)
        inventory = lab.inventory(service_proxy_mode=args.mode, **variables)
        say(f"Running kubenode.servicenet.site in mode {args.mode}.")
        run_site(lab, inventory, "The first run")
        left = run_site(lab, inventory, "The second run")
        say(f"{REQUESTS} requests from each place.")
        rows = ask_all(lab)
        show(rows)
        good = not left and all(row.answered == REQUESTS for row in rows)
        if args.keep:
            print(f"The lab {lab.prefix} is left standing:\n{how_to_use(inventory)}")
            return good
    gone = not namespaces(lab.prefix) and lab.prefix not in labs()
    say("The lab is gone: no namespace, process or file of it is left." if gone else f"{lab.prefix} is still there!")
    return good and gone


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mode", default=os.environ.get("MODE") or "iptables", choices=["iptables", "nftables", "ipvs", "userspace"]
    )
    parser.add_argument("--source", default=os.environ.get("SOURCE") or "manifests", choices=["manifests", "cluster"])
    parser.add_argument("--keep", action="store_true", default=os.environ.get("KEEP") == "1")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("The demonstration makes network namespaces, which takes root: run it with sudo.")
    clean_exit()
    try:
        good = demonstrate(args)
    except LabError as error:
        sys.exit(str(error))
    if not good:
        sys.exit("Not everything went as it should; see the lines above.")


if __name__ == "__main__":
    main()

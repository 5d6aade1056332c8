# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demonstration: two nodes, one playbook, and who answers behind a Service's address and its name.

    python tests/lab/demo.py [--mode MODE] [--source manifests|cluster] [--keep]

Builds the lab, runs `site` on its nodes and runs it again to see that nothing is left to change. The cluster has Pods
and Services with selectors. Its EndpointSlices are ours: of the manifests beside this file the snapshot makes them,
into a real etcd and kube-apiserver without any controller the endpoints playbook writes them. Then it sends ten
requests from each of several places, to addresses and to names, and looks up names of each kind. With an API server, it
stops that and does the same again. Ends with a clean machine, unless it is told to keep the lab. `make demo` hands in
MODE, SOURCE and KEEP=1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.claim import LabError, clean_exit, labs, namespaces
from lab.cluster import HTTP, MANIFESTS, Lab, how_to_use, manifest_objects
from lab.control_plane import ControlPlane, peer
from lab.names import DOMAIN, curl, dig, give_pods_a_resolver

REQUESTS = 10
BEGAN = time.monotonic()
# What a cluster has by itself.
BUILT_IN = ("default", "kube-system")
# Where Pods ask for names. No Service has this address: each node answers for it itself.
DNS_ADDRESS = "10.96.0.53"
SHOP = f"shop.svc.{DOMAIN}"


class Row(NamedTuple):
    """Ten requests. `who`: how often each place answered, or why there was no answer."""

    client: str
    what: str
    url: str
    who: Counter[str]
    answered: int


class Lookup(NamedTuple):
    """One question for a name and the records of its answer, sorted."""

    what: str
    name: str
    kind: str
    records: list[str]


def say(text: str) -> None:
    """A progress line with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def start_cluster(stack: contextlib.ExitStack, keep: bool) -> ControlPlane:
    """A control plane without controllers that holds the manifests."""
    say("Starting a real etcd and kube-apiserver on loopback, and no controller.")
    plane = ControlPlane()
    plane.open()
    if keep:
        plane.keep()
    else:
        stack.callback(plane.close)
    count = plane.api.create_all(m for m in manifest_objects() if m["metadata"]["name"] not in BUILT_IN)
    say(f"The API server holds {count} objects: Nodes, Namespaces, Services, Pods, one EndpointSlice made by hand.")
    return plane


def write_inventory(lab: Lab, mode: str, plane: ControlPlane | None) -> Path:
    """The inventory: the nodes, and the group `warehouses`, whose host stands behind a Service."""
    variables: dict[str, Any] = {
        "service_proxy_mode": mode,
        "servicenet_dns": True,
        "cluster_dns_service_ip": DNS_ADDRESS,
        "cluster_dns_forward": False,
        "cluster_dns_reverse_cidrs": ["10.96.0.0/16", "10.128.0.0/14"],
        "cluster_dns_supervisor": "process",
        "cluster_dns_install_path": str(peer("COREDNS", "coredns")),
    }
    everywhere: dict[str, Any] = {
        # The controller is outside of the lab and can't ask the host whether it is ready.
        "service_endpoints_from_inventory": [
            {"service": "warehouse", "namespace": "shop", "group": "warehouses", "probe": "none"}
        ],
    }
    if plane:
        kubeconfig = str(plane.kubeconfig())
        variables |= {"cluster_snapshot_source": "cluster", "cluster_snapshot_kubeconfig": kubeconfig}
        # For the controller as well, where the endpoints are computed.
        everywhere |= {"servicenet_endpoints": True, "service_endpoints_kubeconfig": kubeconfig}
    path = lab.inventory(**variables)
    written = json.loads(path.read_text())
    written["all"]["vars"] = everywhere
    written["all"]["children"]["warehouses"] = {
        "hosts": {"outside": {"service_endpoints_address": lab.client_ips[0][0]}}
    }
    path.write_text(json.dumps(written, indent=2))
    return path


def run_site(lab: Lab, inventory: Path, what: str) -> int:
    """Runs `site`, says how long it took, and returns how many tasks changed something."""
    began = time.monotonic()
    run = lab.playbook("site", inventory=inventory)
    changed = sum(run.changed.values())
    seconds = time.monotonic() - began
    # localhost is where the endpoints are computed.
    where = ", ".join(host for host in sorted(run.changed) if host in lab.nodes or run.changed[host])
    say(f"{what}: {changed} tasks changed something on {where}, in {seconds:.1f} s.")
    return changed


def ask(lab: Lab, client: str, what: str, url: str, by_name: bool = False) -> Row:
    """Ten requests, one connection each; a name is looked up for each of them, by curl."""
    who: Counter[str] = Counter()
    answered = 0
    for _request in range(REQUESTS):
        good, body = curl(lab, client, url) if by_name else lab.http(client, url)
        answered += good in (True, 200)
        who[body.split("\n")[0] if good in (True, 200) else f"no answer: {body}"] += 1
    return Row(client, what, url, who, answered)


def ask_addresses(lab: Lab) -> list[Row]:
    """Requests to the addresses of manifests/web.yaml."""
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


def ask_names(lab: Lab) -> list[Row]:
    """Requests to names, from Pods with their search path and from a node by its own resolver."""
    return [
        ask(lab, "pod-a3", "Service's name", "http://web/", by_name=True),
        ask(lab, "pod-b3", "headless Service's name", f"http://stock:{HTTP}/", by_name=True),
        ask(lab, "pod-a3", "headless, without selector", f"http://database:{HTTP}/", by_name=True),
        ask(lab, "node-b", "Service's name", f"http://web.{SHOP}/", by_name=True),
        ask(lab, "pod-b3", "host of the inventory", "http://warehouse/", by_name=True),
    ]


def look_up(lab: Lab) -> list[Lookup]:
    """Names of each kind, asked by dig in a Pod."""
    questions = [
        ("headless Service", f"stock.{SHOP}", "A"),
        ("headless, without selector", f"database.{SHOP}", "A"),
        ("ExternalName", f"catalogue.{SHOP}", "CNAME"),
        ("port of a headless Service", f"_http._tcp.stock.{SHOP}", "SRV"),
        ("Service's IP", "10.96.0.10", "PTR"),
        ("Pod's IP", lab.pods["pod-b1"].ips[0], "PTR"),
    ]
    return [Lookup(what, name, kind, dig(lab, "pod-a3", name, kind)) for what, name, kind in questions]


def table(lines: list[tuple[str, ...]]) -> None:
    """Prints lines of cells; all columns but the last are as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    print()
    for *cells, last in lines:
        print("  " + "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last]))


def ask_everything(lab: Lab) -> tuple[bool, list[Lookup]]:
    """All requests and questions, shown as tables; whether every one was answered, and the answers for names."""
    rows = ask_addresses(lab) + ask_names(lab)
    lookups = look_up(lab)
    places = {"client": "outside"}
    lines: list[tuple[str, ...]] = [("from", "asks", "", "who answered")]
    for row in rows:
        who = ", ".join(f"{places.get(name, name)} x {times}" for name, times in sorted(row.who.items()))
        lines.append((places.get(row.client, row.client), row.what, row.url, who))
    table(lines)
    # A line for each record; only the first one repeats the question.
    lines = [("pod-a3 asks for", "", "", "and gets")]
    for lookup in lookups:
        question: tuple[str, ...] = (lookup.what, lookup.name, lookup.kind)
        for record in lookup.records or ["no answer"]:
            lines.append((*question, record))
            question = ("", "", "")
    table(lines)
    print()
    return all(row.answered == REQUESTS for row in rows) and all(each.records for each in lookups), lookups


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
        plane = start_cluster(stack, args.keep) if args.source == "cluster" else None
        if not plane:
            say(f"The cluster's state comes from the Services and Pods in {os.path.relpath(MANIFESTS)}.")
        inventory = write_inventory(lab, args.mode, plane)
        give_pods_a_resolver(lab, DNS_ADDRESS, "shop")
        say(f"Running kubenode.servicenet.site in mode {args.mode}, with names{' and endpoints' if plane else ''}.")
        run_site(lab, inventory, "The first run")
        left = run_site(lab, inventory, "The second run")
        say(f"{REQUESTS} requests from each place.")
        good, before = ask_everything(lab)
        good = good and not left
        if plane:
            plane.stop_api()
            say("The API server is stopped. The same again.")
            still_good, after = ask_everything(lab)
            good = good and still_good and after == before
            say("Every name has the records that it had." if after == before else "There are other records now!")
        if args.keep:
            if plane:
                plane.start_api()
            print(f"The lab {lab.prefix} is left standing, its Pods know names as well:\n{how_to_use(inventory)}")
            return good
    gone = not namespaces(lab.prefix) and lab.prefix not in labs()
    say("The lab is gone: no namespace, process or file of it is left." if gone else f"{lab.prefix} is still there!")
    return good and gone


def from_environment() -> list[str]:
    """What make hands over, as arguments, so that it is checked like those."""
    given = [f"--{name}={os.environ[name.upper()]}" for name in ("mode", "source") if os.environ.get(name.upper())]
    return given + (["--keep"] if os.environ.get("KEEP") == "1" else [])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", default="iptables", choices=["iptables", "nftables", "ipvs", "userspace"])
    parser.add_argument("--source", default="manifests", choices=["manifests", "cluster"])
    parser.add_argument("--keep", action="store_true", help="leave the lab standing")
    args = parser.parse_args([*from_environment(), *sys.argv[1:]])
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

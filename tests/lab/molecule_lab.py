# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab as molecule's scenarios use it.

molecule_lab.py up            builds it, with the variables of the scenario
molecule_lab.py ask all|none  every request and query must be answered, or none but those to the Pods themselves
molecule_lab.py down          takes it away
molecule_lab.py --list        the inventory: that of the lab, an empty one before there is one
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from lab.claim import remove, sh
from lab.cluster import Lab
from lab.demo import DNS_ADDRESS, start_cluster, write_inventory
from lab.names import enter_place, give_pods_a_resolver

# Asked from a Pod of each node and from outside: ClusterIP of both families, node ports of both nodes.
URLS = {
    "pod-a3": ["http://10.96.0.10/", "http://[fd00:10:96::10]/"],
    "pod-b3": ["http://10.96.0.10/", "http://[fd00:10:96::10]/"],
    "client": ["http://10.96.0.10/", "http://198.18.0.11:30080/", "http://[fd98::12]:30080/"],
}
# Answered always: without them no other answer, or its lack, means anything.
PODS = [f"http://10.128.{node}.{pod}:8080/" for node in (1, 2) for pod in (11, 12, 13)]


def directory() -> Path:
    """Where molecule keeps what belongs to the scenario."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def up() -> None:
    """Builds the lab and leaves it standing."""

    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    variables = yaml.safe_load((scenario / "vars" / "nodes.yml").read_text())
    lab = Lab()
    lab.open()
    with contextlib.ExitStack() as stack:
        stack.callback(lab.close)
        plane = start_cluster(stack, keep=True) if variables.get("molecule_control_plane") else None
        names = bool(plane or variables.get("molecule_dns"))
        if names:
            inventory = write_inventory(lab, variables.get("service_proxy_mode", "iptables"), plane)
            give_pods_a_resolver(lab, DNS_ADDRESS, "shop")
        else:
            inventory = lab.inventory(**variables)
        lab.keep()
        directory().mkdir(parents=True, exist_ok=True)
        (directory() / "lab-inventory.yml").write_text(inventory.read_text())
        (directory() / "lab.json").write_text(
            json.dumps({"lab": lab.prefix, "plane": plane.prefix if plane else "", "names": names})
        )
        stack.pop_all()


def fetch(prefix: str, place: str, url: str) -> tuple[str, str]:
    """Who answered and an empty text, or an empty text and what was in the way."""

    request = ["curl", "--silent", "--show-error", "--max-time", "2", url]
    done = sh(*enter_place(prefix, place), *request, check=False)
    who = done.stdout.split("\n")[0]
    return (who, "") if done.returncode == 0 and who else ("", f"{done.stderr.strip()} ({done.returncode})")


def ask(wanted: str) -> None:
    """Asks from Pods and from outside, and ends with an error unless it is as wanted."""

    state = json.loads((directory() / "lab.json").read_text())
    wrong, who = [], set()
    for url in PODS:
        answer, obstacle = fetch(state["lab"], "client", url)
        if not answer:
            wrong.append(f"client asked {url}, a Pod: {obstacle}")
    asked = [(place, url) for place, urls in URLS.items() for url in urls]
    if state["names"] and wanted == "all":
        asked += [("pod-a3", "http://web/"), ("pod-b3", "http://stock:8080/"), ("pod-a3", "http://database:8080/")]
    for place, url in asked:
        for _time in range(4 if wanted == "all" else 1):
            answer, obstacle = fetch(state["lab"], place, url)
            who.add(answer)
            if bool(answer) != (wanted == "all"):
                wrong.append(f"{place} asked {url}: {answer or obstacle}")
    if state["names"] and wanted == "all":
        for name, kind in (("stock.shop.svc.cluster.local", "A"), ("_http._tcp.stock.shop.svc.cluster.local", "SRV")):
            command = [*enter_place(state["lab"], "pod-b3"), "dig", "+short", "+time=2", name, kind]
            if not sh(*command, check=False).stdout.strip():
                wrong.append(f"pod-b3 looked up {name} {kind}: no answer")
    if wanted == "all" and len(who) < 2:
        wrong.append(f"Only {', '.join(who)} ever answered.")
    if wrong:
        sys.exit("\n".join(wrong))
    print(", ".join(sorted(filter(None, who))) or "Nobody answered.")


def down() -> None:
    """Takes the lab away."""

    path = directory() / "lab.json"
    if path.exists():
        state = json.loads(path.read_text())
        for prefix in filter(None, (state["lab"], state["plane"])):
            remove(prefix)
        path.unlink()
        (directory() / "lab-inventory.yml").unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["up", "ask", "down"])
    parser.add_argument("wanted", nargs="?", choices=["all", "none"], default="all")
    options = parser.parse_args()
    if options.verb == "ask":
        ask(options.wanted)
    else:
        {"up": up, "down": down}[options.verb]()


if __name__ == "__main__":
    main()

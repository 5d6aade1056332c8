# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab as molecule's scenarios use it.

molecule_lab.py up            builds it, with the variables of the scenario, and says what it is made of
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
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from uml.machine import has_ip_vs

from lab.claim import LabError, remove, sh
from lab.containers import best_lab
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
    directory().mkdir(parents=True, exist_ok=True)
    if variables.get("service_proxy_mode") == "ipvs" and not has_ip_vs():
        said = f"The nodes are not made: SKIPPED, this kernel has no ip_vs, which the scenario {scenario.name} needs."
        (directory() / "lab.json").write_text(json.dumps({"skipped": said}))
        print(said)
        return
    lab, said = best_lab()
    print(said, flush=True)
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
        (directory() / "lab-inventory.yml").write_text(inventory.read_text())
        (directory() / "lab.json").write_text(
            json.dumps({"lab": lab.prefix, "plane": plane.prefix if plane else "", "names": names})
        )
        stack.pop_all()


class Question(NamedTuple):
    """One request or query: the program's command line, and whether an answer is wanted."""

    place: str
    command: tuple[str, ...]
    wanted: bool = True

    def __str__(self) -> str:
        return f"{self.place} ran {' '.join(self.command)}"


def fetch(place: str, url: str, wanted: bool = True) -> Question:
    """An HTTP request. Silence is expected where no answer is wanted, and waited out."""
    seconds = "60" if wanted else "2"
    return Question(place, ("curl", "--silent", "--show-error", "--max-time", seconds, url), wanted)


def questions(names: bool, wanted: bool) -> Iterable[Question]:
    """All that a scenario asks."""
    yield from (fetch("client", url) for url in PODS)
    times = 4 if wanted else 1
    asked = [(place, url) for place, urls in URLS.items() for url in urls]
    if names and wanted:
        asked += [("pod-a3", "http://web/"), ("pod-b3", "http://stock:8080/"), ("pod-a3", "http://database:8080/")]
        for name, kind in (("stock.shop.svc.cluster.local", "A"), ("_http._tcp.stock.shop.svc.cluster.local", "SRV")):
            yield Question("pod-b3", ("dig", "+short", "+time=20", name, kind))
    for place, url in asked:
        yield from [fetch(place, url, wanted)] * times


def ask(wanted: str) -> None:
    """Asks from Pods and from outside, and ends with an error unless it is as wanted."""
    if not (directory() / "lab.json").exists():
        raise LabError("There are no nodes: the step create has made none.")
    state = json.loads((directory() / "lab.json").read_text())
    if "skipped" in state:
        print(state["skipped"])
        return

    def answer(question: Question) -> tuple[str, str]:
        """The first line of an answer, and what was in the way of one."""
        done = sh(*enter_place(state["lab"], question.place), *question.command, check=False)
        line = done.stdout.split("\n")[0] if done.returncode == 0 else ""
        return line, f"{done.stderr.strip()} ({done.returncode})"

    wrong, who = [], set()
    every = list(questions(state["names"], wanted == "all"))
    # Where nothing answers, each of them waits for its time to be up.
    with ThreadPoolExecutor(max_workers=8) as threads:
        for question, (said, obstacle) in zip(every, threads.map(answer, every), strict=True):
            if bool(said) != question.wanted:
                wrong.append(f"{question}: {said or obstacle}")
            if question.command[-1] not in PODS and question.command[0] == "curl":
                who.add(said)
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
        for prefix in filter(None, (state.get("lab"), state.get("plane"))):
            remove(prefix)
        path.unlink()
        (directory() / "lab-inventory.yml").unlink(missing_ok=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["up", "ask", "down"])
    parser.add_argument("wanted", nargs="?", choices=["all", "none"], default="all")
    options = parser.parse_args()
    try:
        if options.verb == "ask":
            ask(options.wanted)
        else:
            {"up": up, "down": down}[options.verb]()
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

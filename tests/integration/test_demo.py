# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo` does what it says, and its exit status tells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from lab.claim import labs
from lab.control_plane import has_peers

DEMO = Path(__file__).resolve().parents[1] / "lab" / "demo.py"


PODS = {"pod-a1", "pod-a2", "pod-b1", "pod-b2"}
# What is asked by name, and who may answer.
BY_NAME = {
    "http://web/": PODS,
    "http://web.shop.svc.cluster.local/": PODS,
    "http://stock:8080/": {"pod-a1", "pod-a2", "pod-b1"},
    "http://database:8080/": {"pod-a1", "pod-b1"},
    "http://warehouse/": {"outside"},
}
RECORDS = {
    "stock.shop.svc.cluster.local A": ["10.128.1.11", "10.128.1.12", "10.128.2.11"],
    "database.shop.svc.cluster.local A": ["10.128.1.11", "10.128.2.11"],
    "catalogue.shop.svc.cluster.local CNAME": ["catalogue.example.org."],
    "_http._tcp.stock.shop.svc.cluster.local SRV": [
        f"0 33 8080 stock-{number}.stock.shop.svc.cluster.local." for number in range(3)
    ],
    "10.96.0.10 PTR": ["web.shop.svc.cluster.local."],
    "10.128.2.11 PTR": ["db-1.database.shop.svc.cluster.local.", "stock-2.stock.shop.svc.cluster.local."],
}


@pytest.mark.parametrize(("mode", "source"), [("iptables", "manifests"), ("nftables", "cluster")])
def test_demo(mode: str, source: str) -> None:
    """Both nodes are programmed, a second run changes nothing, addresses and names are answered, the machine is clean.

    Without the API server, names and addresses are answered as before.
    """
    needed = ["coredns", "kube-apiserver"] if source == "cluster" else ["coredns"]
    if not has_peers(*needed):
        pytest.skip(f"{' and '.join(needed)} must have been built (`make peers`)")
    variables = {"MODE": mode, "SOURCE": source, "KEEP": ""}
    demo = subprocess.Popen(
        [sys.executable, DEMO],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _nothing = demo.communicate()
    assert demo.returncode == 0, said
    assert re.search(r"The second run: 0 tasks changed something on node-a, node-b", said)
    parts = said.split("The API server is stopped.")
    assert len(parts) == (2 if source == "cluster" else 1)
    for part in parts:
        check_requests(part, BY_NAME)
        assert records(part) == RECORDS
    assert not [prefix for prefix in labs() if prefix.startswith(f"sn{demo.pid}x")]


def check_requests(said: str, by_name: Mapping[str, set[str]]) -> None:
    """Ten requests of each row were answered, by those who stand behind the address or name."""
    rows = re.findall(r"^  (\S+) .* (http://\S+) +(.+)$", said, re.MULTILINE)
    assert [place for place, _url, _who in rows].count("outside") == 3
    assert set(by_name) <= {url for _place, url, _who in rows}
    assert len(rows) == 8 + len(by_name)
    for place, url, who in rows:
        answers = re.findall(r"(\S+) x (\d+)", who)
        assert sum(int(times) for _name, times in answers) == 10, (place, url, who)
        assert {name for name, _times in answers} <= by_name.get(url, PODS), (place, url)


def records(said: str) -> dict[str, list[str]]:
    """The second table: question and kind -> records."""
    found: dict[str, list[str]] = {}
    for line in said.partition("and gets\n")[2].partition("\n\n")[0].splitlines():
        question = re.match(r"  \S.*?  +(\S+) +(A|CNAME|SRV|PTR) +(.+)$", line)
        if question:
            name, kind, first = question.groups()
            found[f"{name} {kind}"] = [first]
        else:
            found[next(reversed(found))].append(line.strip())
    return found


@pytest.mark.parametrize(("name", "value"), [("MODE", "nftable"), ("SOURCE", "api")])
def test_a_word_that_is_none_builds_nothing(name: str, value: str) -> None:
    demo = subprocess.run(
        [sys.executable, DEMO],
        env={**os.environ, "MODE": "", "SOURCE": "", name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 2
    assert f"argument --{name.lower()}: invalid choice: '{value}'" in demo.stderr
    assert not demo.stdout

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of services.py for people: tables in Markdown, and the page and pictures of the documentation."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import plot

# What was done -> the head of its column.
DEEDS = {
    "cold": "all from nothing",
    "added": "one Service added",
    "changed": "one endpoint changed",
    "removed": "one Service removed",
    "nothing": "nothing changed",
    "moved": "nothing, but another program wrote",
    "audit": "drift looked for",
    "empty": "Ansible's own ping module",
}
Load = tuple[float, float, float]
PLACES = ("first", "middle", "last")
TOOLS = {
    "iptables-nft": "iptables-restore",
    "iptables-legacy": "iptables-restore",
    "nftables": "nft",
    "userspace": "nft",
}


def tables(runs: list[dict[str, Any]]) -> str:
    """Everything as Markdown; ``runs`` are results of services.py."""
    measured = _measured(runs)
    parts = [_surroundings(results) for results in runs]
    for mode in dict.fromkeys(entry["mode"] for entry in measured):
        entries = [entry for entry in measured if entry["mode"] == mode]
        parts += [f"### {mode}", _times(mode, entries), _latencies(entries)]
    return "\n\n".join(parts) + "\n"


def merged(runs: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with more of them: what was measured again replaces what was measured before."""
    again = [(entry["mode"], list(entry["size"])) for results in more for entry in results["measured"]]
    kept = []
    for results in runs:
        measured = [e for e in results["measured"] if (e["mode"], list(e["size"])) not in again]
        if measured:
            kept.append({**results, "measured": measured})
    return kept + more


def publish(runs: list[dict[str, Any]], docs: Path) -> None:
    """Merges the runs into results.json beside this file, and makes the page's tables and the pictures of all in it."""
    data = docs.parent / "tests" / "benchmarks" / "results.json"
    if data.exists():
        runs = merged(json.loads(data.read_text()), runs)
    data.write_text("".join(["[\n", ",\n".join(json.dumps(results) for results in runs), "\n]\n"]))
    splice(docs, "results", tables(runs))
    images = docs / "images"
    images.mkdir(exist_ok=True)
    for deed, title in (("cold", "Everything programmed from nothing"), ("added", "One Service added")):
        picture = plot.lines(
            title, "Services (two endpoints each, 45,000 with one)", "seconds", _series(_measured(runs), deed)
        )
        (images / f"performance-{deed}.svg").write_text(picture)


def splice(docs: Path, name: str, text: str) -> None:
    """Puts a text between the two lines of performance.md that carry this name, in the place of what stands there."""
    page = docs / "performance.md"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _mark, rest = page.read_text().partition(begin)
    _old, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{page} lacks the lines {begin} and {end}.")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def circumstances(load: Load, *more: str) -> str:
    """A list of when and where something was measured; ``load`` are the load averages when it began."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    lines = [
        f"{when}, {os.cpu_count()} processors, Linux {os.uname().release}",
        f"load averages when it began: {', '.join(f'{one:.1f}' for one in load)}",
        *more,
    ]
    return "".join(f"- {line}\n" for line in lines)


# ---------------------------------------------------------------------------------------------------------- tables


def _measured(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((entry for results in runs for entry in results["measured"]), key=lambda entry: tuple(entry["size"]))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _surroundings(results: dict[str, Any]) -> str:
    where = results["surroundings"]
    load = ", ".join(f"{one:.1f}" for one in where["load"])
    loads = [f"{entry['load']:.1f}" for entry in results["measured"] if "load" in entry]
    what = dict.fromkeys(f"{entry['mode']} {_size(entry)}" for entry in results["measured"])
    facts = [
        f"{where['date']}, revision {where['commit']}",
        f"{where['processors']}, {where['memory']}, Linux {where['kernel']}",
        f"{where['nft']}; {where['iptables']}; Python {where['python']}; kube-proxy: {where['kube_proxy'] or 'none'}",
        f"load averages when it began: {load}" + (f"; before each part: {', '.join(loads)}" if loads else ""),
        f"each run of ours {results['repeats']} times: {', '.join(what)}",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _size(entry: dict[str, Any]) -> str:
    services, endpoints = entry["size"]
    return f"{services:,} x {endpoints}"


def spread(values: list[float]) -> str:
    """``0.31 s (0.29-0.35)``: the median, and from the least to the most."""
    middle = statistics.median(values)
    unit, factor, digits = (
        ("ms", 1000, 1 if middle < 0.01 else 0) if middle < 0.1 else ("s", 1, 2 if middle < 10 else 1)
    )
    text = f"{middle * factor:.{digits}f} {unit}"
    if len(values) > 1:
        text += f" ({min(values) * factor:.{digits}f}-{max(values) * factor:.{digits}f})"
    return text


def _ratio(peer: list[float], ours: list[float]) -> str:
    """How many times the peer takes what ours takes, by medians."""
    return f"{statistics.median(peer) / statistics.median(ours):.2g}x"


def _times(mode: str, entries: list[dict[str, Any]]) -> str:
    deeds = [deed for deed in DEEDS if any(deed in entry["ours"]["runs"] for entry in entries)]
    rows = []
    for entry in entries:
        rows += _ours(mode, entry, deeds)
        if "peer" in entry:
            rows += _peer(mode, entry, deeds)
    return _table(["Services x endpoints", "", *(DEEDS[deed] for deed in deeds), "memory"], rows)


def _ours(mode: str, entry: dict[str, Any], deeds: list[str]) -> list[list[str]]:
    runs = entry["ours"]["runs"]
    rows = []
    for what, field in (
        ("**ours**, whole module", "wall"),
        ("ours, processor's time", "cpu"),
        (f"ours, in {TOOLS[mode]}", "commit"),
    ):
        shown = [[run[field] for run in runs.get(deed, ())] for deed in deeds]
        rows.append([_size(entry), what, *(spread(values) if any(values) else "" for values in shown), ""])
    rows[0][-1] = f"{max(run['mebibytes'] for made in runs.values() for run in made):.0f} MiB"
    return rows


def _peer(mode: str, entry: dict[str, Any], deeds: list[str]) -> list[list[str]]:
    peer, runs = entry["peer"], entry["ours"]["runs"]
    changes = {deed: peer["changes"].get(deed, []) for deed in deeds}
    syncs = {deed: [sum(one["syncs"]) for one in made] for deed, made in changes.items()}
    commits = {deed: [one["commit"] for one in made] for deed, made in changes.items()}
    walls = {deed: [one["wall"] for one in made] for deed, made in changes.items()}
    tool = TOOLS[mode]
    rows = [
        [what, *(spread(values[deed]) if values[deed] else "" for deed in deeds)]
        for what, values in (
            ("**kube-proxy**, its syncs", syncs),
            ("kube-proxy, until it shows", walls),
            (f"kube-proxy, in {tool}", commits),
        )
    ]
    rows += [
        [what, *(_ratio(values[deed], [run[field] for run in runs[deed]]) if values[deed] else "" for deed in deeds)]
        for what, values, field in (
            ("kube-proxy's syncs / our whole module", syncs, "wall"),
            (f"kube-proxy / ours, in {tool}", commits, "commit"),
        )
    ]
    memory = f"{peer['mebibytes']:.0f} MiB" if "mebibytes" in peer else peer.get("gave_up", "")
    return [[_size(entry), *row, memory if index == 0 else ""] for index, row in enumerate(rows)]


def _latencies(entries: list[dict[str, Any]]) -> str:
    rows = []
    for entry in entries:
        for program, name in (("ours", "**ours**"), ("peer", "**kube-proxy**")):
            found = entry.get(program, {}).get("latency")
            if found:
                middle = [found[place]["p50"] for place in PLACES]
                cells = [
                    f"{found[place]['p50']:.0f} us ({found[place]['p01']:.0f}, {found[place]['p90']:.0f})"
                    for place in PLACES
                ]
                rows.append([_size(entry), name, *cells, f"{middle[-1] / middle[0]:.2f}"])
    return _table(["first packet: p50 (p01, p90)", "", *(f"{place} Service" for place in PLACES), "last / first"], rows)


# -------------------------------------------------------------------------------------------------------- pictures


def _series(measured: list[dict[str, Any]], deed: str) -> list[plot.Series]:
    """Medians by mode and program."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in measured:
        services, endpoints = entry["size"]
        if endpoints > 2:
            continue
        mode, runs = entry["mode"], entry["ours"]["runs"][deed]
        found.setdefault((mode, "ours"), []).append((services, statistics.median(run["wall"] for run in runs)))
        if deed != "cold":
            point = (services, statistics.median(run["commit"] for run in runs))
            found.setdefault((mode, "in the kernel"), []).append(point)
        made = entry.get("peer", {}).get("changes", {}).get(deed)
        if made:
            point = (services, statistics.median(sum(one["syncs"]) for one in made))
            found.setdefault((mode, "kube-proxy"), []).append(point)
    names = {"ours": "ours, whole module", "in the kernel": "ours, in the tool", "kube-proxy": "kube-proxy, its syncs"}
    dashes = {"ours": "", "in the kernel": "2 4", "kube-proxy": "8 4"}
    return [
        plot.Series(f"{mode}: {names[who]}", list(TOOLS).index(mode), dashes[who], sorted(points))
        for (mode, who), points in found.items()
    ]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of the benchmarks: parts that are measured one by one make one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import report, run
from benchmarks.cluster import Size

SURROUNDINGS = {
    **dict.fromkeys(("date", "processors", "memory", "kernel", "python", "nft", "iptables", "kube_proxy"), "x"),
    "load": [1.0, 1.0, 1.0],
}


def measured(commit: str, mode: str, wall: float) -> dict[str, Any]:
    """A run of the benchmark that measured one mode at one size."""
    once = [{"wall": wall, "cpu": wall, "commit": wall, "listing": 0.0, "mebibytes": 90.0}]
    entry = {"mode": mode, "size": Size(100, 2), "ours": {"runs": {"cold": once, "added": once}}}
    return {"surroundings": {**SURROUNDINGS, "commit": commit}, "repeats": 1, "measured": [entry]}


def test_a_part_that_is_measured_again_replaces_its_own_rows_only(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "tests" / "benchmarks").mkdir(parents=True)
    page = docs / "performance.md"
    page.write_text("above\n<!-- results: begin -->\n<!-- results: end -->\nbelow\n")
    report.publish([measured("first", "nftables", 1.25)], docs)
    report.publish([measured("second", "iptables-nft", 2.25)], docs)
    report.publish([measured("third", "nftables", 3.25)], docs)
    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "revision first" not in text
    assert "1.25 s" not in text
    for shown in ("revision second", "revision third", "2.25 s", "3.25 s", "### nftables", "### iptables-nft"):
        assert shown in text
    assert (docs / "images" / "performance-cold.svg").exists()


def test_a_mode_and_sizes_are_a_selection_of_the_services_benchmark() -> None:
    name, *options = run.selected(["nftables", "10000x2"])
    assert (name, options[:2], options[-2:]) == ("services", ["--modes", "nftables"], ["--sizes", "10000x2"])
    assert "--publish" in options
    assert run.selected(["nftables"]) == ["nftables"]
    assert run.selected([]) == ["services"]

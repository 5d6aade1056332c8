# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the nftables mode is as quick with many Services as with few.

    python tests/benchmarks/nftables.py [--sizes 1000x2 10000x2 45000x1] [--repeats 5]

For each size: how long nft takes to commit everything, and one Service that is added, changed or removed; and how long
the first packet of a connection to the first, a middle and the last Service takes. Ends with 1 if a commit of one
Service takes more than 20 ms, or if a first packet takes more than 10 % longer than the quickest place. Beside
kube-proxy: see services.py. Needs root.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from benchmarks.bed import Bed
from benchmarks.cluster import Size, vip
from benchmarks.ours import Ours
from lab.claim import clean_exit

MODE = "nftables"
ONE_SERVICE = ("added", "changed", "removed")
MOST_COMMIT_SECONDS = 0.020
MOST_SLOWER = 1.10
CONNECTIONS = 2000


class Measured(NamedTuple):
    """The shortest seconds of nft by what was done (other programs only make it longer), and the median seconds of
    first packets by place."""

    commits: dict[str, float]
    packets: list[float]


def measure(size: Size, repeats: int) -> Measured:
    """One size on a bed of its own."""
    with Bed("nft") as bed:
        runs = Ours(bed, MODE, size).measure(repeats)
        places = [vip(0), vip(size.services // 2), vip(size.services - 1)]
        bed.latency(places, 50)
        packets = [statistics.median(seconds) for seconds in bed.latency(places, CONNECTIONS)]
    commits = {name: min(run.commit for run in runs[name]) for name in ("cold", *ONE_SERVICE)}
    return Measured(commits, packets)


def verdicts(found: dict[Size, Measured]) -> list[str]:
    """What is slower than it may be."""
    slow = [
        f"{size}: one Service {name} takes nft {measured.commits[name] * 1e3:.1f} ms"
        for size, measured in found.items()
        for name in ONE_SERVICE
        if measured.commits[name] > MOST_COMMIT_SECONDS
    ]
    quickest = min(second for measured in found.values() for second in measured.packets)
    slow += [
        f"{size}: a first packet takes {max(measured.packets) / quickest:.2f} times that of the quickest place"
        for size, measured in found.items()
        if max(measured.packets) > quickest * MOST_SLOWER
    ]
    return slow


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [Size(1000, 2), Size(10000, 2), Size(45000, 1)]
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=sizes)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    clean_exit()
    print(f"{'size':>10} {'cold':>9} {'added':>9} {'changed':>9} {'removed':>9}   first packet: first, middle, last")
    found = {}
    for size in args.sizes:
        measured = found[size] = measure(size, args.repeats)
        commits = " ".join(f"{measured.commits[name] * 1e3:6.1f} ms" for name in ("cold", *ONE_SERVICE))
        packets = ", ".join(f"{second * 1e6:.0f} us" for second in measured.packets)
        print(f"{size!s:>10} {commits}   {packets}", flush=True)
    slow = verdicts(found)
    print("\n".join(slow) or "As quick with many Services as with few.")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

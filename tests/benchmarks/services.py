# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service rules of big clusters: the modules of this collection beside the real kube-proxy, in one run.

    python tests/benchmarks/services.py --sizes 100x2 1000x2 10000x2 10000x5 [--modes nftables] [--no-peer]
        [--output report.json] [--publish docs]

For each size (SERVICESxENDPOINTS, which must grow) and mode: everything programmed from nothing, nothing changed, one
Service added, one endpoint changed, one Service removed, and the time to open a connection to the first, a middle and
the last Service of the program. Needs root, and the programs that `make peers` builds. The results are printed as a
table; --output keeps them, and --publish writes the page and the pictures for the documentation from them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import CHECKOUT, collections_path

sys.path.insert(0, str(collections_path()))

from benchmarks import report
from benchmarks.bed import Bed
from benchmarks.cluster import Filled, Size, vip
from benchmarks.ours import MODES, Ours
from benchmarks.peer import Peer
from conformance.packets.reference import kube_proxy
from lab.claim import clean_exit
from lab.control_plane import ControlPlane

CONNECTIONS = 500
BESIDE_KUBE_PROXY = [name for name, mode in MODES.items() if mode.peer]
# A change of kube-proxy that took longer than this is not repeated.
LONG = 20.0


def order(bed: Bed, mode: str, program: str, size: Size) -> list[str]:
    """The ClusterIPs of the first, the middle and the last Service in the order in which the rules are walked.

    A map of nftables has no order: there it is that of the Services' names.
    """
    numbers = [vip(0), vip(size.services // 2), vip(size.services - 1)]
    if mode in ("nftables", "userspace"):
        return numbers
    saved = subprocess.run(
        bed.on_node(f"iptables-{MODES[mode].variant}-save", "-t", "nat"), capture_output=True, text=True, check=True
    )
    chains = {"ours": r"SERVICENET-IP-([0-9a-f]{2})", "kube-proxy": "(KUBE-SERVICES)"}
    found = re.findall(rf"^-A {chains[program]} .*?-d (10\.96\.\S+)/32 ", saved.stdout, re.MULTILINE)
    if program == "ours":
        # The low half of the byte is looked at first.
        found.sort(key=lambda rule: (int(rule[0], 16) & 15, int(rule[0], 16)))
    ours = set(map(vip, range(size.services)))
    walked = [address for address in dict.fromkeys(address for _chain, address in found) if address in ours]
    return [walked[0], walked[len(walked) // 2], walked[-1]]


def latency(bed: Bed, mode: str, program: str, size: Size) -> dict[str, dict[str, float]]:
    """Microseconds to open a connection by place, and of those percentiles."""
    addresses = order(bed, mode, program, size)
    bed.latency(addresses, 20)
    found = bed.latency(addresses, CONNECTIONS)
    return {place: percentiles(seconds) for place, seconds in zip(report.PLACES, found, strict=True)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In microseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return {f"p{percent:02}": round(cuts[percent - 1] * 1e6, 1) for percent in (1, 50, 90, 99)}


def measure_ours(mode: str, size: Size, repeats: int) -> dict[str, Any]:
    """The module on a bed of its own."""
    with Bed(MODES[mode].variant) as bed:
        ours = Ours(bed, mode, size)
        runs = ours.measure(repeats)
        return {
            "runs": {name: [run._asdict() for run in made] for name, made in runs.items()},
            "latency": latency(bed, mode, "ours", size),
        }


def measure_peer(mode: str, filled: Filled, plane: ControlPlane, repeats: int, limit: float) -> dict[str, Any]:
    """kube-proxy on a bed of its own."""
    changes: dict[str, list[dict[str, Any]]] = {}
    result: dict[str, Any] = {"changes": changes}
    with Bed(MODES[mode].variant) as bed:
        peer = Peer(bed, MODES[mode].peer, filled, plane.socket)
        try:
            changes["cold"] = [peer.cold(limit)._asdict()]
            for _index in range(repeats):
                for name, change in (
                    ("added", lambda: peer.add(limit)),
                    ("removed", lambda: peer.remove(limit)),
                    ("changed", lambda: peer.change(True, limit)),
                    ("changed", lambda: peer.change(False, limit)),
                ):
                    changes.setdefault(name, []).append(change()._asdict())
                if changes["added"][-1]["wall"] > LONG:
                    break
            result["latency"] = latency(bed, mode, "kube-proxy", filled.size)
            result |= peer.usage()
        except TimeoutError as late:
            result["gave_up"] = str(late)
        finally:
            peer.stop()
    return result


@contextlib.contextmanager
def control_plane(wanted: bool) -> Iterator[tuple[ControlPlane, Filled] | None]:
    """A control plane with the cluster in it, or nothing if it is not wanted."""
    if not wanted:
        yield None
        return
    with ControlPlane() as plane:
        yield plane, Filled(plane.api)


def said(*command: str) -> str:
    """The first line that a program says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def surroundings(peer: bool) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": said("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"),
        "processors": f"{os.cpu_count()} x {model.group(1) if model else 'unknown'}",
        "memory": f"{int(memory.group(1)) / (1 << 20):.0f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nft": said("nft", "--version"),
        "iptables": said("iptables", "--version"),
        "kube_proxy": said(kube_proxy(), "--version") if peer else "",
        "load": os.getloadavg(),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All sizes and modes, the results written after each."""
    results: dict[str, Any] = {"surroundings": surroundings(args.peer), "repeats": args.repeats, "measured": []}
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)

    with control_plane(args.peer) as control:
        for size in sorted({*args.sizes, *args.nftables_sizes, *args.only_ours}):
            beside = None if size in args.only_ours else control
            if beside is not None:
                tell(f"fills the API server: {size}")
                beside[1].grow(size)
            for mode in args.modes if size in args.sizes else ["nftables"]:
                tell(f"{mode} {size}: ours")
                entry = {"mode": mode, "size": size, "load": os.getloadavg()[0]}
                entry["ours"] = measure_ours(mode, size, args.repeats)
                if beside is not None and MODES[mode].peer:
                    tell(f"{mode} {size}: kube-proxy")
                    entry["peer"] = measure_peer(mode, beside[1], beside[0], args.peer_repeats, args.peer_limit)
                results["measured"].append(entry)
                if args.output:
                    args.output.write_text(json.dumps(results, indent=1) + "\n")
        tell("done")
    return results


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=BESIDE_KUBE_PROXY)
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=[Size(100, 2), Size(1000, 2), Size(10000, 2)])
    parser.add_argument(
        "--nftables-sizes", nargs="*", type=Size.parse, default=[], help="more, for mode nftables alone"
    )
    parser.add_argument("--only-ours", nargs="*", type=Size.parse, default=[], help="more of those, without kube-proxy")
    parser.add_argument("--repeats", type=int, default=5, help="how often each run of ours is made")
    parser.add_argument("--peer-repeats", type=int, default=3, help="how often each change of kube-proxy")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="kube-proxy as well")
    parser.add_argument("--peer-limit", type=float, default=600, help="seconds before kube-proxy is given up")
    parser.add_argument("--output", type=Path, help="a file for the results as JSON")
    parser.add_argument("--publish", type=Path, help="the directory docs/, to be written from the results")
    parser.add_argument("--render", type=Path, nargs="+", help="measure nothing: take the results from these files")
    args = parser.parse_args()
    clean_exit()
    runs = [json.loads(path.read_text()) for path in args.render] if args.render else [measure(args)]
    print(report.tables(runs))
    if args.publish:
        report.publish(runs, args.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())

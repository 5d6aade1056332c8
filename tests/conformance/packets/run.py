# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replays recorded cases against a service proxy and compares what the packets do.

    run.py --adapter CMD --mode iptables|nftables|ipvs|userspace [--case GLOB ...] [--cases DIR] [--jobs N]
           [--deviations [FILE ...]]

CMD (a command line; see README.md) is called as
    CMD apply   --netns NS --node node-a --manifests DIR --mode MODE --options FILE
    CMD cleanup --netns NS --node node-a --manifests DIR --mode MODE --options FILE
Prints one line per failing check and at last `N passed, N failed`. Needs root, iproute2, nftables or iptables, Python
3.11 and PyYAML.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fnmatch
import functools
import json
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.claim import LabError, clean_exit

from conformance.packets import deviations
from conformance.packets.outcome import classify, difference, text
from conformance.packets.packet_lab import PacketLab

CASES = Path(__file__).resolve().parent / "cases"
MODES = ("iptables", "nftables", "ipvs", "userspace")


class Check(NamedTuple):
    """One probe of a case, and what it must show in the mode under test.

    `also`: further `result`s that pass. `compare_source`: does it matter whose address the backend saw?
    """

    probe: dict[str, Any]
    expected: dict[str, Any]
    also: tuple[str, ...]
    compare_source: bool

    @property
    def label(self) -> str:
        """The check in words, for people and for deviations.yaml."""
        p = self.probe
        return f"{p['target']} from {p['client']} to {p['address']} {p['port']}/{p['proto']}"


class Replay(NamedTuple):
    """The result of one case: `failures` and `deviations` are lines that begin with the label of their check."""

    passed: int
    failures: list[str]
    deviations: list[str]


def load_case(name: str, directory: Path = CASES) -> dict[str, Any]:
    """One recorded case (README, "Files of a case")."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(yaml.load((directory / f"{name}.yaml").read_text(), Loader=loader))


def case_names(globs: list[str], directory: Path = CASES) -> list[str]:
    """Names of the cases that match one of the globs, sorted."""
    return [f.stem for f in sorted(directory.glob("*.yaml")) if any(fnmatch.fnmatch(f.stem, glob) for glob in globs)]


def checks_of(case: dict[str, Any], mode: str) -> list[Check]:
    """The probes of a case that say something about a mode."""
    return [check for check in (expectation(p, mode) for p in case["probes"]) if check]


def expectation(p: dict[str, Any], mode: str) -> Check | None:
    """What a probe must show; None: it is left out in this mode.

    Only iptables and nftables were recorded. The other two may do what either of these does, but for what the originals
    are known to do (README, "Modes that could not be recorded").
    """
    if mode in p["expected"]:
        return Check(p, p["expected"][mode], (), True)
    iptables, nftables = p["expected"]["iptables"], p["expected"]["nftables"]
    either = iptables if iptables == nftables else {"one_of": [*outcomes(iptables), *outcomes(nftables)]}
    results = {o["result"] for o in outcomes(either)}
    target = p["target"]
    if "loopback" in target:
        return None
    if mode == "ipvs":
        if "undefined port" in target and "ClusterIP" in target:
            return Check(p, nftables, (), True)
        return Check(p, either, ("drop",) if "reject" in results else (), True)
    if p["proto"] == "SCTP":
        return None
    return Check(p, either, ("drop", "closed") if "reject" in results else (), False)


def outcomes(expected: dict[str, Any]) -> list[dict[str, Any]]:
    """All outcomes that pass."""
    return list(expected.get("one_of", [expected]))


def everybody(expected: dict[str, Any]) -> list[str]:
    """The backends that all have to be seen; of several outcomes, those of each."""
    found = [outcome.get("backends", ()) for outcome in outcomes(expected) if not outcome.get("any_of")]
    return sorted(set().union(*found))


class Proxy(Protocol):
    """The service proxy under test, on one node, for one case."""

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Back when these objects are in force.

        :raises LabError: they are not.
        """

    def cleanup(self) -> None:
        """Takes the rules away, or raises ``LabError``."""


class Command:
    """A proxy behind a command line (README, "Replay")."""

    def __init__(self, command: str, mode: str, netns: str, options: dict[str, Any], directory: Path) -> None:
        self.command, self.mode, self.netns = shlex.split(command), mode, netns
        self.manifests, self.options = directory / "manifests", directory / "options.json"
        self.options.write_text(json.dumps(options, indent=1))

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Writes the objects down, and calls the command."""
        shutil.rmtree(self.manifests, ignore_errors=True)
        self.manifests.mkdir()
        for i, manifest in enumerate(objects):
            meta = manifest["metadata"]
            name = "-".join(filter(None, [f"{i:03d}", manifest["kind"].lower(), meta.get("namespace"), meta["name"]]))
            (self.manifests / f"{name}.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        self._call("apply")

    def cleanup(self) -> None:
        """Calls the command."""
        self._call("cleanup")

    def _call(self, verb: str) -> None:
        # Output goes to a file: a daemon that the adapter leaves behind would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as output:
            try:
                code = subprocess.run(
                    [
                        *self.command,
                        verb,
                        "--netns",
                        self.netns,
                        "--node",
                        "node-a",
                        "--manifests",
                        str(self.manifests),
                        "--mode",
                        self.mode,
                        "--options",
                        str(self.options),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=300,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                raise LabError(f"{verb} took more than 300 s") from None
            output.seek(0)
            if code:
                raise LabError(f"{verb} ended with {code}: {(output.read().splitlines() or ['no output'])[-1]}")


MakeProxy = Callable[[dict[str, Any], Path], Proxy]


def replay(
    name: str,
    make_proxy: MakeProxy,
    mode: str,
    lab: PacketLab,
    with_health: bool = False,
    known: tuple[deviations.Deviation, ...] = (),
    cases: Path = CASES,
) -> Replay:
    """One case from an empty node to an empty node; `known` deviations do not fail it.

    :param make_proxy: from the case's options and an empty directory to the proxy of the lab's node.
    :param cases: where the cases are.
    """
    case = load_case(name, cases)
    checks = checks_of(case, mode)
    health = case["healthchecks"] if with_health else []
    lab.reset()
    failures: list[str] = []
    deviating: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        proxy = make_proxy(case["proxy_options"], Path(directory))
        try:
            for objects in (case.get("before"), case["manifests"]):
                if objects is not None:
                    proxy.apply(objects)
        except LabError as problem:
            failures = [str(problem), *(f"{check.label}: not probed" for check in checks)]
        else:
            for check, result, wrong in wrong_checks(lab, checks):
                documented = any(
                    d.ours == result and d.covers(name, check.label, mode, check.probe["expected"]) for d in known
                )
                (deviating if documented else failures).append(f"{check.label}: {wrong}")
            failures += wrong_health(lab, health, mode)
        try:
            proxy.cleanup()
            failures += leftover(lab, checks)
        except LabError as problem:
            failures.append(str(problem))
    total = len(checks) + len(health) + 1
    return Replay(total - min(len(failures) + len(deviating), total), failures, deviating)


def wrong_checks(lab: PacketLab, checks: list[Check]) -> list[tuple[Check, str, str]]:
    """Sends the packets; returns the checks that failed, each with its result and with what is wrong."""
    asked = [check.probe | {"until": everybody(check.expected)} for check in checks]
    wrong = []
    for check, raw in zip(checks, lab.probe(asked), strict=True):
        seen = classify(check.probe, raw)
        problem = None if seen["result"] in check.also else difference(check.expected, seen, check.compare_source)
        if problem:
            wrong.append((check, str(seen["result"]), problem))
    return wrong


def wrong_health(lab: PacketLab, health: list[dict[str, Any]], mode: str) -> list[str]:
    """The same for the health checks of load balancers."""
    wrong = []
    for check in health:
        status, body = lab.http(check["client"], check["url"])
        # A mode that could not be recorded answers as all that were.
        want, got = check["expected"].get(mode, check["expected"]["nftables"]), {"status": status}
        if "localEndpoints" in want and status in (200, 503):
            got["localEndpoints"] = json.loads(body).get("localEndpoints")
        if got != want:
            wrong.append(f"{check['target']}: expected {want}, got {got}")
    return wrong


def leftover(lab: PacketLab, checks: list[Check]) -> list[str]:
    """After a cleanup no VIP may answer any more; what is wrong with one that does."""
    answering = [
        check for check in checks if check.expected.get("result") == "answer" and "ClusterIP" in check.probe["target"]
    ][:4]
    asked = [check.probe | {"count": 1, "timeout": 0.3, "affinity": False} for check in answering]
    for check, raw in zip(answering, lab.probe(asked), strict=True):
        seen = classify(check.probe, raw)
        if seen.get("backends"):
            return [f"cleanup left rules behind: {check.label} still answers ({text(seen)})"]
    return []


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--mode", required=True, choices=MODES)
    parser.add_argument("--case", nargs="*", default=["*"], help="names or globs of cases")
    parser.add_argument("--jobs", type=int, default=1, help="labs side by side")
    parser.add_argument("--healthchecks", action="store_true", help="also ask the healthCheckNodePort servers")
    parser.add_argument("--cases", type=Path, default=CASES, help="where the cases are")
    parser.add_argument(
        "--deviations", type=Path, nargs="*", metavar="FILE", help="let what these list pass, and deviations.yaml"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for each case, too")
    args = parser.parse_args()
    clean_exit()
    lists = [] if args.deviations is None else [deviations.FILE, *args.deviations]
    known = tuple(entry for path in lists for entry in deviations.load(path))
    names = case_names(args.case, args.cases)
    passed = failed = deviating = 0
    free: queue.SimpleQueue[PacketLab] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for _lab in range(args.jobs):
            free.put(stack.enter_context(PacketLab()))

        def one(name: str) -> tuple[Replay, float]:
            lab, began = free.get(), time.monotonic()
            proxy = functools.partial(Command, args.adapter, args.mode, lab.node)
            try:
                done = replay(name, proxy, args.mode, lab, args.healthchecks, known, args.cases)
                return done, time.monotonic() - began
            finally:
                free.put(lab)

        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(args.jobs))
        for name, (done, seconds) in zip(names, pool.map(one, names), strict=True):
            passed, failed, deviating = (
                passed + done.passed,
                failed + len(done.failures),
                deviating + len(done.deviations),
            )
            for failure in done.failures:
                print(f"{name}: {failure}", flush=True)
            if args.verbose:
                print(f"{name}: {done.passed} passed, {len(done.failures)} failed, {seconds:.1f} s", flush=True)
    if lists:
        print(f"{deviating} documented deviations")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

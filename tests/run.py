# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs levels of tests as one pytest run, whose last line is the sum over everything.

    python tests/run.py lint unit                       what `make check` runs
    python tests/run.py lint unit integration conformance -- -k dns
    python tests/run.py --full soak

A level that cannot run here is a test of its own in that sum: skipped with the reason, and failed where the variable CI
is "true".
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from collection_tree import CHECKOUT, cache_directory
from lab import machine

TESTS = CHECKOUT / "tests"
PEERS_ENV = cache_directory() / "peers" / "env"
# No single test may take longer than this many seconds; CI ends after ninety minutes and would not say where it stood.
# In full figures one test may replay every case in User Mode Linux.
TIME_LIMIT, TIME_LIMIT_IN_FULL = 1500, 7200
# A run with one of these levels has more processes than the machine has processors; soak alone does its long work one
# after the other.
PARALLEL = {"integration", "boot", "conformance", "molecule"}
PROCESSES = 4


def _no_namespaces() -> str:
    """Why this process cannot make network namespaces, or an empty text."""
    if os.geteuid() != 0:
        return "it makes network namespaces, which only root may do"
    try:
        tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "it needs unshare from util-linux"
    return "" if tried.returncode == 0 else f"this machine lets nobody make namespaces: {tried.stderr.strip()}"


def _no_peers() -> str:
    """Why the real programs cannot be compared with, or an empty text."""
    return "" if PEERS_ENV.exists() else "the real programs are not built; run `make peers`"


def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class Level:
    """One level of tests.

    :param directories: below ``tests/``.
    :param obstacle: says why the level cannot run on this machine, or returns an empty text.
    """

    directories: tuple[str, ...]
    obstacle: Callable[[], str] = _nothing


LEVELS = {
    "lint": Level(("lint",)),
    "unit": Level(("unit",)),
    "sanity": Level(("sanity",)),
    "integration": Level(("integration",), _no_namespaces),
    "boot": Level(("boot",), lambda: _no_namespaces() or machine.obstacle()),
    "molecule": Level(("molecule",), _no_namespaces),
    "conformance": Level(("conformance",), lambda: _no_namespaces() or _no_peers()),
    "soak": Level(("integration", "conformance"), lambda: _no_namespaces() or _no_peers()),
}


def load_peers() -> None:
    """Hand every test the places of the real programs, as tests/provision/peers wrote them, unless the caller did."""
    if PEERS_ENV.exists():
        for line in PEERS_ENV.read_text().splitlines():
            name, _equals, value = line.partition("=")
            os.environ.setdefault(name, value)


def run(levels: list[str], full: bool, extra: list[str]) -> int:
    """Run the levels and return pytest's exit status."""
    os.environ["SERVICENET_FULL"] = "1" if full else "0"
    # Tests start ansible-playbook and other tools of the environment that this Python is of.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    directories: list[str] = []
    reasons: dict[str, str] = {}
    for name in levels:
        level = LEVELS[name]
        there = [f"tests/{d}" for d in level.directories if any((TESTS / d).rglob("test_*.py"))]
        reason = level.obstacle() or ("" if there else "it has no tests")
        if reason:
            reasons[name] = reason
            print(f"LEVEL {name} CANNOT RUN: {reason}", flush=True)
        else:
            directories += [d for d in there if d not in directories]
    # With no directory at all pytest would take its own idea of where tests are.
    arguments = directories or ["tests/run.py"]
    arguments += ["--junitxml=tests/output/junit.xml", "--continue-on-collection-errors", "--durations=10"]
    arguments += [f"--timeout={TIME_LIMIT_IN_FULL if full else TIME_LIMIT}", "-p", "obstacles"]
    if levels != ["soak"]:
        # Linters and unit tests compute; the others wait for packets, servers and timers most of the time.
        processes = PROCESSES if PARALLEL & set(levels) else os.cpu_count() or 1
        arguments += ["-n", str(processes), "-p", "schedule"]
    if levels == ["soak"]:
        arguments += ["-m", "soak"]
    os.environ["SERVICENET_OBSTACLES"] = json.dumps(reasons)  # read by tests/obstacles.py
    return int(pytest.main([*arguments, *extra]))


def main() -> int:
    """Read the command line, and do what it says."""
    parser = argparse.ArgumentParser(description="Runs levels of tests as one pytest run.")
    names = [*LEVELS, "bench"]
    parser.add_argument("levels", nargs="+", choices=names, metavar="LEVEL", help=", ".join(names))
    parser.add_argument("--full", action="store_true", help="long tests do all of their work, not a part of it")
    own, dashes, extra = sys.argv[1:], "--", []
    if dashes in own:
        own, extra = own[: own.index(dashes)], own[own.index(dashes) + 1 :]
    options = parser.parse_args(own)
    os.chdir(CHECKOUT)
    load_peers()
    if len(options.levels) > 1 and {"bench", "soak"} & set(options.levels):
        parser.error("bench and soak each stand alone")
    if options.levels == ["bench"]:
        return subprocess.run([sys.executable, "tests/benchmarks/run.py", *extra], check=False).returncode
    return run(options.levels, options.full, extra)


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the modules of this collection.

Each run is a process of its own: the very program that Ansible sends to a node, from the start of Python to its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bed import Bed
from benchmarks.cluster import OWN_ADDRESS, OWN_NODE, POD_CIDR, Size, make_snapshot, vip

PAYLOAD = Path(__file__).resolve().parent / "payload.py"


class Mode(NamedTuple):
    """A mode that is measured: the name of the module, the variant of iptables on its node, and kube-proxy's mode, ""
    where it has none like it."""

    module: str
    variant: str
    peer: str


MODES = {
    "iptables-nft": Mode("iptables_services", "nft", "iptables"),
    "iptables-legacy": Mode("iptables_services", "legacy", "iptables"),
    "nftables": Mode("nftables_services", "nft", "nftables"),
    "userspace": Mode("userspace_services", "nft", ""),
}


def payload(module: str, arguments: dict[str, Any]) -> bytes:
    """The program that Ansible sends to a node."""
    command = [sys.executable, str(PAYLOAD), module]
    return subprocess.run(command, input=json.dumps(arguments).encode(), capture_output=True, check=True).stdout


class Run(NamedTuple):
    """One run of the module. Seconds; ``cpu`` and ``mebibytes`` (the largest process) include the tools that it ran."""

    wall: float
    cpu: float
    commit: float
    listing: float
    mebibytes: float


class Ours:
    """The module of one mode on a bed."""

    def __init__(self, bed: Bed, mode: str, size: Size) -> None:
        self.bed, self.mode, self.size = bed, MODES[mode], size
        self.files = {
            "base": make_snapshot(size),
            "added": make_snapshot(size, added=True),
            "changed": make_snapshot(size, changed=True),
        }
        self.snapshot = bed.directory / "snapshot.jsonl.gz"
        self.programs = self._programs()
        self.audit = bed.directory / "audit.py"
        directories = {name: str(bed.directory / name.partition("_")[0]) for name in ("state_dir", "run_dir")}
        self.audit.write_bytes(payload("kubenode.servicenet.service_rules_info", directories))

    def _programs(self) -> dict[str, Path]:
        """By the module's ``state``."""
        found = {}
        for state in ("present", "absent"):
            arguments: dict[str, Any] = {
                "state": state,
                "snapshot": str(self.snapshot),
                "node_name": OWN_NODE,
                "node_ips": [OWN_ADDRESS],
                "pod_cidrs": [POD_CIDR],
                "state_dir": str(self.bed.directory / "state"),
                "run_dir": str(self.bed.directory / "run"),
                "conntrack_max_per_core": 0,
            }
            if self.mode.module == "iptables_services":
                arguments["variant"] = self.mode.variant
            found[state] = self.bed.directory / f"{state}.py"
            found[state].write_bytes(payload(f"kubenode.servicenet.{self.mode.module}", arguments))
        return found

    def run(self, state: str = "present", snapshot: str = "", changes: bool = True) -> Run:
        """One run; an error, or another ``changed`` than expected, ends the benchmark.

        :param snapshot: which of ``files`` lies on the node from now on; "" is the one that does.
        """
        if snapshot:
            self.snapshot.write_bytes(self.files[snapshot])
        since = time.time()
        run, result = self._process(self.programs[state])
        tools = self.bed.tools(since)
        if result.get("failed") or result.get("changed") is not changes:
            raise RuntimeError(f"{self.mode.module} at {self.size}: {json.dumps(result)[:2000]}")
        return run._replace(
            commit=sum(tool.seconds for tool in tools if tool.commits),
            listing=sum(tool.seconds for tool in tools if tool.lists),
        )

    def run_empty(self) -> Run:
        """A module that does nothing: what Ansible itself takes of every other run."""
        program = self.bed.directory / "ping.py"
        if not program.exists():
            program.write_bytes(payload("ansible.builtin.ping", {}))
        return self._process(program)[0]

    def run_audit(self) -> Run:
        """service_rules_info: reads all rules in the kernel and compares them with what was applied."""
        run, result = self._process(self.audit)
        if result.get("drift_count") != 0 or result["frontends_count"] != self.size.services:
            raise RuntimeError(f"service_rules_info at {self.size}: {json.dumps(result)[:2000]}")
        return run

    def _process(self, program: Path) -> tuple[Run, dict[str, Any]]:
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
            began = time.monotonic()
            process = subprocess.Popen(
                self.bed.on_node(sys.executable, program),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=wrong,
                env=self.bed.environment,
            )
            _pid, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            wrong.seek(0)
            try:
                result = json.loads(said.read())
            except ValueError:
                raise RuntimeError(f"The module said nothing: {wrong.read().decode(errors='replace')}") from None
        return Run(wall, usage.ru_utime + usage.ru_stime, 0.0, 0.0, usage.ru_maxrss / 1024), result

    # ---- what is measured

    def measure(self, repeats: int) -> dict[str, list[Run]]:
        """Everything but latency; leaves the base snapshot programmed."""
        found: dict[str, list[Run]] = {
            name: [] for name in ("cold", "nothing", "moved", "added", "removed", "changed", "back")
        }
        number = self.size.services
        for index in range(repeats):
            if index:
                self.run(state="absent")
            found["cold"].append(self.run(snapshot="base"))
            self._expect(number - 1)
        found["empty"] = [self.run_empty() for _index in range(repeats)]
        found["audit"] = [self.run_audit() for _index in range(repeats)]
        for _index in range(repeats):
            found["nothing"].append(self.run(changes=False))
        for _index in range(repeats if self.mode.variant == "nft" else 0):
            self._move_generation()
            found["moved"].append(self.run(changes=False))
        for _index in range(repeats):
            found["added"].append(self.run(snapshot="added"))
            self._expect(number)
            found["removed"].append(self.run(snapshot="base"))
            if not self.bed.silent(vip(number)):
                raise RuntimeError(f"The Service that was removed still answers ({self.mode}).")
            found["changed"].append(self.run(snapshot="changed"))
            found["back"].append(self.run(snapshot="base"))
        found["changed"] += found.pop("back")
        return {name: runs for name, runs in found.items() if runs}

    def _expect(self, number: int) -> None:
        if not self.bed.answers(vip(number)):
            raise RuntimeError(f"Service {number} of {self.size} does not answer ({self.mode}).")

    def _move_generation(self) -> None:
        """What any other program that writes nftables rules does."""
        text = "add table ip somebody_else; delete table ip somebody_else"
        subprocess.run(self.bed.on_node("nft", text), check=True)

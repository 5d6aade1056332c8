# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the real kube-proxy: by its own log, by its tools, and by when the Service answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.bed import Bed
from benchmarks.cluster import OWN_NODE, POD_CIDR, Filled, vip
from conformance.packets.reference import KubeProxy, kube_proxy
from lab.claim import kill_and_wait

OPTIONS = {"node_name": OWN_NODE, "cluster_cidrs": [POD_CIDR], "detect_local_mode": "ClusterCIDR"}
_COMPLETE = re.compile(r'"SyncProxyRules complete".* ipFamily="IPv4".* elapsed="([^"]+)"')
_PART = re.compile(r"([\d.]+)(h|ms|m|s|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
EVENT_DELAY = 0.5
TICKS = 100


class Change(NamedTuple):
    """``wall``: seconds from the first request to the API server until the Service answers, or until the last sync has
    ended; ``syncs``: the seconds of each sync; ``commit``: those in iptables-restore or nft -f."""

    wall: float
    syncs: list[float]
    commit: float


def seconds_of(duration: str) -> float:
    """A duration as Go prints it, such as 1m2.5s."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))


class Peer(KubeProxy):
    """kube-proxy on a bed."""

    def __init__(self, bed: Bed, mode: str, filled: Filled, api_socket: Path) -> None:
        super().__init__(bed.ns("node"), bed.directory / "kube-proxy", str(api_socket))
        self.bed, self.mode, self.filled = bed, mode, filled

    @property
    def _log(self) -> Path:
        return self.directory / "kube-proxy.log"

    def cold(self, limit: float) -> Change:
        """Starts it and waits until it has programmed everything."""
        config = self.write_config(self.mode, OPTIONS)
        relay = "TCP-LISTEN:16443,bind=127.0.0.1,fork,reuseaddr"
        self.processes = [self.exec("socat", relay, f"UNIX-CONNECT:{self.api_socket}")]
        began = time.time()
        with open(self._log, "w") as log:
            path = f"PATH={self.bed.environment['PATH']}"
            self.processes.append(self.exec("env", path, kube_proxy(), "--config", config, "-v=2", output=log))
        answered = self._wait(lambda: self.bed.answers(vip(self.filled.size.services - 1), 1), began, limit)
        return Change(answered - began, self._settled(0, limit), self._commits(began))

    def add(self, limit: float) -> Change:
        """One Service more, and its slice."""
        number = self.filled.size.services
        began, known = time.time(), len(self._syncs())
        self.filled.add(number)
        answered = self._wait(lambda: self.bed.answers(vip(number), 1), began, limit)
        return Change(answered - began, self._settled(known, limit), self._commits(began))

    def remove(self, limit: float) -> Change:
        """That Service is gone again."""
        number = self.filled.size.services
        began, known = time.time(), len(self._syncs())
        self.filled.remove(number)
        gone = self._wait(lambda: self.bed.silent(vip(number), 1), began, limit)
        return Change(gone - began, self._settled(known, limit), self._commits(began))

    def change(self, changed: bool, limit: float) -> Change:
        """Another endpoint for the Service in the middle."""
        began, known = time.time(), len(self._syncs())
        self.filled.change(self.filled.size.services // 2, changed)
        ended = self._wait(lambda: len(self._syncs()) > known, began, limit)
        return Change(ended - began, self._settled(known, limit), self._commits(began))

    def usage(self) -> dict[str, float]:
        """The most memory it had, and the processor's seconds that it and its tools took so far."""
        process = Path(f"/proc/{self.processes[-1].pid}")
        status = (process / "status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
        return {
            "mebibytes": int(peak.group(1)) / 1024 if peak else 0.0,
            "cpu": sum(int(ticks) for ticks in fields[11:15]) / TICKS,
        }

    def stop(self) -> None:
        """Ends it; its rules stay until the bed goes."""
        kill_and_wait(process.pid for process in self.processes)
        for process in self.processes:
            process.wait()

    # ---- watching

    def _syncs(self) -> list[float]:
        return [seconds_of(elapsed) for elapsed in _COMPLETE.findall(self._log.read_text(errors="replace"))]

    def _commits(self, since: float) -> float:
        return sum(tool.seconds for tool in self.bed.tools(since) if tool.commits)

    def _wait(self, reached: Callable[[], bool], began: float, limit: float) -> float:
        """-> Unix time when it was."""
        while not reached():
            if self.processes[-1].poll() is not None:
                raise RuntimeError(f"kube-proxy ended: {self._log.read_text(errors='replace')[-2000:]}")
            if time.time() - began > limit:
                raise TimeoutError(f"kube-proxy in mode {self.mode} took more than {limit:.0f} s.")
            time.sleep(0.02)
        return time.time()

    def _settled(self, known: int, limit: float) -> list[float]:
        """The syncs after the first ``known`` ones, once everything that was queued is done."""
        self._wait(lambda: len(self._syncs()) > known, time.time(), limit)
        # The last event may still be on its way.
        time.sleep(EVENT_DELAY)
        self.wait_synced(limit)
        return self._syncs()[known:]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ground that a lab stands on: network namespaces under one prefix, veth pairs, and a worker in each place."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.claim import Claim, LabError, sh

WORKER = Path(__file__).resolve().parent / "worker.py"


class Worker:
    """A worker.py in one place, asked one question at a time.

    :param python: the beginning of a command line that runs Python there.
    """

    def __init__(self, python: Sequence[str], name: str, ports: Mapping[str, Iterable[int]]) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [*python, str(WORKER), name, json.dumps({kind: list(numbers) for kind, numbers in ports.items()})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # One that stays must not end with what is left of the caller's group; without a caller it ends by itself.
            start_new_session=True,
        )

    def ask(self, **message: Any) -> Any:
        """Sends one command (see worker.py) and returns its answer."""
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            raise LabError(f"the worker of {self.name} died")
        return json.loads(line)

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Ground(Claim):
    """Namespaces of one lab and what connects them."""

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix)
        self.workers: dict[str, Worker] = {}

    def ns(self, name: str) -> str:
        """The full name of one of our namespaces, for `ip netns exec`."""
        return f"{self.prefix}-{name}"

    def close(self) -> None:
        """Removes everything, at once."""
        for worker in self.workers.values():
            worker.stop()
        self.workers = {}
        super().close()

    # ---- building blocks

    def make_space(self, name: str) -> None:
        """A network namespace that holds nothing yet."""
        sh("ip", "netns", "add", self.ns(name))

    def python_at(self, name: str) -> list[str]:
        """The beginning of a command line that runs Python in one of our namespaces."""
        return ["ip", "netns", "exec", self.ns(name), sys.executable]

    def add(self, name: str, router: bool = False, accept_local: bool = False) -> None:
        """A new namespace with its loopback up.

        :param router: it forwards packets.
        :param accept_local: it takes packets from outside that carry one of its own addresses as their source.
        """
        self.make_space(name)
        self.sysctl(
            name,
            {
                "net.ipv4.conf.all.rp_filter": 0,
                "net.ipv4.conf.default.rp_filter": 0,
                "net.ipv4.conf.all.send_redirects": 0,
                "net.ipv4.conf.default.send_redirects": 0,
                "net.ipv4.conf.all.accept_redirects": 0,
                "net.ipv4.conf.default.accept_redirects": 0,
                "net.ipv6.conf.all.accept_redirects": 0,
                "net.ipv6.conf.default.accept_redirects": 0,
                "net.ipv6.conf.all.accept_dad": 0,
                "net.ipv6.conf.default.accept_dad": 0,
                "net.ipv4.ip_forward": int(router),
                "net.ipv6.conf.all.forwarding": int(router),
                # Probes open many flows to refusing ports; ICMP rate limits would turn rejects into time-outs.
                "net.ipv4.icmp_ratemask": 0,
                "net.ipv6.icmp.ratemask": 127,
                "net.ipv4.icmp_msgs_per_sec": 1000000,
                "net.ipv4.icmp_msgs_burst": 100000,
                "net.ipv4.conf.all.accept_local": int(accept_local),
            },
        )
        self.ip(name, "link set lo up")

    def wire(self, a: str, dev_a: str, b: str, dev_b: str) -> None:
        """A veth pair between two namespaces, both ends up."""
        sh("ip", "link", "add", dev_a, "netns", self.ns(a), "type", "veth", "peer", "name", dev_b, "netns", self.ns(b))
        self.ip(a, f"link set {dev_a} up")
        self.ip(b, f"link set {dev_b} up")

    def ip(self, name: str, *lines: str, family: int | None = None) -> None:
        """A batch of `ip` commands in a namespace; `family` 4 or 6 where the addresses do not say it."""
        flags = [f"-{family}"] if family else []
        done = sh("ip", *flags, "-n", self.ns(name), "-batch", "-", text="\n".join(lines) + "\n", check=False)
        if done.returncode:
            raise LabError(f"ip in {name}: {done.stderr}\n" + "\n".join(lines))

    def sysctl(self, name: str, values: Mapping[str, int]) -> None:
        """Sets kernel parameters of a namespace; one that this kernel lacks is passed over."""
        text = "".join(f"{key} = {value}\n" for key, value in values.items())
        sh("ip", "netns", "exec", self.ns(name), "sysctl", "-q", "-p", "-", text=text, check=False)

    def start_workers(self, names: Iterable[str], ports: Mapping[str, Iterable[int]]) -> None:
        """A worker in each place; returns when all of them serve their ports (see worker.py)."""
        for name in names:
            self.workers[name] = Worker(self.python_at(name), name, ports)
        for worker in self.workers.values():
            worker.ask(op="ping")

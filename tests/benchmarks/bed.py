# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where one program is measured: a node, a Pod on it that asks, and the Pods of all endpoints behind it.

    client 10.250.0.2 --- node 198.18.9.1 --- pods: answer on every address of 10.128.0.0/10

What runs on the node finds its tools behind shims that note how long each of them took.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cluster import OWN_ADDRESS, PORT, TARGET_PORT
from lab.claim import LabError
from lab.ground import Ground

PROBER = Path(__file__).resolve().parent / "prober.py"
CLIENT = "10.250.0.2"
CLIENTS_NODE = "10.250.0.1"
PARTS = ("", "-save", "-restore")

# Bash knows the time without starting another program.
SHIM = """#!/bin/bash
began=$EPOCHREALTIME
{real} "$@"
status=$?
echo "$began $EPOCHREALTIME {name} $*" >>{log}
exit $status
"""


class Tool(NamedTuple):
    """One run of nft or of one of iptables' programs; ``began`` is Unix time."""

    began: float
    seconds: float
    name: str
    arguments: str

    @property
    def commits(self) -> bool:
        """Did it write rules?"""
        if self.name == "nft":
            return "-f" in self.arguments.split() and "--check" not in self.arguments
        return self.name.endswith("-restore") and "--test" not in self.arguments

    @property
    def lists(self) -> bool:
        """Did it read rules?"""
        return self.name.endswith("-save") or (self.name == "nft" and " list " in f" {self.arguments} ")


class Bed(Ground):
    """The three namespaces.

    :param variant: of iptables, which the plain names lead to: ``legacy`` or ``nft``.
    """

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant
        self._prober: subprocess.Popen[str] | None = None

    def build(self) -> None:
        """Namespaces, wires, routes, the server, the client, the shims."""
        self.add("node", router=True)
        for name in ("client", "pods"):
            self.add(name)
            self.wire(name, "eth0", "node", name)
        self.ip(
            "node",
            f"addr add {OWN_ADDRESS}/32 dev lo",
            f"addr add {CLIENTS_NODE}/24 dev client",
            "addr add 10.251.0.1/24 dev pods",
            "route add 10.128.0.0/10 via 10.251.0.2",
        )
        self.ip("client", f"addr add {CLIENT}/24 dev eth0", f"route add default via {CLIENTS_NODE}")
        self.ip(
            "pods",
            "addr add 10.251.0.2/24 dev eth0",
            "route add default via 10.251.0.1",
            "route add local 10.128.0.0/10 dev lo",
        )
        self._write_shims()
        self.start_workers(["pods"], {"plain": [TARGET_PORT]})
        self._prober = subprocess.Popen(
            ["ip", "netns", "exec", self.ns("client"), sys.executable, str(PROBER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """Removes everything, at once."""
        if self._prober is not None:
            self._prober.kill()
            self._prober.communicate()
            self._prober = None
        super().close()

    # ---- on the node

    def on_node(self, *command: str | Path) -> list[str]:
        """A command line that runs in the node's namespace."""
        return ["ip", "netns", "exec", self.ns("node"), *map(str, command)]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of programs on the node."""
        return os.environ | {"PATH": f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}

    def _write_shims(self) -> None:
        directory = self.directory / "bin"
        directory.mkdir()
        self._shim("nft", "nft")
        for prefix in ("iptables", "ip6tables"):
            for part in PARTS:
                self._shim(f"{prefix}{part}", f"{prefix}-{self.variant}{part}")
                for variant in ("legacy", "nft"):
                    self._shim(f"{prefix}-{variant}{part}", f"{prefix}-{variant}{part}")

    def _shim(self, name: str, real: str) -> None:
        path = shutil.which(real, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if path is None:
            raise LabError(f"There is no {real}; `make bench` installs what it needs.")
        shim = self.directory / "bin" / name
        log = shlex.quote(str(self.directory / "tools.log"))
        shim.write_text(SHIM.format(real=shlex.quote(path), name=name, log=log))
        shim.chmod(0o755)

    def tools(self, since: float = 0) -> list[Tool]:
        """The runs of tools that began since then."""
        log = self.directory / "tools.log"
        found = []
        for line in log.read_text().splitlines() if log.exists() else []:
            began, ended, name, arguments = [*line.split(" ", 3), ""][:4]
            found.append(Tool(float(began), float(ended) - float(began), name, arguments))
        return [tool for tool in found if tool.began >= since]

    # ---- from the client

    def _ask(self, **message: Any) -> Any:
        if self._prober is None or self._prober.stdin is None or self._prober.stdout is None:
            raise LabError("The bed is not built.")
        print(json.dumps(message), file=self._prober.stdin, flush=True)
        answer = self._prober.stdout.readline()
        if not answer:
            raise LabError("The prober died.")
        return json.loads(answer)

    def answers(self, address: str, seconds: float = 5) -> bool:
        """Does this Service answer, at the latest after so many seconds?"""
        return bool(self._ask(op="answers", address=address, port=PORT, seconds=seconds))

    def silent(self, address: str, seconds: float = 5) -> bool:
        """Does this Service not answer any more, at the latest after so many seconds?"""
        return bool(self._ask(op="silent", address=address, port=PORT, seconds=seconds))

    def latency(self, addresses: list[str], count: int) -> list[list[float]]:
        """Seconds from the first packet to an open connection: a list of ``count`` for each Service."""
        found: list[list[float]] = self._ask(op="latency", addresses=addresses, port=PORT, count=count)
        for address, seconds in zip(addresses, found, strict=True):
            if len(seconds) < count * 0.9:
                raise LabError(f"Only {len(seconds)} of {count} connections to {address} were opened.")
        return found

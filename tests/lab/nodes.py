# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node of the lab: a network namespace with files, processes and a name of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.claim import LabError
from lab.waiting import wait_until

HERE = Path(__file__).resolve().parent
HOLDER = HERE / "holder.py"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What of the caller's environment would lead a program on the node back to the caller's own Python.
CALLERS_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def enter_command(holder: int) -> list[str]:
    """The beginning of a command line that runs in all namespaces of the node that this process holds."""
    return ["nsenter", "--target", str(holder), "--net", "--mount", "--pid", "--uts", "--"]


class Node:
    """One node.

    :param name: also its host name and the name of its Node object.
    :param netns: full name of its network namespace, which exists.
    :param directory: the lab's directory.
    :param ips: its addresses, IPv4 first; the InternalIPs of its Node object.
    :param pod_cidrs: where its Pods have their addresses, IPv4 first.
    :param zone: label topology.kubernetes.io/zone.
    """

    def __init__(
        self, name: str, netns: str, directory: Path, ips: Sequence[str], pod_cidrs: Sequence[str], zone: str
    ) -> None:
        self.name, self.netns, self.directory = name, netns, directory
        self.ips, self.pod_cidrs, self.zone = tuple(ips), tuple(pod_cidrs), zone
        self.holder = 0

    def start(self, hosts: str, seconds: float = 120) -> None:
        """Starts the holder of the node's namespaces and waits until the node's files are its own.

        :param hosts: the text of its /etc/hosts.
        """
        said = self.directory / f"{self.name}.log"
        with open(said, "wb") as log:
            process = subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{self.netns}",
                    "unshare",
                    "--mount",
                    "--pid",
                    "--uts",
                    "--fork",
                    sys.executable,
                    str(HOLDER),
                    self.name,
                    hosts,
                    str(self.directory),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        record = self.directory / f"{self.name}.pid"
        wait_until(lambda: record.exists() or process.poll() is not None, f"the node {self.name}", seconds)
        if not record.exists():
            raise LabError(f"{self.name} did not start: {said.read_text(errors='replace')}")
        self.holder = int(record.read_text())
        self._write_wrapper()

    def enter(self) -> list[str]:
        """The beginning of a command line that runs in all namespaces of the node."""
        return enter_command(self.holder)

    def host_variables(self) -> dict[str, str]:
        """What Ansible has to know of a node of this kind besides its connection."""
        return {}

    def run(
        self,
        command: Sequence[str | Path],
        text: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the node, to its end. A failure is a LabError, unless `check` is false."""
        argv = [*self.enter(), *map(str, command)]
        done = subprocess.run(
            argv, input=text, text=True, capture_output=True, check=False, env=self.environment() | dict(env or {})
        )
        if check and done.returncode:
            raise LabError(
                f"{shlex.join(map(str, command))} on {self.name} ended with {done.returncode}: "
                f"{done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    def start_process(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Starts a command on the node that goes on by itself; it ends with the node at the latest."""
        return subprocess.Popen(
            [*self.enter(), *map(str, command)],
            env=self.environment(),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def environment() -> dict[str, str]:
        """The caller's environment without its Python."""
        kept = {name: value for name, value in os.environ.items() if name not in CALLERS_PYTHON}
        return kept | {"PATH": SYSTEM_PATH}

    def path(self, path: str) -> Path:
        """A file of the node, as this process can open it."""
        return Path(f"/proc/{self.holder}/root") / path.lstrip("/")

    @property
    def python(self) -> Path:
        """A program for `ansible_python_interpreter`: the system's Python, in the node."""
        return self.directory / f"{self.name}-python"

    def compiled(self) -> Path | None:
        """Where the node sees a directory for compiled code (see compiled/sitecustomize.py); None where all is compiled
        anew each time, which is what a benchmark wants."""
        place = os.environ.get("SERVICENET_COMPILED")
        return Path(place) if place else None

    def _write_wrapper(self) -> None:
        """Ansible copies its modules to the machine's files, which the node sees, and runs them with this program. A
        module that starts it again is already there."""
        keep, place = "", self.compiled()
        if place:
            place.mkdir(parents=True, exist_ok=True)
            words = (f"PYTHONPATH={HERE / 'compiled'}", f"SERVICENET_COMPILED={place}")
            keep = f"export {shlex.join(words)}\n"
        self.python.write_text(
            "#!/bin/sh\n"
            f"# Runs Python in the namespaces of {self.name}.\n"
            f"unset {' '.join(CALLERS_PYTHON)}\n"
            f"export PATH={SYSTEM_PATH}\n"
            f"{keep}"
            f'if [ "$SERVICENET_LAB_NODE" = {self.netns} ]; then exec /usr/bin/python3 "$@"; fi\n'
            f"export SERVICENET_LAB_NODE={self.netns}\n"
            f'exec {shlex.join(self.enter())} /usr/bin/python3 "$@"\n'
        )
        self.python.chmod(0o755)

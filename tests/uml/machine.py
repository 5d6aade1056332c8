# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a command on another kernel: User Mode Linux (Debian's user-mode-linux) on the file system of this machine.

A kernel without ip_vs or dummy devices, and without modules to load, says nothing about the mode ipvs. UML has both,
and nftables by the modules that tests/provision/uml builds. It is slow, so nothing is timed there; packets, listings
and counts are those of a real kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

KERNEL = "linux.uml"
PROVISION = Path(__file__).resolve().parents[1] / "provision" / "uml"
INIT = Path(__file__).resolve().parent / "init.sh"
MEMORY = "1G"


class Ended(NamedTuple):
    """A command that ran inside. ``status`` is None if it did not end in time, or the kernel died; ``output`` is what
    the command said, ``console`` what the kernel said."""

    status: int | None
    output: str
    console: str


def obstacle() -> str:
    """Why User Mode Linux cannot run here, or an empty text."""
    if os.geteuid() != 0:
        return "User Mode Linux needs root to mount this machine's files"
    if shutil.which(KERNEL) is None or not _modules():
        return "there is no linux.uml with modules of nftables: `tests/provision/uml` builds them, or says why not"
    return ""


def _modules() -> str:
    """Where modprobe finds the modules of the kernel, "" if they were not built."""
    made = subprocess.run([PROVISION, "--made"], capture_output=True, text=True, check=False)
    return made.stdout.strip()


def has_ip_vs() -> bool:
    """Does the kernel that runs here have ip_vs, so that UML is not needed?"""
    if not Path("/proc/net/ip_vs").exists():
        subprocess.run(["modprobe", "-q", "ip_vs"], check=False, capture_output=True)
    return Path("/proc/net/ip_vs").exists()


def is_inside() -> bool:
    """Is the kernel that runs here User Mode Linux itself?"""
    return "User Mode Linux" in Path("/proc/cpuinfo").read_text()


def run_inside(command: list[str], directory: Path, seconds: float = 600) -> Ended:
    """Boots, runs the command in ``directory`` as root, and powers off; nothing of it stays but what the command wrote.

    /run and the temporary directory are the command's own and empty.
    """
    with tempfile.TemporaryDirectory(prefix="servicenet-uml-") as made:
        exchange = Path(made)
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"]),
            "HOME": os.environ.get("HOME", "/root"),
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": "/run/tmp",
            **{name: value for name, value in os.environ.items() if name.startswith("SERVICENET_")},
        }
        job = {"command": command, "directory": str(directory), "environment": environment}
        (exchange / "job.json").write_text(json.dumps(job))
        console = exchange / "console"
        with console.open("wb") as log:
            machine = subprocess.Popen(
                [
                    # The kernel and what runs in it take turns at every system call, and to wake each other on another
                    # processor takes twice as long.
                    *("taskset", "--cpu-list", str(random.choice([*os.sched_getaffinity(0)]))),
                    KERNEL,
                    *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"mem={MEMORY}"),
                    *(f"uml_dir={exchange}/", "umid=machine", f"init={INIT}"),
                    *("con0=fd:0,fd:1", "con=null", f"UML_EXCHANGE={exchange}", f"UML_PYTHON={sys.executable}"),
                    f"UML_MODULES={_modules()}",
                ],
                cwd=exchange,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    machine.wait(seconds)
            finally:
                if machine.poll() is None:
                    os.killpg(machine.pid, signal.SIGKILL)
                    machine.wait()
        status, output = exchange / "status", exchange / "output"
        return Ended(
            int(status.read_text()) if status.exists() else None,
            output.read_text(errors="replace") if output.exists() else "",
            console.read_text(errors="replace"),
        )

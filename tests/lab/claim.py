# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this machine holds of labs: a directory each, whose it is, and how everything of it is removed.

Everything a lab makes can be found again from its prefix alone: namespaces `PREFIX-NAME` and the processes in them, a
directory, the processes recorded there. So a lab whose owner was killed is removed by whoever builds the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BASE = Path(tempfile.gettempdir()) / "servicenet-labs"
NETNS_DIR = Path("/run/netns")
CGROUP_DIR = Path("/sys/fs/cgroup")
PROCESSES = "processes"
# In this directory of a lab, its machine sees the control group that it has for itself.
CGROUPS = "cgroups"
# A lab made of containers has this file in its directory: {"engine": where Docker listens, "names": its containers}.
CONTAINERS = "containers.json"

_numbers = itertools.count()


class LabError(Exception):
    """The lab could not be built or used; the message says what failed."""


def sh(*args: str | Path, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns it with its output; a failure is a LabError unless `check` is false."""
    done = subprocess.run([str(a) for a in args], input=text, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise LabError(f"{' '.join(map(str, args))} ended with {done.returncode}: {done.stderr.strip()}")
    return done


def started(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks: with the pid that names it for good. None: no process.

    Any other failure to read it is an error: a lab must not be removed because files ran out here.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def kill_and_wait(pids: Iterable[int], seconds: float = 60.0) -> None:
    """SIGKILL to each, and back only when they are gone (or zombies of somebody else's)."""
    pids = list(pids)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while any(started(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def clean_exit() -> None:
    """Lets SIGTERM and Ctrl-C end this process by way of its clean-up, also in the background of a shell."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def namespaces(prefix: str) -> list[str]:
    """Full names of the namespaces of one lab."""
    found = NETNS_DIR.iterdir() if NETNS_DIR.is_dir() else []
    return sorted(entry.name for entry in found if entry.name.startswith(f"{prefix}-"))


def recorded_processes(prefix: str) -> list[int]:
    """The processes outside the namespaces that a lab started and that still run."""
    try:
        lines = (BASE / prefix / PROCESSES).read_text().split("\n")
    except OSError:
        return []
    return [int(line.split()[0]) for line in lines if line and started(int(line.split()[0])) == line.split()[1]]


def remove_cgroup(prefix: str, seconds: float = 60.0) -> None:
    """Removes the control group of a lab, if it has one, when the last of its processes is gone."""
    place = BASE / prefix / CGROUPS
    if not place.is_dir():
        return
    script = 'mount -t cgroup2 cgroup2 "$0" && if [ -d "$0/$1" ]; then find "$0/$1" -depth -type d -exec rmdir {} +; fi'
    deadline = time.monotonic() + seconds
    while sh("unshare", "--mount", "sh", "-c", script, place, prefix, check=False).returncode:
        if time.monotonic() > deadline:
            raise LabError(f"The control group of {prefix} cannot be removed.")
        time.sleep(0.05)


def docker_command(prefix: str) -> list[str]:
    """The beginning of a command line for the engine that a lab has its containers in; nothing if it has none."""
    try:
        engine = json.loads((BASE / prefix / CONTAINERS).read_text())["engine"]
    except OSError:
        return []
    return ["docker", "--host", engine] if engine else ["docker"]


def remove_containers(prefix: str) -> None:
    """Removes the containers of a lab, if it has some; with an engine that is gone, they are gone, too."""
    docker = docker_command(prefix)
    if docker:
        names = json.loads((BASE / prefix / CONTAINERS).read_text())["names"]
        sh(*docker, "rm", "--force", "--volumes", *names, check=False)


def remove_engine_cgroups(prefix: str, seconds: float = 60.0) -> None:
    """Removes the control groups that an engine of a lab's own made for its containers (see engine.py)."""
    deadline = time.monotonic() + seconds
    while groups := [*CGROUP_DIR.glob(prefix), *CGROUP_DIR.glob(f"*/{prefix}")]:
        if not sh("find", *groups, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+", check=False).returncode:
            return
        if time.monotonic() > deadline:
            raise LabError(f"The control groups {', '.join(map(str, groups))} cannot be removed.")
        time.sleep(0.05)


def remove(prefix: str) -> None:
    """Ends all processes of a lab and takes its namespaces and its directory away; nothing there is fine, too."""
    remove_containers(prefix)
    kill_and_wait(recorded_processes(prefix))
    for _round in range(3):
        spaces = namespaces(prefix)
        # A process may start another one while we look, so look again until there is nothing left.
        for space in spaces:
            pids = [int(pid) for pid in sh("ip", "netns", "pids", space, check=False).stdout.split()]
            kill_and_wait(pid for pid in pids if pid != os.getpid())
        for space in spaces:
            sh("ip", "netns", "del", space, check=False)
        if not namespaces(prefix):
            break
    remove_cgroup(prefix)
    remove_engine_cgroups(prefix)
    shutil.rmtree(BASE / prefix, ignore_errors=True)


def labs() -> dict[str, dict[str, Any]]:
    """All labs of this machine: prefix -> {"pid", "started", "kept"} of the owner."""
    found = {}
    for record in sorted(BASE.glob("*/owner.json")):
        owner = owner_of(record.parent.name)
        if owner:
            found[record.parent.name] = owner
    return found


def owner_of(prefix: str) -> dict[str, Any]:
    """The owner of one lab; nothing if there is no such lab."""
    try:
        return dict(json.loads((BASE / prefix / "owner.json").read_text()))
    except (OSError, ValueError):
        return {}


def is_stale(prefix: str, owner: dict[str, Any]) -> bool:
    """Is the owner gone, and did nobody ask to keep the lab?"""
    if owner["kept"] or started(owner["pid"]) == owner["started"]:
        return False
    # It may have asked for that since its record was read, just before it ended; only now nothing changes any more.
    return owner_of(prefix) == owner


def remove_stale() -> list[str]:
    """Removes the labs whose owner is gone and that nobody asked to keep; returns their prefixes."""
    stale = [prefix for prefix, owner in labs().items() if is_stale(prefix, owner)]
    for prefix in stale:
        remove(prefix)
    return stale


def free_prefix() -> str:
    """One that no lab has: a lab that was kept may have been built by a process whose id this one has now."""
    while (BASE / (prefix := f"sn{os.getpid()}x{next(_numbers)}")).exists():
        pass
    return prefix


class Claim:
    """Something that stands under a prefix of its own, so that several can stand side by side.

    Use it as a context manager: `build` (of a subclass) runs on entry, everything is removed at the end, also by
    `atexit`, and after `kill -9` by the start of the next one.
    """

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = prefix or free_prefix()
        self.directory = BASE / self.prefix

    def __enter__(self):  # type: ignore[no-untyped-def]  # the type is the subclass
        self.open()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def open(self) -> None:
        """Registers and builds; a failure on the way leaves nothing behind."""
        remove_stale()
        self.register(kept=False)
        atexit.register(self.close)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            # Else this process would end without any clean-up. As Ctrl-C, because that ends a run of pytest as a whole.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self) -> None:
        """What there is to build; subclasses say it."""
        raise NotImplementedError

    def register(self, kept: bool) -> None:
        """Writes down whose this is. `kept`: it outlives its owner, until somebody removes it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        record = self.directory / "owner.json"
        owner = {"pid": os.getpid(), "started": started(os.getpid()), "kept": kept}
        record.with_suffix(".new").write_text(json.dumps(owner))
        record.with_suffix(".new").rename(record)

    def spawn(self, name: str, *args: str | Path) -> subprocess.Popen[bytes]:
        """Starts a process that `remove` finds again; what it says goes to `NAME.log`."""
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(a) for a in args],
                cwd=self.directory,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        with open(self.directory / PROCESSES, "a") as record:
            record.write(f"{process.pid} {started(process.pid)}\n")
        return process

    def keep(self) -> None:
        """Leaves it standing when this process ends; `remove(prefix)` takes it away."""
        atexit.unregister(self.close)
        self.register(kept=True)

    def close(self) -> None:
        """Removes everything, at once."""
        atexit.unregister(self.close)
        remove(self.prefix)

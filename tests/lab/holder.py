# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first process of a lab's node: it makes the node's own view of the files, then sleeps and reaps.

Started by nodes.py as `python3 holder.py NAME HOSTS DIRECTORY` in new network, mount, PID and UTS namespaces. The node
sees the machine's files, but what it writes to /etc, /usr, /var and /opt goes to a file system of its own in memory,
and so do /run and /etc/resolv.conf. As the first process of its PID namespace it takes every process of the node along
when it is killed; the kernel drops the mounts with it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

OVERLAYS = ("etc", "usr", "var", "opt")


def mount(*arguments: str) -> None:
    """One mount, or the end."""
    subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    """Builds the view, says which process holds it, and stays."""
    name, hosts, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    seen_from_outside = os.readlink("/proc/self")  # before /proc shows only this node's processes
    private = directory / f"{name}.files"
    private.mkdir()
    mount("-t", "tmpfs", "-o", "size=2g", "servicenet-lab", str(private))
    for part in OVERLAYS:
        upper, work = private / part, private / f".{part}"
        upper.mkdir()
        work.mkdir()
        mount("-t", "overlay", "-o", f"lowerdir=/{part},upperdir={upper},workdir={work}", "servicenet-lab", f"/{part}")
    mount("-t", "tmpfs", "servicenet-lab", "/run")
    Path("/run/lock").mkdir()
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "sysfs", "sysfs", "/sys")
    socket.sethostname(name)
    Path("/etc/hostname").write_text(f"{name}\n")
    Path("/etc/hosts").write_text(hosts)
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)  # it may be a link to a file below the machine's /run
    resolver.write_text(
        "# The resolver of a lab's node: refuses at once, until something listens here.\nnameserver 127.0.0.1\n"
    )
    # Ignored, the kernel reaps what is orphaned; the node's daemons end up as children of this process.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    record = directory / f"{name}.new"
    record.write_text(seen_from_outside)
    record.rename(directory / f"{name}.pid")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

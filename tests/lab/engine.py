# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Docker engine of our own, for tests on machines where Docker is installed but does not run.

It lives in namespaces of its own with all that it starts: it makes no rule and no device on this machine, keeps what it
stores in memory, and is gone with its first process, containers and mounts included.
"""

from __future__ import annotations

import shutil

from lab.claim import Claim, LabError, sh
from lab.waiting import wait_until

# It would write to /etc/docker and /run/docker as well.
SCRIPT = """
set -e
mount -t tmpfs -o mode=711 servicenet-lab "$1"
mkdir "$1/data" "$1/exec" "$1/etc" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" servicenet-lab /etc
mount -t tmpfs servicenet-lab /run
ip link set lo up
echo '{}' >"$1/none.json"
exec dockerd --config-file="$1/none.json" --data-root="$1/data" --exec-root="$1/exec" --pidfile="$1/pid" --host="$2" \\
  --cgroup-parent="/$3" --bridge=none --iptables=false --ip6tables=false --ip-forward=false
"""
SPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


class Engine(Claim):
    """Runs until it is closed; what cannot run here is a LabError that says why."""

    @property
    def host(self) -> str:
        """For the variable DOCKER_HOST."""
        return f"unix://{self.directory}/docker.sock"

    def build(self, seconds: float = 300) -> None:
        """Starts it, and waits until it answers."""
        if shutil.which("dockerd") is None:
            raise LabError("There is no program dockerd.")
        store = self.directory / "store"
        store.mkdir()
        process = self.spawn("dockerd", "unshare", *SPACES, "sh", "-c", SCRIPT, "sh", store, self.host, self.prefix)

        def answers() -> bool:
            return not sh("docker", "--host", self.host, "info", check=False).returncode

        wait_until(lambda: process.poll() is not None or answers(), "an answer of dockerd", seconds)
        if process.poll() is not None:
            said = (self.directory / "dockerd.log").read_text(errors="replace").strip().split("\n")
            raise LabError(f"dockerd does not run here: {said[-1]}")

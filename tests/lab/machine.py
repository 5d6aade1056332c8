# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine that boots: a small Debian with systemd as its first process, two Pods on it, and the world outside.

    outside   198.18.0.1                     where its default route leads
       |
      eth0                                   the machine's own network configuration gives it 198.18.0.11
    node-a
    |     |
    pod-1 pod-2                              10.128.1.11 and 10.128.1.12; the lab does what a CNI plugin does

The files are tests/provision/debian's, below what the machine writes: that is kept in memory until the machine is taken
away, so it boots again with all that it wrote. Its network namespace is new at each boot: no rule stays.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from collection_tree import cache_directory

from lab.claim import CGROUPS, LabError, kill_and_wait, remove_cgroup, sh, started
from lab.ground import Ground
from lab.nodes import Node
from lab.playbooks import PlaybookRun, inventory, run_playbook
from lab.waiting import wait_until

BOOT = Path(__file__).resolve().parent / "boot.sh"
DEBIAN = Path(__file__).resolve().parents[1] / "provision" / "debian"
NAME = "node-a"
ADDRESS, GATEWAY = "198.18.0.11", "198.18.0.1"
POD_CIDR, SERVICE_CIDR = "10.128.1.0/24", "10.96.0.0/16"
PODS = {"pod-1": "10.128.1.11", "pod-2": "10.128.1.12"}
PORTS = {"plain": [9000]}
SECONDS = 120


def obstacle() -> str:
    """Why no machine can be booted here, or an empty text."""
    if shutil.which("unshare") is None:
        return "it needs unshare from util-linux"
    if "\tcgroup2" not in Path("/proc/filesystems").read_text():
        return "the kernel has no control groups version 2"
    made = subprocess.run([DEBIAN, "--made"], capture_output=True, text=True, check=False)
    return (
        ""
        if made.returncode == 0
        else "there is no Debian to boot: `tests/provision/debian` makes one, or says why not"
    )


def debian_root() -> Path:
    """The root file system that tests/provision/debian made."""
    made = subprocess.run([DEBIAN, "--made"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise LabError(f"There is no Debian to boot in {cache_directory()}; tests/provision/debian makes one.")
    return Path(made.stdout.strip())


class BootedNode(Node):
    """What runs on the machine; `holder` is its first process."""

    def enter(self) -> list[str]:
        """The beginning of a command line that runs in all namespaces of the machine."""
        kinds = ("net", "mount", "pid", "uts", "ipc", "cgroup")
        return ["nsenter", "--target", str(self.holder), *(f"--{kind}" for kind in kinds), "--"]

    def compiled(self) -> None:
        """It sees no directory of this machine."""

    def booted(self, holder: int) -> None:
        """From now on this is its first process."""
        self.holder = holder
        self._write_wrapper()


class Machine(Ground):
    """Boots on entry; `power_off` and `boot` do it again.

    :param device: the name of one device more, which is there at each boot and leads nowhere: it stands for a dummy
        device where this machine's kernel has none.
    :param shared: directories that it can read at the same place.
    """

    def __init__(self, prefix: str | None = None, device: str = "", shared: Sequence[Path] = ()) -> None:
        super().__init__(prefix)
        self._device, self._shared = device, shared
        self.node = BootedNode(NAME, self.ns(NAME), self.directory, (ADDRESS,), (POD_CIDR,), "zone-1")
        self._root = debian_root()
        self._disk = 0
        self._exchange = self.directory / "exchange"

    def build(self) -> None:
        """Pods, the world outside, the disk; then the first boot."""
        self._exchange.mkdir()
        for place in ("outside", "nowhere", *PODS):
            self.add(place, router=place == "outside")
        self._start_disk()
        self.boot()
        self.start_workers(["outside", *PODS], PORTS)

    def _start_disk(self) -> None:
        """A process in whose view of the files the machine's disk and its control group are."""
        script = (
            f"mkdir disk {CGROUPS} && mount -t tmpfs -o size=2g servicenet-lab disk && mkdir -p disk/upper/etc"
            f" && echo {NAME} >disk/upper/etc/hostname && echo '127.0.0.1 localhost {NAME}' >disk/upper/etc/hosts"
            f" && mount -t cgroup2 cgroup2 {CGROUPS} && touch ready && exec sleep infinity"
        )
        process = self.spawn("disk", "unshare", "--mount", "sh", "-c", script)
        wait_until(lambda: (self.directory / "ready").exists() or process.poll() is not None, "a disk")
        if process.poll() is not None:
            raise LabError(f"The machine got no disk: {(self.directory / 'disk.log').read_text()}")
        self._disk = process.pid

    def _plug_in(self) -> None:
        """A network for the machine, and a cable to everybody; only the Pods' ends of it have addresses."""
        self.add(NAME, router=True)
        self.wire("outside", "eth0", NAME, "eth0")
        self.ip(NAME, "link set eth0 down")
        routes = [f"route add {cidr} via {ADDRESS}" for cidr in (POD_CIDR, SERVICE_CIDR)]
        self.ip("outside", f"addr add {GATEWAY}/24 dev eth0", *routes)
        if self._device:
            self.wire("nowhere", "eth0", NAME, self._device)
        for number, (pod, address) in enumerate(PODS.items(), 1):
            device, gateway = f"pod{number}", POD_CIDR.replace("0/24", "1")
            self.wire(pod, "eth0", NAME, device)
            self.ip(NAME, f"addr add {gateway}/32 dev {device}", f"route add {address} dev {device}")
            self.ip(
                pod,
                f"addr add {address}/32 dev eth0",
                f"route add {gateway} dev eth0",
                f"route add default via {gateway} dev eth0 onlink",
            )

    # ---- power

    def boot(self) -> None:
        """Plugs the cables in, and starts systemd; back when it has started all that is enabled."""
        self._plug_in()
        group = f"{self.directory}/{CGROUPS}/{self.prefix}"
        become = f'mkdir -p {group} && echo $$ >{group}/cgroup.procs && exec "$@"'
        process = self.spawn(
            NAME,
            *("nsenter", f"--net=/run/netns/{self.ns(NAME)}", f"--mount=/proc/{self._disk}/ns/mnt"),
            *("sh", "-c", become, "sh"),
            *("unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"),
            *("sh", str(BOOT), str(self._root), f"{self.directory}/disk", str(self._exchange)),
            *map(str, self._shared),
        )

        def is_systemd() -> bool:
            if process.poll() is not None:
                raise LabError(f"The machine did not boot: {(self.directory / f'{NAME}.log').read_text()}")
            with contextlib.suppress(OSError):  # what the shell starts on the way ends at any moment
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                return bool(children) and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n"
            return False

        wait_until(is_systemd, "systemd")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self.node.booted(int(children[0]))
        wait_until(self._has_started, "systemd to start everything")

    def _has_started(self) -> bool:
        waiting = ["timeout", str(SECONDS), "systemctl", "is-system-running", "--wait"]
        return self.node.run(waiting, check=False).stdout.strip() in ("running", "degraded")

    def power_off(self) -> None:
        """Without a warning: the first process is killed, and everything in the machine's namespaces with it."""
        kill_and_wait([self.node.holder])
        wait_until(lambda: started(self.node.holder) is None, "the end of systemd")
        remove_cgroup(self.prefix)
        for place in ("outside", *PODS, *(["nowhere"] if self._device else [])):
            sh("ip", "-n", self.ns(place), "link", "del", "eth0", check=False)  # gone, if the machine removed its end
        sh("ip", "netns", "del", self.ns(NAME))

    def reboot(self) -> None:
        """Power off and on."""
        self.power_off()
        self.boot()

    # ---- using

    def playbook(self, name: str, variables: Mapping[str, Any], *options: str, check: bool = True) -> PlaybookRun:
        """Runs one of the collection's playbooks, or a file, on the machine.

        :param check: a run that failed is a LabError.
        """
        path = self.directory / "inventory.yml"
        path.write_text(inventory([self.node], {"ansible_remote_tmp": str(self._exchange)} | dict(variables)))
        run = run_playbook(name, path, {}, options)
        if check and run.rc:
            raise LabError(f"The playbook {name} ended with {run.rc}:\n{run.output}")
        return run

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file of the machine."""
        file = self.node.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def answers(self, place: str, address: str, port: int, count: int = 8) -> set[str]:
        """Who answers new TCP connections from "outside" or a Pod; failures by their name (see worker.py)."""
        probe = {"proto": "TCP", "address": address, "port": port, "count": count, "timeout": 0.6}
        (got,) = self.workers[place].ask(op="probe", probes=[probe])
        return {
            outcome.split("|")[0].rpartition(":")[0] or outcome for outcomes in got.values() for outcome in outcomes
        }

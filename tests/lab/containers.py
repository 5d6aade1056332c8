# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same lab in containers: the nodes, the Pods and the client are containers of Docker.

Each is started without a network, and the lab lays its wires into the container's network namespace, as a CNI plugin
does. So addresses and ways are those of cluster.py, and nothing of the engine's own networks or rules is touched. A
node may administrate its network and mount, which is less than `--privileged`; a Pod may nothing special. All of them
are of one image, a small Debian (tests/provision/image), not of this machine's files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.claim import CONTAINERS, LabError, docker_command, sh
from lab.cluster import Lab
from lab.nodes import Node

HERE = Path(__file__).resolve().parent
IMAGE = HERE.parent / "provision" / "image"
NAME = "servicenet-node"
# The first process: it reaps what is orphaned, like the one of a node made of namespaces.
SLEEP = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"
NODE_MAY = [f"--cap-add={capability}" for capability in ("NET_ADMIN", "NET_RAW", "SYS_ADMIN")]
# Without these an AppArmor or SELinux of this machine would forbid what the capabilities allow.
UNCONFINED = ["--security-opt=apparmor=unconfined", "--security-opt=label=disable"]
# The kernel parameters of its own network are a node's to set; its resolver file is to be one that can be replaced.
PREPARE = """
mount --bind /proc/sys/net /proc/sys/net && mount -o remount,bind,rw /proc/sys/net && umount /etc/resolv.conf &&
echo nameserver 127.0.0.1 >/etc/resolv.conf && cat >/etc/hosts
"""


def obstacle() -> str:
    """Why no container can be had here, or an empty text."""
    if shutil.which("docker") is None:
        return "there is no program docker"
    asked = sh("docker", "info", "--format", "{{.Name}}", check=False)
    if asked.returncode or not asked.stdout.strip():
        return f"no engine answers `docker info`: {asked.stderr.strip() or 'it says nothing'}"
    if asked.stdout.strip() != os.uname().nodename:
        return f"the engine that answers runs on another machine, {asked.stdout.strip()}"
    return ""


def image() -> str:
    """The image's name in the engine, which gets it if it has it not yet; it has been tried."""
    made = subprocess.run([IMAGE], stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise LabError("there is no image for them: tests/provision/image says why")
    archive = Path(made.stdout.strip())
    name = f"{NAME}:{archive.stem}"
    if sh("docker", "image", "inspect", name, check=False).returncode:
        sh("docker", "import", archive, name)
    options = ["--rm", "--network=none", *UNCONFINED, *NODE_MAY]
    tried = sh("docker", "run", *options, name, "sh", "-c", PREPARE, check=False)
    if tried.returncode:
        raise LabError(f"the engine that answers can start no node: {tried.stderr.strip()}")
    return name


def best_lab() -> tuple[Lab, str]:
    """A lab in containers where there are any, else one in namespaces, and a sentence that says which and why.

    The variable SERVICENET_LAB takes the choice: `containers` or `namespaces`.
    """
    wanted = os.environ.get("SERVICENET_LAB", "")
    if wanted not in ("", "containers", "namespaces"):
        raise LabError(f"SERVICENET_LAB is {wanted}; it can be containers or namespaces.")
    if wanted == "namespaces":
        return Lab(), "The nodes are made of namespaces, because SERVICENET_LAB says so."
    reason = obstacle()
    if not reason:
        try:
            name = image()
        except LabError as error:
            reason = str(error)
        else:
            version = sh("docker", "version", "--format", "{{.Server.Version}}").stdout.strip()
            said = f"The nodes, the Pods and the client are containers of Docker {version}, of the image {name}."
            return ContainerLab(name), said
    if wanted:
        raise LabError(f"SERVICENET_LAB asks for containers, but {reason}.")
    return Lab(), f"The nodes are made of namespaces, because {reason}."


def first_process(docker: list[str], container: str) -> int:
    """The first process of a container by its number here: that of the engine may be another."""
    number = sh(*docker, "inspect", "--format", "{{.Id}}", container).stdout.strip()
    for group in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            ours = number in group.read_text()
            status = group.with_name("status").read_text() if ours else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in status.split("\n")):
            return int(group.parent.name)
    raise LabError(f"The container {container} has ended: {sh(*docker, 'logs', container, check=False).stderr}")


def capabilities(process: int) -> str:
    """What a process may have, as setpriv wants it."""
    status = Path(f"/proc/{process}/status").read_text()
    held = next(int(line.split()[1], 16) for line in status.split("\n") if line.startswith("CapBnd:"))
    return ",".join(["-all", *(f"+cap_{number}" for number in range(64) if held >> number & 1)])


class ContainerNode(Node):
    """A node that is a container; `netns` is the container's name as well."""

    _may = "-all"

    @property
    def exchange(self) -> Path:
        """A directory that the node and this machine see at the same place."""
        return self.directory / f"{self.name}.exchange"

    def start(self, hosts: str, seconds: float = 120) -> None:
        """Makes the running container a node, within so many seconds."""
        docker = docker_command(self.directory.name)
        prepare = ("timeout", str(seconds), "sh", "-c", PREPARE)
        sh(*docker, "exec", "--interactive", self.netns, *prepare, text=hosts)
        self.holder = first_process(docker, self.netns)
        self._may = capabilities(self.holder)
        self._write_wrapper()

    def enter(self) -> list[str]:
        """The beginning of a command line that runs in all namespaces of the container, with no more than its
        capabilities. `docker exec` would do the same, but takes 0.1 s, and Ansible comes some three hundred times."""
        kinds = ("net", "mount", "pid", "uts", "ipc", "cgroup")
        enter = ["nsenter", "--target", str(self.holder), *(f"--{kind}" for kind in kinds), "--"]
        return [*enter, "setpriv", "--inh-caps=-all", f"--bounding-set={self._may}", "--"]

    def compiled(self) -> Path | None:
        """Where both can write."""
        return self.exchange / "compiled" if super().compiled() else None

    def host_variables(self) -> dict[str, str]:
        """Ansible hands over its modules in a directory that both see."""
        return {"ansible_remote_tmp": str(self.exchange)}


class ContainerLab(Lab):
    """The lab, each place but the wire between them a container.

    :param image_name: of the engine that `docker` talks to.
    """

    node_type = ContainerNode

    def __init__(self, image_name: str, nodes: int = 2, pods: int = 3, prefix: str | None = None) -> None:
        super().__init__(nodes, pods, prefix)
        self.image_name = image_name

    def build(self) -> None:
        """Starts all containers side by side, then does as every lab does."""
        places = ["client", *self.nodes, *self.pods]
        record = {"engine": os.environ.get("DOCKER_HOST", ""), "names": [self.ns(place) for place in places]}
        (self.directory / CONTAINERS).write_text(json.dumps(record))
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._run, places))
        super().build()

    def _run(self, place: str) -> None:
        options = [*UNCONFINED, "--network=none", f"--hostname={place}", f"--volume={HERE}:{HERE}:ro"]
        node = self.nodes.get(place)
        if isinstance(node, ContainerNode):
            node.exchange.mkdir()
            node.python.touch()
            options += [*NODE_MAY, f"--volume={node.exchange}:{node.exchange}"]
            # Ansible runs its modules with this program, also from within.
            options += [f"--volume={node.python}:{node.python}:ro"]
        command = ["python3", "-c", SLEEP]
        self.docker("run", "--detach", "--name", self.ns(place), *options, self.image_name, *command)

    def docker(self, *arguments: str, text: str | None = None) -> str:
        """What docker answers; a failure is a LabError."""
        return sh(*docker_command(self.prefix), *arguments, text=text).stdout

    def make_space(self, name: str) -> None:
        """That of the container, under the name that the lab knows it by."""
        if name == "fabric":
            super().make_space(name)
        else:
            process = first_process(docker_command(self.prefix), self.ns(name))
            sh("ip", "netns", "attach", self.ns(name), str(process))
            # An engine gives a container IPv6 only in a network of the engine that has it.
            self.sysctl(name, {f"net.ipv6.conf.{each}.disable_ipv6": 0 for each in ("all", "default", "lo")})

    def python_at(self, name: str) -> list[str]:
        """The beginning of a command line that runs Python in a container."""
        return [*docker_command(self.prefix), "exec", "--interactive", self.ns(name), "python3"]

    def set_resolver_of_pods(self, text: str) -> None:
        """Writes the file into every Pod."""
        for pod in self.pods:
            self.docker("exec", "--interactive", self.ns(pod), "sh", "-c", "cat >/etc/resolv.conf", text=text)

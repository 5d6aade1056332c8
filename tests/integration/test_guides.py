# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guide's commands are executed: its inventory, with the lab's nodes for hosts, and every line that begins with $.

The lab's manifests take the place of the guide's cluster. Lines below a command are what it has to print.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab
from lab.cluster import MANIFESTS
from lab.control_plane import has_peers, peer
from lab.playbooks import QUICK

ADDRESS = "10.96.0.10"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A manifest takes the place of what only a cluster has.
INSTEAD = {"cluster_snapshot_source": "manifests", "cluster_snapshot_manifests": ["{{ inventory_dir }}/manifests"]}


def blocks(guide: Path, language: str) -> list[str]:
    """The texts of a guide's blocks in this language."""
    return [text for kind, text in _BLOCK.findall(guide.read_text()) if kind == language]


def commands(guide: Path) -> list[tuple[str, list[str]]]:
    """Each command with the lines that it is said to print; "..." stands for any others."""
    found: list[tuple[str, list[str]]] = []
    for text in blocks(guide, "console"):
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() not in ("", "..."):
                found[-1][1].append(line.strip())
    return found


def write_files(guide: Path, lab: Lab, place: Path, hosts: dict[str, str], variables: dict[str, Any]) -> None:
    """Writes each file of the guide, named by its first line, and the manifests of the lab.

    :param hosts: the lab's node for each host of the guide that is none of its nodes.
    :param variables: what the lab's nodes need besides.
    """
    shutil.copytree(MANIFESTS, place / "manifests")
    for text in blocks(guide, "yaml"):
        name = text.partition("\n")[0].removeprefix("# ")
        (place / name).write_text(text)
    inventory = yaml.safe_load((place / "inventory.yml").read_text())
    reached = json.loads(lab.inventory().read_text())["all"]["children"]["servicenet_nodes"]["hosts"]
    group = inventory["servicenet_nodes"]
    for host in group["hosts"]:
        node = reached[hosts.get(host, host)]
        # Its name in the cluster and its addresses are the guide's business.
        group["hosts"][host] = {key: value for key, value in node.items() if key.startswith("ansible_")}
    if group["vars"].pop("cluster_snapshot_kubeconfig", None):
        group["vars"] |= INSTEAD
    group["vars"] |= variables
    (place / "inventory.yml").write_text(json.dumps(inventory))


def follow(
    guide: Path,
    lab: Lab,
    place: Path,
    client: str = "pod-a3",
    hosts: dict[str, str] | None = None,
    variables: dict[str, Any] | None = None,
) -> None:
    """Does what a guide says in ``place``; after `site` the Services answer, after `cleanup` they do not.

    :param client: who asks.
    """
    write_files(guide, lab, place, hosts or {}, variables or {})
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= QUICK | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
    programmed = False
    assert commands(guide)
    for command, printed in commands(guide):
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        said = [line.strip() for line in done.stdout.splitlines()]
        missing = [line for line in printed if line not in said]
        assert not missing, f"{command}\ndid not print\n{missing}\nbut\n{done.stdout}"
        if "--check" not in command:
            programmed = (programmed or "servicenet.site" in command or "servicenet.resync" in command) and not (
                "cleanup" in command or "iptables -t nat -I" in command
            )
        status, _body = lab.http(client, f"http://{ADDRESS}/")
        assert status == (200 if programmed else 0), command


@pytest.fixture
def guide(checkout: Path) -> Callable[[str], Path]:
    """The file of a guide."""
    return lambda name: checkout / "docs" / "guides" / f"{name}.md"


def test_the_readme_has_no_playbook_command_that_no_guide_has(checkout: Path) -> None:
    """So these are executed as well."""
    lines = [line for text in blocks(checkout / "README.md", "console") for line in text.splitlines()]
    own = {line.partition("  #")[0].strip() for line in lines if line.startswith("ansible-playbook ")}
    assert own
    assert own <= {command for path in (checkout / "docs" / "guides").glob("*.md") for command, _said in commands(path)}


def test_air_gapped(guide: Callable[[str], Path], lab: Lab, tmp_path: Path) -> None:
    follow(guide("air-gapped"), lab, tmp_path)


# What a kube-proxy in mode iptables leaves, cut to what shows that it is there and is in the way.
LEFT = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-TCOU7JCQXEZGVUNU
COMMIT
"""


def test_replace_kube_proxy(guide: Callable[[str], Path], lab: Lab, tmp_path: Path) -> None:
    for node in lab.nodes.values():
        node.run(["iptables-restore", "--noflush"], text=LEFT)
    follow(guide("replace-kube-proxy"), lab, tmp_path)
    for node in lab.nodes.values():
        assert "KUBE-SERVICES" not in node.run(["iptables-save"]).stdout


def test_machine_outside_the_cluster(guide: Callable[[str], Path], lab: Lab, tmp_path: Path) -> None:
    follow(guide("machine-outside-the-cluster"), lab, tmp_path, client="node-b", hosts={"edge-1": "node-b"})


@pytest.mark.skipif(not has_peers("coredns"), reason="CoreDNS has not been built (`make peers`)")
def test_node_local_dns(guide: Callable[[str], Path], lab: Lab, tmp_path: Path) -> None:
    """The lab's nodes have neither systemd nor anybody to ask for other names."""
    variables = {"cluster_dns_supervisor": "process", "cluster_dns_forward": False}
    variables["cluster_dns_install_path"] = str(peer("COREDNS", "coredns"))
    follow(guide("node-local-dns"), lab, tmp_path, variables=variables)


def test_migrating_from_ipvs(guide: Callable[[str], Path], lab: Lab, tmp_path: Path) -> None:
    """The device is of another type than kube-proxy's, which not every kernel has; what matters is its name."""
    node = lab.node("node-a")
    node.run(["ip", "link", "add", "kube-ipvs0", "type", "bridge"])
    node.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "kube-ipvs0"])
    try:
        follow(guide("migrating-from-ipvs"), lab, tmp_path)
    finally:
        node.run(["ip", "link", "delete", "kube-ipvs0"], check=False)


def test_troubleshooting(guide: Callable[[str], Path], lab: Lab, tmp_path: Path) -> None:
    follow(guide("troubleshooting"), lab, tmp_path)

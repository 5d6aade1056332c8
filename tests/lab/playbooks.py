# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible on a lab: its inventory, and runs of the collection's playbooks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from collection_tree import collections_path

from lab.claim import LabError
from lab.nodes import Node

COLLECTION = "kubenode.servicenet"
# What saves time in an environment of Ansible and alters nothing else.
QUICK = {"ANSIBLE_CONFIG": str(Path(__file__).resolve().parent / "ansible.cfg"), "ANSIBLE_PIPELINING": "1"}
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class PlaybookRun(NamedTuple):
    """`changed` and `failed` are numbers of tasks by host, from the recap."""

    rc: int
    output: str
    changed: dict[str, int]
    failed: dict[str, int]


def inventory(nodes: Iterable[Node], variables: Mapping[str, Any]) -> str:
    """The text of an inventory: each node with a Python that enters it (JSON, which is YAML, too)."""
    hosts = {
        node.name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(node.python),
            "service_proxy_node_name": node.name,
            "service_proxy_node_ips": list(node.ips),
            **node.host_variables(),
        }
        for node in nodes
    }
    return json.dumps({"all": {"children": {"servicenet_nodes": {"hosts": hosts, "vars": dict(variables)}}}}, indent=2)


def ansible_playbook() -> str:
    """The program, from the environment of this Python or from the PATH."""
    beside = Path(sys.executable).parent / "ansible-playbook"
    found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if not found:
        raise LabError("There is no ansible-playbook, neither beside this Python nor on the PATH.")
    return found


def run_playbook(
    name: str,
    inventory_file: Path,
    extra_vars: Mapping[str, Any],
    options: Sequence[str],
    output: int | None = subprocess.PIPE,
) -> PlaybookRun:
    """Runs a playbook of the collection by its short name, or a file by its path.

    :param output: None lets it write to this process's own output; `PlaybookRun.output` is empty then.
    """
    playbook = name if "/" in name or "." in name else f"{COLLECTION}.{name}"
    environment = os.environ | {
        **QUICK,
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_FORKS": "2",
    }
    done = subprocess.run(
        [
            ansible_playbook(),
            playbook,
            f"--inventory={inventory_file}",
            "--extra-vars",
            json.dumps(dict(extra_vars)),
            *options,
        ],
        cwd=inventory_file.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = done.stdout or ""
    recap = _RECAP.findall(said)
    return PlaybookRun(
        done.returncode,
        said,
        {host: int(changed) for host, _ok, changed, _unreachable, _failed in recap},
        {host: int(unreachable) + int(failed) for host, _ok, _changed, unreachable, failed in recap},
    )

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guide's commands are executed: its inventory, with the lab's nodes for hosts, and every line that begins with $."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from lab import Lab
from lab.cluster import MANIFESTS

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(guide: Path, language: str) -> list[str]:
    """The texts of a guide's blocks in this language."""
    return [text for kind, text in _BLOCK.findall(guide.read_text()) if kind == language]


def follow(guide: Path, lab: Lab, place: Path) -> None:
    """Does what a guide says in ``place``; after `site` the Services answer, after `cleanup` they do not.

    The guide's variables are taken as they are; only how Ansible reaches the hosts is the lab's.
    """
    (written,) = blocks(guide, "yaml")
    inventory = yaml.safe_load(written)
    reached = json.loads(lab.inventory().read_text())["all"]["children"]["servicenet_nodes"]["hosts"]
    assert set(inventory["servicenet_nodes"]["hosts"]) <= set(reached)
    inventory["servicenet_nodes"]["hosts"] = reached
    (place / "inventory.yml").write_text(json.dumps(inventory))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    commands = [line[2:] for text in blocks(guide, "console") for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    programmed = False
    for command in commands:
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
        programmed = (
            (programmed or "servicenet.site" in command) and "cleanup" not in command and "--check" not in command
        )
        status, _body = lab.http("pod-a3", "http://10.96.0.10/")
        assert status == (200 if programmed else 0), command


def test_air_gapped(checkout: Path, lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    follow(checkout / "docs" / "guides" / "air-gapped.md", lab, tmp_path)

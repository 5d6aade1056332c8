# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people install is what works: the built archive, alone in an empty collections path."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from built_collection import Installed, build
from lab.cluster import MANIFESTS, Lab

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


@pytest.fixture(scope="module")
def archive(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from the files that git knows: what lies about in a checkout must not matter."""
    return build(checkout, tmp_path_factory.mktemp("archive"))


def test_the_archive_holds_what_is_needed_and_no_more(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        tops = {name.split("/")[0] for name in opened.getnames()}
    assert {"plugins", "roles", "playbooks", "meta", "README.md", "LICENSES", "docs"} <= tops
    assert not tops & {"tests", "Makefile", ".ci", "molecule", "pyproject.toml", ".gitignore"}


def test_the_installed_collection_programs_nodes(archive: Path, tmp_path: Path) -> None:
    """`site` twice, `verify` and `cleanup` by their full names, with nothing else of the repository there."""
    installed = Installed(archive, tmp_path, Path(sys.executable).parent)
    variables = [
        "--extra-vars=cluster_snapshot_source=manifests",
        f'--extra-vars={{"cluster_snapshot_manifests": ["{MANIFESTS}"], "service_proxy_pod_cidrs": ["10.128.0.0/9"]}}',
        f"--extra-vars=cluster_snapshot_path={tmp_path}/snapshot.jsonl.gz",
    ]
    with Lab() as lab:
        inventory = lab.inventory()
        assert 0 not in installed.play("site", inventory, *variables).values()
        assert installed.play("site", inventory, *variables) == {"node-a": 0, "node-b": 0}
        installed.play("verify", inventory, *variables)
        installed.play("cleanup", inventory, *variables)
        for node in lab.nodes.values():
            assert "SERVICENET" not in node.run(["iptables-save"]).stdout


def test_a_checkout_runs_its_own_playbooks(checkout: Path) -> None:
    """By their paths, wherever the checkout is and whatever is installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    for playbook in sorted((checkout / "playbooks").glob("*.yml")):
        done = subprocess.run(
            [PLAYBOOK, "--syntax-check", "--inventory=localhost,", playbook],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

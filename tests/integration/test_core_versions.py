# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people install is what works: the built archive, alone in an empty collections path, programs nodes with every
ansible-core that counts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from built_collection import Installed, environment
from lab import Lab
from matrix.table import Line

# Requirements below tests/requirements, and the version that is meant; `tools` is what all other tests run with.
CORES = {"core-2.18": "2.18", "tools": "2.19", "core-2.21": "2.21"}
ADDRESS = "http://10.96.0.10/"


@pytest.mark.parametrize("name", CORES)
def test_site(name: str, checkout: Path, archive: Path, lab: Lab, tmp_path: Path, line: Line) -> None:
    """Check mode changes nothing, `site` programs the node and again finds nothing to do, `verify` finds everything
    served, `cleanup` takes all away."""
    what = "site from the archive: check, run, again, verify, cleanup"
    line(f"ansible-core {CORES[name]}", what)
    venv = environment(checkout, name)
    if venv is None:
        pytest.skip(f"tests/provision/venv {name} found no Python for it, or could not install it")
    told = subprocess.run([venv / "bin" / "ansible", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"core (\S+)\]", told)
    assert found
    assert found[1].startswith(f"{CORES[name]}.")
    line(f"ansible-core {found[1]}", what)
    installed = Installed(archive, tmp_path, venv / "bin")
    inventory, node_a = lab.inventory(cluster_snapshot_path=str(tmp_path / "snapshot.jsonl.gz")), ["--limit=node-a"]

    def answers() -> bool:
        """Whether the Service answers a Pod of the node."""
        return lab.http("pod-a3", ADDRESS)[0] == 200

    try:
        installed.play("site", inventory, *node_a, "--check", "--diff")
        assert not answers()
        assert installed.play("site", inventory, *node_a)["node-a"] > 0
        assert answers()
        assert installed.play("site", inventory, *node_a) == {"node-a": 0}
        installed.play("verify", inventory, *node_a)
        assert answers()
    finally:
        installed.play("cleanup", inventory, *node_a)
    assert not answers()
    assert "SERVICENET" not in lab.node("node-a").run(["iptables-save"]).stdout

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles do where Ansible runs they do as the user who runs it, although `ansible_become` holds for all hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab.cluster import MANIFESTS

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
# A role, the part of it that works on the controller, its options, and a file that it leaves in the home directory.
CASES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "the timer of push": (
        "service_resync",
        "push",
        {"service_resync_push_supervisor": "systemd", "service_resync_inventory": "/etc/hosts"},
        ".config/systemd/user/servicenet-resync.timer",
    ),
    "the scratch file": ("cluster_snapshot", "cleanup", {}, ""),
    "the snapshot": (
        "cluster_snapshot",
        "read",
        {"cluster_snapshot_source": "manifests", "cluster_snapshot_manifests": [str(MANIFESTS)]},
        ".cache/servicenet/snapshot.jsonl.gz",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_nobody_becomes_root_there(case: str, tmp_path: Path) -> None:
    """Who became somebody would fail: there is no such program."""
    role, part, options, left = CASES[case]
    scratch = tmp_path / "scratch"
    scratch.write_text("")
    inventory = {
        "vars": {"ansible_become": True, "ansible_become_exe": "/nonexistent/sudo"},
        "hosts": {"node-a": {"ansible_connection": "local"}},
    }
    (tmp_path / "inventory.yml").write_text(json.dumps({"all": inventory}))
    task = {
        "ansible.builtin.include_role": {"name": f"kubenode.servicenet.{role}", "tasks_from": part},
        "vars": {**options, "__cluster_snapshot_result": {"path": str(scratch), "scratch": True}},
    }
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "node-a", "gather_facts": False, "tasks": [task]}]))
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [PLAYBOOK, f"--inventory={tmp_path / 'inventory.yml'}", tmp_path / "play.yml"],
        env=environment | {"HOME": str(tmp_path), "ANSIBLE_BECOME_ALLOW_SAME_USER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if left:
        assert (tmp_path / left).exists()
    else:
        assert not scratch.exists()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timer of the controller that runs `resync`: systemd understands its units, and they start what they should."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


def write_units(home: Path, state: str, *options: str) -> str:
    """Runs that part of the role as a user without a session -> what Ansible said."""
    inventory = home / "100% mine.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}))
    role = {"name": "kubenode.servicenet.service_resync", "tasks_from": "push"}
    variables = {
        "service_resync_method": "push",
        "service_resync_push_supervisor": "systemd",
        "service_resync_state": state,
        "service_resync_interval": 90,
        "service_resync_inventory": str(inventory),
    }
    task = {"ansible.builtin.include_role": role, "vars": variables}
    (home / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [PLAYBOOK, f"--inventory={inventory}", home / "play.yml", *options],
        env={**environment, "HOME": str(home), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_systemd_understands_the_timer_of_push(tmp_path: Path) -> None:
    units = tmp_path / ".config/systemd/user"
    write_units(tmp_path, "present", "--check")
    assert not units.exists()
    write_units(tmp_path, "present")
    assert "changed=0" in write_units(tmp_path, "present")
    service, timer = (units / f"servicenet-resync.{kind}" for kind in ("service", "timer"))
    assert "OnUnitActiveSec=90\n" in timer.read_text()
    (start,) = [line for line in service.read_text().splitlines() if line.startswith("ExecStart=")]
    words = [word.replace("%%", "%") for word in shlex.split(start.partition("=")[2])]
    command = [sys.executable, "-m", "ansible", "playbook"]
    assert words[-7:] == [*command, "--inventory", str(tmp_path / "100% mine.yml"), "kubenode.servicenet.resync"]
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    judged = subprocess.run(
        [analyze, "verify", "--user", "--man=no", timer, service],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stderr
    assert "servicenet" not in judged.stderr, judged.stderr
    write_units(tmp_path, "absent")
    assert list(units.iterdir()) == []

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
NODES = "nodes:&zone-1"
UNITS = ".config/systemd/user"


def words_of(service: Path) -> list[str]:
    """What the unit of the timer starts."""
    (start,) = [line for line in service.read_text().splitlines() if line.startswith("ExecStart=")]
    return [word.replace("%%", "%") for word in shlex.split(start.partition("=")[2])]


def write_units(home: Path, state: str, *options: str, name: str = "servicenet-resync") -> str:
    """Runs that part of the role as a user without a session, for the nodes of zone-1 -> what Ansible said."""
    inventory = home / "100% mine.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}))
    role = {"name": "kubenode.servicenet.service_resync", "tasks_from": "push"}
    variables = {
        "service_resync_method": "push",
        "service_resync_push_supervisor": "systemd",
        "service_resync_push_name": name,
        "service_resync_state": state,
        "service_resync_interval": 90,
        "service_resync_inventory": str(inventory),
        "servicenet_hosts": NODES,
    }
    task = {"ansible.builtin.include_role": role, "vars": variables}
    (home / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    environment = {variable: os.environ[variable] for variable in os.environ if variable != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [PLAYBOOK, f"--inventory={inventory}", home / "play.yml", *options],
        env={**environment, "HOME": str(home), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the units of a user are, after that part of the role."""
    made = tmp_path_factory.mktemp("home")
    write_units(made, "present", "--check")
    assert not (made / UNITS).exists()
    write_units(made, "present")
    assert "changed=0" in write_units(made, "present")
    return made


def test_systemd_understands_the_timer_of_push(home: Path, tmp_path: Path) -> None:
    service, timer = (home / UNITS / f"servicenet-resync.{kind}" for kind in ("service", "timer"))
    assert "OnUnitActiveSec=90\n" in timer.read_text()
    nodes = ["--extra-vars", json.dumps({"servicenet_hosts": NODES})]
    command = [sys.executable, "-m", "ansible", "playbook", *nodes, "--inventory", str(home / "100% mine.yml")]
    assert words_of(service)[-9:] == [*command, "kubenode.servicenet.resync"]
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    tmp_path.chmod(0o700)
    judged = subprocess.run(
        [analyze, "verify", "--user", "--man=no", timer, service],
        env={**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stderr
    assert "servicenet" not in judged.stderr, judged.stderr


def test_a_group_that_is_not_there_fails_and_an_empty_one_does_not(home: Path) -> None:
    words = words_of(home / UNITS / "servicenet-resync.service")
    inventory = home / "100% mine.yml"
    missing, empty = "Could not match supplied host pattern, ignoring: nodes", "no hosts matched"
    for groups, status, says in (({"others": {}}, 1, missing), ({"nodes": {}, "zone-1": {}}, 0, empty)):
        inventory.write_text(json.dumps({"all": {"children": groups}}))
        done = subprocess.run(words[words.index("/usr/bin/env", 1) :], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        assert says in done.stdout + done.stderr


def test_each_cluster_has_a_timer(home: Path) -> None:
    units = home / UNITS
    write_units(home, "present", name="other")
    locks = {word for path in units.glob("*.service") for word in words_of(path) if word.endswith(".lock")}
    assert len(locks) == 2
    write_units(home, "absent")
    assert {path.name for path in units.iterdir()} == {"other.service", "other.timer"}


def test_taking_some_nodes_away_leaves_the_timer_of_the_others(home: Path) -> None:
    units = home / UNITS
    write_units(home, "present", name="rest")
    assert "changed=0" in write_units(home, "absent", "--limit=localhost", name="rest")
    assert (units / "rest.timer").exists()
    write_units(home, "absent", name="rest")
    assert not (units / "rest.timer").exists()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cluster_snapshot works in Ansible's own process where it may, and is a module elsewhere: with the same results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks.cluster import Size, make_snapshot
from lab.playbooks import run_playbook

# Where it is a module: a Python, an environment or a process that is not Ansible's own.
AS_A_MODULE: dict[str, dict[str, Any]] = {
    "python": {"vars": {"ansible_python_interpreter": "/usr/bin/python3"}},
    "environment": {"environment": {"K8S_AUTH_CONTEXT": "other"}},
    "background": {"async": 60, "poll": 1},
}


def task(name: str, directory: Path, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    options = {"source": "file", "path": str(directory / "old"), "dest": str(directory / name), **arguments}
    return {"name": name, "kubenode.servicenet.cluster_snapshot": options, "register": f"of_{name}", **more}


def run(directory: Path, tasks: list[dict[str, Any]], *options: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Runs the tasks on the controller -> (their results by name, what Ansible said)."""
    names = [one["name"] for one in tasks]
    kept = "{{ {" + ", ".join(f"'{name}': of_{name}" for name in names) + "} | to_json }}"
    write = {"content": kept, "dest": str(directory / "results"), "mode": "0600"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [*tasks, {"ansible.builtin.copy": write, "check_mode": False}],
    }
    (directory / "play.yml").write_text(json.dumps([play]))
    host = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": {"localhost": host}}}))
    done = run_playbook(str(directory / "play.yml"), directory / "inventory.json", {}, ["-vvv", *options])
    assert done.rc == 0, done.output
    return dict(json.loads((directory / "results").read_text())), done.output


@pytest.mark.parametrize("options", [(), ("--check", "--diff")], ids=["run", "check"])
def test_the_same_result_in_the_own_process_and_as_a_module(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "old").write_bytes(make_snapshot(Size(3, 1)))
    ways = {"own": {}, **AS_A_MODULE}
    if options:
        del ways["background"]  # Ansible has no check mode in the background
    found, said = run(tmp_path, [task(name, tmp_path, {}, **more) for name, more in ways.items()], *options)
    assert len(re.findall(r"Using module file .*/cluster_snapshot\.py", said)) == len(ways) - 1
    asked = ("changed", "scratch", "digest", "counts", "services", "refused", "source", "too_old", "diff")
    told = {name: {part: result.get(part) for part in asked} for name, result in found.items()}
    assert told["own"]["changed"] is True
    assert ("+ space-1/service-00001" in str(told["own"]["diff"])) == bool(options)
    for name in ways:
        assert told[name] == told["own"], name
        assert (tmp_path / name).exists() == (not options)
        assert Path(found[name]["path"]).read_bytes() == (tmp_path / "old").read_bytes()
        if options:
            Path(found[name]["path"]).unlink()


def test_what_is_wrong_is_a_failed_task(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"nonsense")
    wrong = {"damaged": {}, "unknown": {"there_is_no_such_option": 1}, "unread": {"page_size": "many"}}
    tasks = [task(name, tmp_path, arguments, ignore_errors=True) for name, arguments in wrong.items()]
    found, _said = run(tmp_path, tasks)
    assert all(result["failed"] for result in found.values())
    assert str(tmp_path / "old") in found["damaged"]["msg"]
    assert "there_is_no_such_option" in found["unknown"]["msg"]
    assert "page_size" in found["unread"]["msg"]
    assert not any((tmp_path / name).exists() for name in wrong)

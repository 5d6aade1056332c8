# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources of an archive are compiled once: in the program that Ansible sends, and in the agent's one file."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

UTILS = "ansible_collections.kubenode.servicenet.plugins.module_utils"
ON_THE_CONTROLLER = {"cluster_snapshot", "endpoint_slices", "service_audit_report"}

# Notes what is compiled, and from which file, before the program begins.
NOTES = """
import os, sys

def note(event, arguments):
    if event == "compile" and "module_utils" in str(arguments[1]):
        os.write(notes, f"{arguments[1]}\\n".encode())

notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(note)
"""


def compiled(program: Path, tmp_path: Path, *arguments: str) -> tuple[Counter[str], str]:
    """-> (how often each source of the collection was compiled, what the program said)."""
    (tmp_path / "sitecustomize.py").write_text(NOTES)
    notes = tmp_path / "notes"
    ran = subprocess.run(
        [sys.executable, program, *arguments],
        env={**os.environ, "NOTES": str(notes), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    folder = "servicenet/plugins/module_utils/"
    ours = [line.partition(folder)[2] for line in notes.read_text().splitlines() if folder in line]
    # These are there before anything can be done about it.
    return Counter(name for name in ours if name not in ("__init__.py", "_archive.py")), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("module", "answer"),
    [
        ("nftables_services", "There is no snapshot"),
        ("iptables_services", "There is no snapshot"),
        ("service_probe", "There is no snapshot"),
        ("service_rules_info", '"frontends_count": 0'),
    ],
)
def test_what_ansible_sends_is_compiled_once(module: str, answer: str, checkout: Path, tmp_path: Path) -> None:
    arguments = {"state_dir": str(tmp_path), "run_dir": str(tmp_path), "snapshot": str(tmp_path / "none.jsonl.gz")}
    if module == "service_probe":
        arguments = {"snapshot": arguments["snapshot"]}
    program = tmp_path / "program.py"
    program.write_bytes(
        subprocess.run(
            [sys.executable, checkout / "tests/benchmarks/payload.py", f"kubenode.servicenet.{module}"],
            input=json.dumps(arguments).encode(),
            capture_output=True,
            check=True,
        ).stdout
    )

    times, said = compiled(program, tmp_path)

    assert answer in said
    assert len(times) > 5
    assert set(times.values()) == {1}, times


@pytest.fixture
def agent(checkout: Path, tmp_path: Path) -> Path:
    """The agent's one file."""
    made, files = tmp_path / "servicenet-agent.pyz", checkout / "roles/service_resync/files"
    subprocess.run([sys.executable, files / "build_agent.py", checkout / "plugins/module_utils", made], check=True)
    return made


def test_the_agent_is_compiled_once(agent: Path, tmp_path: Path) -> None:
    times, said = compiled(agent, tmp_path, "pull", "--config", str(tmp_path / "none"))

    assert str(tmp_path / "none") in said
    assert len(times) > 20
    assert set(times.values()) == {1}, times


def test_a_traceback_names_the_file_in_the_archive(agent: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(agent)!r})\n"
        f"from {UTILS}._archive import compile_once\n"
        "compile_once()\n"
        f"from {UTILS}._core import snapshot\n"
        "snapshot.name_of(None)\n"
    )

    _times, said = compiled(program, tmp_path)

    assert f'{agent}/{UTILS.replace(".", "/")}/_core/snapshot.py", line ' in said


def test_without_an_archive_nothing_changes() -> None:
    from ansible_collections.kubenode.servicenet.plugins.module_utils import _archive  # noqa: PLC0415

    before = list(sys.meta_path)

    _archive.compile_once()

    assert sys.meta_path == before


def test_every_module_of_a_node_begins_with_it(checkout: Path) -> None:
    modules = {path.stem: path for path in (checkout / "plugins/modules").glob("*.py")}
    on_nodes = sorted(modules.keys() - ON_THE_CONTROLLER)
    for name in on_nodes:
        tree = ast.parse(modules[name].read_text())
        ahead = {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert {one for one in ahead if one.startswith(UTILS)} == {f"{UTILS}._archive"}, name
    assert len(on_nodes) > 5

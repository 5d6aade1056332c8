# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test's units, integration and judgement of modules, with every ansible-core that counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_test import ansible_test
from built_collection import environment
from matrix.table import Line

# Requirements below tests/requirements, the version that is meant, and the Python that they are installed on.
CORES = {"core-2.18": "2.18", "tools": "2.19", "core-2.21": "2.21"}
# Code that imports ansible-core or is called by it; the core of the collection imports neither it nor any library.
UNITS = ("tests/unit/cluster/", "tests/unit/agent/", "tests/unit/test_runner.py", "tests/unit/test_roles.py")
COMMANDS: dict[str, tuple[str, ...]] = {
    "units": ("units", "--local", *UNITS),
    "integration": ("integration", "--local", "--allow-root", "--allow-destructive", "services"),
    "sanity: validate-modules, ansible-doc": (
        *("sanity", "--local", "--color", "no", "--test", "validate-modules", "--test", "ansible-doc"),
    ),
}


# With the tools' own version all of sanity runs, in test_sanity.py.
TRIED = [(name, what) for name in CORES for what in COMMANDS if not (name == "tools" and what.startswith("sanity"))]


@pytest.mark.parametrize(("name", "what"), TRIED)
def test_ansible_test(name: str, what: str, checkout: Path, cache: Path, line: Line) -> None:
    line(f"ansible-core {CORES[name]}", f"ansible-test {what}")
    if what == "integration" and os.geteuid() != 0:
        pytest.skip("it makes a network namespace, which only root may do")
    venv = environment(checkout, name)
    if venv is None:
        pytest.skip(f"tests/provision/venv {name} found no Python for it, or could not install it")
    (python,) = (path.name for path in (venv / "lib").glob("python3.*"))
    command, *options = COMMANDS[what]
    version = python.removeprefix("python")
    ansible_test(checkout, cache, command, "--python", version, *options, programs=venv / "bin")

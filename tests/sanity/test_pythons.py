# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes to a node compiles, imports and computes the same on every Python that a node may have.

Debian's own Pythons come from root file systems, all others are those that the machine has.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible.release
import pytest
from lab.cluster import manifest_objects
from matrix import interpreters, node_code
from matrix.table import Line
from tools import tracked

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

SUITES = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13"}
VERSIONS = [f"3.{minor}" for minor in range(8, 15)]
# ansible-core 2.19, whose module_utils are imported here, manages no newer ones.
OLDEST, NEWEST = 8, 13
WHAT = "node code: compile, import, same programs"
IN_A_ROOT = 'mount --bind "$1" "$2/mnt" && exec chroot "$2" /usr/bin/python3 -IB /mnt/node_code.py /mnt /mnt/snapshot'


@pytest.fixture(scope="module")
def tree(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the collection's plugins, ansible-core's half for nodes, a snapshot and the program to run."""
    place = tmp_path_factory.mktemp("tree")
    for name in tracked(checkout, "plugins/*.py"):
        copy = place / "ansible_collections" / "kubenode" / "servicenet" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, copy)
    core = Path(ansible.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(core / "module_utils", place / "ansible" / "module_utils", ignore=ignore)
    # As on a node, the package itself is empty; controller code is not there.
    (place / "ansible" / "__init__.py").touch()
    shutil.copy2(core / "release.py", place / "ansible")
    shutil.copy2(node_code.__file__, place / "node_code.py")
    (place / "snapshot").write_bytes(snapshot.dump(build_snapshot(manifest_objects())))
    place.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def here(tree: Path) -> dict[str, Any]:
    """What this Python makes of it."""
    return told([sys.executable, "-IB", tree / "node_code.py", tree, tree / "snapshot"])


def told(command: list[str | Path]) -> dict[str, Any]:
    """What the program printed; a failure is the test's, with all that Python said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def agree(version: str, found: dict[str, Any], here: dict[str, Any], checkout: Path) -> None:
    """It was the version that is meant, it left no file out, and the programs are this Python's."""
    assert found["python"].startswith(f"{version}.")
    assert found["compiled"] == len(tracked(checkout, "plugins/*.py"))
    assert found["imported"] > 100
    assert found["programs"] == here["programs"]


@pytest.mark.parametrize("suite", SUITES)
def test_debian(suite: str, tree: Path, here: dict[str, Any], checkout: Path, line: Line) -> None:
    version = SUITES[suite]
    line(f"Python {version}, Debian {suite}", WHAT)
    if os.geteuid() != 0:
        pytest.skip("only root can enter a root file system")
    unpacked = subprocess.run(
        [checkout / "tests" / "provision" / "debian-python", suite], capture_output=True, text=True, check=False
    )
    if unpacked.returncode != 0:
        pytest.skip(unpacked.stderr.strip().splitlines()[-1])
    root = unpacked.stdout.strip()
    found = told(["unshare", "--mount", "sh", "-c", IN_A_ROOT, "sh", tree, root])
    line(f"Python {found['python']}, Debian {suite}", WHAT)
    agree(version, found, here, checkout)


@pytest.mark.parametrize("version", VERSIONS)
def test_machine(version: str, tree: Path, here: dict[str, Any], checkout: Path, line: Line) -> None:
    line(f"Python {version}, this machine", WHAT)
    if not OLDEST <= int(version.partition(".")[2]) <= NEWEST:
        pytest.skip(f"ansible-core {ansible.release.__version__} manages nodes with Python 3.{OLDEST} to 3.{NEWEST}")
    program = interpreters.interpreter(version)
    if program is None:
        pytest.skip("this machine has no such Python")
    found = told([program, "-IB", tree / "node_code.py", tree, tree / "snapshot"])
    line(f"Python {found['python']}, this machine", WHAT)
    agree(version, found, here, checkout)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive that is published, built of what git knows, and environments beside the one that the tests run in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools import tracked


def build(checkout: Path, place: Path) -> Path:
    """The collection's archive: what lies about in a checkout does not matter.

    :param place: an empty directory.
    """
    source = place / "source"
    for name in tracked(checkout):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, source / name)
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run([galaxy, "collection", "build", source, "--output-path", place], check=True, capture_output=True)
    (built,) = place.glob("kubenode-servicenet-*.tar.gz")
    return built


class Installed:
    """An archive, installed with nothing else of the project there.

    :param place: a directory to install it below, and to run playbooks in.
    :param programs: where `ansible-galaxy` and `ansible-playbook` are.
    """

    def __init__(self, archive: Path, place: Path, programs: Path) -> None:
        self.place, self.programs = place, programs
        collections = place / "collections"
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        # ansible-galaxy installs nothing that it finds in any of its paths.
        self.environment = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": path,
        }
        install = ["collection", "install", "--offline", "-p", str(collections), str(archive)]
        subprocess.run([programs / "ansible-galaxy", *install], env=self.environment, check=True, capture_output=True)

    def play(self, name: str, inventory: Path, *options: str) -> dict[str, int]:
        """Runs a playbook by its full name; how many tasks changed something, by host."""
        done = subprocess.run(
            [self.programs / "ansible-playbook", f"--inventory={inventory}", *options, f"kubenode.servicenet.{name}"],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"the playbook {name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        changed = re.findall(r"^(node-\S+) .* changed=(\d+)", done.stdout, re.MULTILINE)
        return {host: int(times) for host, times in changed}


def environment(checkout: Path, name: str) -> Path | None:
    """The Python environment of tests/requirements/NAME.txt; None where this machine has no Python for it."""
    done = subprocess.run(
        [checkout / "tests" / "provision" / "venv", name], stdout=subprocess.PIPE, text=True, check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the archive holds, and that a checkout works without it; test_core_versions.py installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


def test_the_archive_holds_what_is_needed_and_no_more(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        tops = {name.split("/")[0] for name in opened.getnames()}
    assert {"plugins", "roles", "playbooks", "meta", "README.md", "LICENSES", "docs"} <= tops
    assert not tops & {"tests", "Makefile", ".ci", "molecule", "pyproject.toml", ".gitignore"}


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

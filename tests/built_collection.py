# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive that is published, built of what git knows, and environments beside the one that the tests run in."""

from __future__ import annotations

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


def environment(checkout: Path, name: str) -> Path | None:
    """The Python environment of tests/requirements/NAME.txt; None where this machine has no Python for it."""
    done = subprocess.run(
        [checkout / "tests" / "provision" / "venv", name], stdout=subprocess.PIPE, text=True, check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None

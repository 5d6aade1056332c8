# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Pythons that are on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def programs(version: str) -> list[Path]:
    """Where a Python of this version ("3.9") may be; its own program first: a version manager's shim may refuse."""
    managed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [*sorted(managed.glob(f"{version}.*/bin/python{version}"))]
    found += [Path(p) for p in [shutil.which(f"python{version}")] if p]
    if version == f"3.{sys.version_info.minor}":
        found.insert(0, Path(sys.executable).resolve())
    return found


def interpreter(version: str, module: str = "json") -> Path | None:
    """The first of them that runs and has this module of the standard library; None where there is none."""
    for program in programs(version):
        if subprocess.run([program, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0:
            return program
    return None

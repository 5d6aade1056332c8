# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs development tools as tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def tracked(checkout: Path, *patterns: str) -> list[str]:
    """The files of the project that match one of git's patterns, new ones included, what .gitignore names not."""
    listing = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *patterns,
        ],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted({name for name in listing.split("\0") if name and (checkout / name).is_file()})


def verdict(command: tuple[str, ...], directory: Path, **variables: str) -> None:
    """Run a tool of this environment, or of the machine, and fail with all that it said."""
    # Tools start one another, so the environment's programs have to come first however this Python was started.
    path = os.pathsep.join([str(Path(sys.executable).parent), variables.pop("PATH", os.environ["PATH"])])
    ended = subprocess.run(
        ["env", *command],
        cwd=directory,
        env={**os.environ, "NO_COLOR": "1", "PATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        pytest.fail(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}", pytrace=False)

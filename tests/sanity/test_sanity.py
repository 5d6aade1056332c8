# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-core's own judgement of the collection, without any entry that asks it to look away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import tracked, verdict

# ansible-test fetches a bootstrap script for pip from a place that not every machine reaches. A script of this name,
# which is the one for ansible-core 2.19, is taken from the cache instead; every Python's own pip serves as well.
GET_PIP = "get_pip_24_2.py"
BOOTSTRAP = """\
import subprocess
import sys

arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip"])
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments]))
"""
# What ansible-core 2.19 manages nodes with; those that are here compile and import everything that goes to a node.
NODE_PYTHONS = tuple(f"3.{minor}" for minor in range(8, 14))


def copied(checkout: Path, place: Path) -> Path:
    """A fresh copy of the project where ansible-test wants it: really, not by a link, below ``ansible_collections``."""
    copy = place / "ansible_collections" / "kubenode" / "servicenet"
    shutil.rmtree(place, ignore_errors=True)
    for name in tracked(checkout):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, copy / name)
    return copy


def interpreters(place: Path) -> Path:
    """A directory with the real program of each Python that is on this machine: a version manager's shim may refuse."""
    place.mkdir(parents=True, exist_ok=True)
    managed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in NODE_PYTHONS:
        name = f"python{version}"
        (place / name).unlink(missing_ok=True)
        found = [*managed.glob(f"{version}.*/bin/{name}"), *(Path(p) for p in [shutil.which(name)] if p)]
        if version == f"3.{sys.version_info.minor}":
            found.insert(0, Path(sys.executable).resolve())
        for program in found:
            asked = subprocess.run([program, "-c", "import ensurepip"], capture_output=True, check=False)
            if asked.returncode == 0:
                (place / name).symlink_to(program)
                break
    return place


def test_sanity(checkout: Path, cache: Path) -> None:
    place = cache / "ansible-test"
    home = place / "home"
    scripts = home / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    (scripts / GET_PIP).write_text(BOOTSTRAP)
    pythons = interpreters(place / "pythons")
    copy = copied(checkout, place / f"run-{os.getpid()}")
    try:
        verdict(
            ("ansible-test", "sanity", "--local", "--color", "no", "--truncate", "0"),
            copy,
            # Its own home keeps our script away from other uses of ansible-test. pip's settings are still the user's.
            HOME=str(home),
            XDG_CONFIG_HOME=os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
            PATH=os.pathsep.join([str(pythons), os.environ["PATH"]]),
        )
    finally:
        shutil.rmtree(place / f"run-{os.getpid()}", ignore_errors=True)

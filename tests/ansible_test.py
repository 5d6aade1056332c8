# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test on a copy of the project, with any environment's ansible-core."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from matrix.interpreters import interpreter
from tools import tracked, verdict

# ansible-test fetches a bootstrap script for pip from a place that not every machine reaches. Scripts of these names,
# which are those for ansible-core 2.18 and 2.19, and 2.20 and 2.21, are taken from the cache instead; every Python's
# own pip serves as well.
GET_PIP = ("get_pip_24_2.py", "get_pip_25_2.py")
BOOTSTRAP = """\
import subprocess
import sys

arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "ensurepip"])
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments]))
"""
# What ansible-core 2.19 manages nodes with; those that are here compile and import everything that goes to a node.
NODE_PYTHONS = tuple(f"3.{minor}" for minor in range(8, 14))


def _copied(checkout: Path, place: Path) -> Path:
    """A fresh copy of the project where ansible-test wants it: really, not by a link, below ``ansible_collections``."""
    copy = place / "ansible_collections" / "kubenode" / "servicenet"
    for name in tracked(checkout):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, copy / name)
    return copy


def _pythons(place: Path) -> Path:
    """A directory with the real program of each Python that is on this machine."""
    place.mkdir(parents=True, exist_ok=True)
    for version in NODE_PYTHONS:
        program = interpreter(version, "ensurepip")
        link = place / f"python{version}"
        if program and not (link.is_symlink() and link.resolve() == program.resolve()):
            mine = place / f"{link.name}.{os.getpid()}"
            mine.symlink_to(program)
            mine.replace(link)
    return place


def ansible_test(checkout: Path, cache: Path, *arguments: str, programs: Path | None = None) -> None:
    """Run ansible-test on a copy of the project; fail with all that it said.

    :param programs: the directory of the `ansible-test` to run; that of this Python if not given.
    """
    place = cache / "ansible-test"
    scripts = place / "home" / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    for name in GET_PIP:
        (scripts / name).write_text(BOOTSTRAP)
    paths = [*([str(programs)] if programs else []), str(_pythons(place / "pythons")), os.environ["PATH"]]
    command = [str(programs / "ansible-test") if programs else "ansible-test", *arguments]
    with tempfile.TemporaryDirectory(prefix="run-", dir=place) as copy:
        verdict(
            tuple(command),
            _copied(checkout, Path(copy)),
            # Its own home keeps our script away from other uses of ansible-test. pip's settings are still the user's.
            HOME=str(place / "home"),
            XDG_CONFIG_HOME=os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
            # The copy stands at a place of its own; the environment's collections are not for it.
            ANSIBLE_COLLECTIONS_PATH="",
            PATH=os.pathsep.join(paths),
        )

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests of every level share: the way to import the collection, and how much work the long tests do."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# ansible-test has pytest settings of its own, which do not say where tests share code.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from built_collection import build
from collection_tree import cache_directory, collections_path
from matrix.table import line, pytest_terminal_summary

__all__ = ["line", "pytest_terminal_summary"]

CHECKOUT = Path(__file__).resolve().parent.parent

# First on the path: the code under test is this checkout's, even where another copy of the collection is installed.
sys.path.insert(0, str(collections_path()))
# What the tests start (ansible-playbook above all) finds the collection the same way.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(collections_path())

# Nodes of a lab keep what their Python compiles, so that tasks take half as long.
os.environ["SERVICENET_COMPILED"] = str(cache_directory() / "compiled")

# One core may be busy with another test's packets, so a time limit for an example would be a coin toss. CI tries the
# same examples each time.
settings.register_profile("servicenet", deadline=None, derandomize=os.environ.get("CI") == "true", print_blob=True)
settings.load_profile("servicenet")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout under test."""
    return CHECKOUT


@pytest.fixture(scope="session")
def cache() -> Path:
    """The cache directory, which outlives the run."""
    return cache_directory()


@pytest.fixture(scope="session")
def archive(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's archive, built of the files that git knows, once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "archive"
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                built = build(checkout, Path(scratch))
                place.mkdir()
                built.replace(place / built.name)
        (found,) = place.iterdir()
    return found


@pytest.fixture(scope="session")
def full_figures() -> bool:
    """Whether long tests do all of their work (`make soak`, `make conformance`), or a part of it (`make test`)."""
    return os.environ.get("SERVICENET_FULL") == "1"

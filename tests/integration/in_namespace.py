# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that need a network namespace and nothing else: this thread enters a new one, which ends with the test."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def run(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
    """The command runner that the node layer is given."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(argv, input=data, text=True, capture_output=True, check=False, env=environment)
    return done.returncode, done.stdout, done.stderr


def sh(command: str, data: str | None = None) -> str:
    """A command line that must succeed."""
    code, out, err = run(command.split(), data)
    assert code == 0, f"{command}: {err}"
    return out


def enter_new_namespace() -> None:
    """From here on this thread, and what it starts, is in a new network namespace with its loopback up."""
    assert LIBC.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    sh("ip link set lo up")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """A new network namespace for each test of a file that imports this, made before its other fixtures."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_new_namespace()
        yield
    finally:
        assert LIBC.setns(outside, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(outside)


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """This thread in another network namespace for a while."""
    outside, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", f"/run/netns/{netns}"))
    try:
        assert LIBC.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        assert LIBC.setns(outside, CLONE_NEWNET) == 0
        os.close(outside)
        os.close(there)

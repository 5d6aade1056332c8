# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes are told apart, and one that ends at any moment is absent."""

from __future__ import annotations

import builtins
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._node import processes

NOTHING: dict[Callable[[int], Any], Any] = {
    processes.command: "",
    processes.arguments: [],
    processes.parent: 0,
    processes.birth: "",
    processes.children: [],
    processes.open_files: [],
}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is ended."""
    with subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        try:
            # Only what it says proves that it is the new program by now.
            assert started.stdin
            assert started.stdout
            started.stdin.write(b"there\n")
            started.stdin.flush()
            assert started.stdout.readline() == b"there\n"
            yield started
        finally:
            started.kill()


def test_a_process_is_seen(child: subprocess.Popen[bytes]) -> None:
    assert child.pid in processes.processes()
    assert processes.command(child.pid) == "cat"
    assert processes.arguments(child.pid) == [b"cat", b"-"]
    assert processes.parent(child.pid) == os.getpid()
    assert child.pid in processes.children(os.getpid())
    assert int(processes.birth(child.pid)) >= int(processes.birth(os.getpid()))
    assert processes.open_files(child.pid)


@pytest.mark.parametrize("ask", NOTHING, ids=lambda ask: ask.__name__)
def test_one_that_has_ended_is_absent(child: subprocess.Popen[bytes], ask: Callable[[int], Any]) -> None:
    child.kill()
    child.wait()
    assert ask(child.pid) == NOTHING[ask]


@pytest.mark.parametrize(
    "ask", [ask for ask in NOTHING if ask is not processes.open_files], ids=lambda ask: ask.__name__
)
def test_one_that_ends_between_opening_and_reading_is_absent(
    child: subprocess.Popen[bytes], ask: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def end_then_hand_over(path: str, mode: str) -> Any:
        stream = builtins.open(path, mode)  # noqa: SIM115 - the code under test closes it
        child.kill()
        child.wait()
        opened.append(path)
        return stream

    monkeypatch.setattr(processes, "open", end_then_hand_over, raising=False)
    assert ask(child.pid) == NOTHING[ask]
    assert opened


def test_one_that_nobody_waited_for_has_no_birth(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.birth(child.pid) == ""

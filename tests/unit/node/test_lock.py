# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One holder at a time; the error names it; a killed holder leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import lock
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.lock import BusyError, Lock


def hold_in_a_child(path: str) -> int:
    """A process that holds the lock until it is killed."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        with Lock(path, 0):
            os.write(done, b"x")
            time.sleep(30)
        os._exit(0)
    os.close(done)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_lock_is_taken_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    for _round in range(2):
        with Lock(str(path), 0):
            assert path.read_text() == f"{os.getpid()}\n"
    assert path.read_text() == ""


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    child = hold_in_a_child(path)
    try:
        begin = time.monotonic()
        with pytest.raises(ServicenetError, match=rf"Process {child} \(.+\) held the lock {path}"), Lock(path, 0.3):
            pass
        assert 0.3 <= time.monotonic() - begin < 25  # the first one goes on for thirty
    finally:
        end(child)


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    end(hold_in_a_child(path))
    with Lock(path, 0):
        assert Path(path).read_text() == f"{os.getpid()}\n"


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(ValueError, match="inside"), Lock(path, 0):
        raise ValueError("inside")
    with Lock(path, 0):
        pass


def test_a_planted_link_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(ServicenetError, match="can't be opened"), Lock(str(tmp_path / "lock"), 0):
        pass
    assert victim.read_text() == "precious"


def test_a_full_disk_hinders_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the holder is for people; the lock itself takes no room."""

    def full(_handle: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    path = str(tmp_path / "lock")
    with Lock(path, 0), pytest.raises(BusyError, match="Another process held the lock"), Lock(path, 0):
        pass


def test_a_lock_that_can_not_be_had_is_not_busy(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.mkdir()
    with pytest.raises(ServicenetError, match="can't be opened: Is a directory") as told, Lock(str(path), 0):
        pass
    assert not isinstance(told.value, BusyError)


def test_who_waited_for_a_file_that_was_removed_takes_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the playbook cleanup removes it: otherwise two would be at work, each with a lock of its own."""
    path = tmp_path / "run" / "lock"
    first = Lock(str(path), 0).__enter__()
    third: list[Lock] = []

    def removed_and_made_anew(_seconds: float) -> None:
        if not third:
            path.unlink()
            third.append(Lock(str(path), 0).__enter__())
            first.__exit__(None, None, None)
        else:
            third[0].__exit__(None, None, None)

    monkeypatch.setattr(lock.time, "sleep", removed_and_made_anew)
    with Lock(str(path), 60) as waited:
        assert os.path.samestat(os.fstat(waited._handle), path.stat())
        with pytest.raises(BusyError), Lock(str(path), 0):
            pass


def test_a_file_that_was_removed_and_can_not_be_made_anew_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    first = Lock(str(path), 0).__enter__()

    def replaced(_seconds: float) -> None:
        path.unlink()
        path.mkdir()
        first.__exit__(None, None, None)

    monkeypatch.setattr(lock.time, "sleep", replaced)
    with pytest.raises(ServicenetError, match="can't be opened: Is a directory"), Lock(str(path), 60):
        pass

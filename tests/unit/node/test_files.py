# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files are old or new, never half; broken state counts as absent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import files


def test_an_absent_file_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert files.read_bytes(str(tmp_path / "absent")) is None
    assert files.read_bytes(str(tmp_path / "file" / "below a file")) is None
    assert files.read_bytes(str(tmp_path / "file")) == b""


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ServicenetError, match="can't be read: Is a directory"):
        files.read_bytes(str(tmp_path))


def test_writing_makes_directories_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file"
    files.write_atomic(str(path), b"one")
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o7777 == 0o600
    files.write_atomic(str(path), b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(path.parent) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ServicenetError, match="can't be written: No space left on device"):
        files.write_atomic(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_killed_writers_left_goes_with_time(tmp_path: Path) -> None:
    """Half a file of one that may be at work stays, and so does what only looks alike."""
    path = tmp_path / "resolv.conf"
    others = [".resolv.conf.systemd-resolved.bak", ".resolv.conf.original", ".other.servicenet.12345678"]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    for _killed in range(3):
        child = os.fork()
        if child == 0:
            files.os.fsync = lambda _handle: os.kill(os.getpid(), signal.SIGKILL)
            files.write_atomic(str(path), b"half")
        os.waitpid(child, 0)
    left = sorted({*os.listdir(tmp_path)} - {*others})
    assert len(left) == 3
    for name in left[:2]:
        os.utime(tmp_path / name, (0, 0))
    files.write_atomic(str(path), b"whole")
    assert {*os.listdir(tmp_path)} == {"resolv.conf", left[2], *others}


def test_removing_says_whether_there_was_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert files.remove(str(path)) is True
    assert not path.exists()
    assert files.remove(str(path)) is False
    with pytest.raises(ServicenetError, match="can't be removed"):
        files.remove(str(tmp_path))


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1] trailing"])
def test_broken_state_is_absent_and_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    value, warning = files.read_json(str(path))
    assert value is None
    assert str(path) in warning
    assert "broken" in warning


def test_state_comes_back_and_is_canonical(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert files.read_json(str(path)) == (None, "")
    files.write_json(str(path), {"b": [1, None], "a": "ä"})
    assert path.read_bytes() == b'{"a":"\\u00e4","b":[1,null]}\n'
    assert files.read_json(str(path)) == ({"a": "ä", "b": [1, None]}, "")

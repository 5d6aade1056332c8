# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of the node: read if there, written atomically, JSON state that survives being broken.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
from typing import Any, NamedTuple

from .._core.errors import ServicenetError

NOBODY_WRITES_SO_LONG = 3600


class State(NamedTuple):
    """``value`` is None if there is no usable file; ``warning`` says why, and is empty if the file is just absent."""

    value: Any
    warning: str


def read_bytes(path: str) -> bytes | None:
    """The content of a file, or None if it isn't there.

    :raises ServicenetError: it is there and can't be read.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ServicenetError(f"{path} can't be read: {error.strerror}.") from error


def modified(path: str) -> float:
    """When a file was written last, in seconds since 1970; 0 if it isn't there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def stamp(path: str) -> tuple[int, int]:
    """Another one whenever the file was written atomically, even with the same content; zeros if it isn't there."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def write_atomic(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path`` so that a reader, a crash or a full disk finds either the old content or the new.

    A new directory is made for it if there is none. ``mode`` also applies to a file that is there already.

    :raises ServicenetError: it could not be written; the old file is untouched and no temporary file is left.
    """
    directory = os.path.dirname(path) or "."
    temporary = ""
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        unfinished = f".{os.path.basename(path)}.servicenet."
        handle, temporary = tempfile.mkstemp(prefix=unfinished, dir=directory)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = ""
        _sync_directory(directory)
        _remove_unfinished(directory, unfinished)
    except OSError as error:
        raise ServicenetError(f"{path} can't be written: {error.strerror}.") from error
    finally:
        if temporary:
            remove(temporary)


def _remove_unfinished(directory: str, prefix: str) -> None:
    """Takes away what writers of the same file left that were killed."""
    for name in os.listdir(directory):
        if name.startswith(prefix):
            with contextlib.suppress(FileNotFoundError):
                left = os.path.join(directory, name)
                if time.time() - os.stat(left).st_mtime > NOBODY_WRITES_SO_LONG:
                    os.unlink(left)


def _sync_directory(directory: str) -> None:
    """A rename is safe from a power cut only after the directory itself is on the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: str) -> bool:
    """Remove a file; False if there was none.

    :raises ServicenetError: it is there and can't be removed.
    """
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.EROFS and not os.path.lexists(path):
            return False  # a file system that is read-only refuses before it looks
        raise ServicenetError(f"{path} can't be removed: {error.strerror}.") from error
    return True


def read_json(path: str) -> State:
    """JSON state of the collection itself. What can't be understood counts as absent: the next run heals it."""
    data = read_bytes(path)
    if data is None:
        return State(None, "")
    try:
        return State(json.loads(data.decode("utf-8")), "")
    except ValueError as error:
        return State(None, f"The state file {path} is broken and is treated as absent: {error}.")


def write_json(path: str, value: Any, mode: int = 0o600) -> None:
    """Write JSON state in one canonical form, atomically.

    :raises ServicenetError: as ``write_atomic``.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    write_atomic(path, text.encode("ascii") + b"\n", mode)

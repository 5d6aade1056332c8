# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a node: an advisory lock on a file in the run directory.

The kernel releases the lock with the process, so a killed run leaves nothing that has to be cleaned up.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from types import TracebackType

from .._core.errors import ServicenetError
from .processes import command

POLL_SECONDS = 0.1


class BusyError(ServicenetError):
    """Somebody else has held the lock for all the time that there was to wait."""


def rules_path(run_dir: str) -> str:
    """The lock that runs hold which change rules, or what they are made of."""
    return os.path.join(run_dir, "lock")


class Lock:
    """``with Lock("/run/servicenet/lock", 30):`` holds the lock; the process id of the holder stands in the file.

    :param wait_seconds: how long to wait for another holder; 0 asks once.
    """

    def __init__(self, path: str, wait_seconds: float) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self._handle = -1

    def __enter__(self) -> Lock:
        """:raises BusyError: somebody else holds it for too long.
        :raises ServicenetError: the file can't be opened.
        """
        self._open()
        try:
            self._wait()
            os.ftruncate(self._handle, 0)
            with contextlib.suppress(OSError):  # no room: the lock holds without a name
                os.pwrite(self._handle, f"{os.getpid()}\n".encode("ascii"), 0)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The file stays: removing it would let a waiting process lock a file that a third one no longer sees."""
        os.ftruncate(self._handle, 0)
        self._close()

    def _open(self) -> None:
        try:
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o755, exist_ok=True)
            # Not O_TRUNC: the file names the holder until the lock is ours.
            # O_NOFOLLOW: a link that somebody planted must not make us empty another file.
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ServicenetError(f"The lock file {self.path} can't be opened: {error.strerror}.") from error

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _wait(self) -> None:
        end = time.monotonic() + self.wait_seconds
        while not self._try():
            left = end - time.monotonic()
            if left <= 0:
                raise BusyError(
                    f"{self._holder()} held the lock {self.path} for the {self.wait_seconds:g} s that this run waited."
                    " Wait until that run has ended, or end it."
                )
            time.sleep(min(POLL_SECONDS, left))

    def _try(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ServicenetError(f"The lock {self.path} can't be taken: {error.strerror}.") from error
        if self._is_there():
            return True
        self._close()
        self._open()
        return self._try()

    def _is_there(self) -> bool:
        """Is the file the one that others would lock? The playbook cleanup removes it, whoever waits for it."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _holder(self) -> str:
        pid = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip()
        if not pid.isdigit():
            return "Another process"
        name = command(int(pid))
        return f"Process {pid} ({name})" if name else f"Process {pid}"

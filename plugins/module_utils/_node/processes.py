# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes of the node, as the kernel shows them: one that ends while it is looked at counts as absent.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import os


def processes() -> list[int]:
    """The ids of all processes that can be seen."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def command(pid: int) -> str:
    """The name of a process, cut to 15 characters by the kernel; "" if it has ended."""
    return _read(pid, "comm").decode("utf-8", "replace").strip()


def arguments(pid: int) -> list[bytes]:
    """Its command line, or the title that it gave itself; nothing if it has ended."""
    line = _read(pid, "cmdline").rstrip(b"\0")
    return line.split(b"\0") if line else []


def parent(pid: int) -> int:
    """The process that it belongs to, 0 if it has ended."""
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def birth(pid: int) -> str:
    """When it was started, in the kernel's ticks: with its id that names it for good; "" if it has ended."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def children(pid: int) -> list[int]:
    """The processes that it has started, oldest first; nothing if it has ended."""
    return sorted(map(int, _read(pid, f"task/{pid}/children").split()), key=lambda child: int(birth(child) or 0))


def open_files(pid: int) -> list[str]:
    """What a process has open, as the links say; nothing if it has ended."""
    directory = f"/proc/{pid}/fd"
    targets: list[str] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                targets.append(os.readlink(f"{directory}/{name}"))
    return targets


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a process behind its name."""
    return _read(pid, "stat").decode("utf-8", "replace").rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    """A file that the kernel shows of a process. A process that ends meanwhile fails the opening or the reading."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as stream:
        return stream.read()
    return b""

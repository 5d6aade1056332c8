# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kernel settings: read, set with the old values remembered, and put back exactly as they were.

Names are written with slashes (``net/ipv4/conf/eth0.5/rp_filter``), since a device's name may have dots in it. The
timeouts of IPVS (``ipvs/tcp``), which the kernel keeps elsewhere, are settings as well.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
from typing import Iterable, NamedTuple, Sequence

from .._core.errors import ServicenetError
from . import ipvs_timeouts
from .files import read_bytes, read_json, remove, write_json
from .generation import boot_id

ROOT = "/proc/sys"

# What the kernel changes along with a setting. The old values have to be put back after the setting's own.
FOLLOWERS = {
    "net/ipv4/ip_forward": ("net/ipv4/conf", "forwarding", ("net/ipv4/conf/all/accept_redirects",)),
    "net/ipv6/conf/all/forwarding": ("net/ipv6/conf", "forwarding", ()),
}


class Remembered(NamedTuple):
    """A setting that we changed: ``old`` before our first change, ``new`` since our last; ``beside`` went along."""

    name: str
    old: str
    new: str
    beside: dict[str, str]


def _path(name: str) -> str:
    parts = name.split("/")
    if not all(parts) or "." in parts or ".." in parts:
        raise ServicenetError(f"{name!r} is no name of a kernel setting.")
    return os.path.join(ROOT, *parts)


def read(name: str) -> str | None:
    """The value with its white space made single spaces, or None if the kernel has no such setting."""
    if name in ipvs_timeouts.NAMES:
        return ipvs_timeouts.read(name)
    data = read_bytes(_path(name))
    return None if data is None else " ".join(data.decode("ascii", "replace").split())


def writable(name: str) -> bool:
    """Whether this process may set it; in a network namespace some settings of the host can only be read."""
    return name in ipvs_timeouts.NAMES or os.access(_path(name), os.W_OK)


def write(name: str, value: str) -> None:
    """:raises ServicenetError: the kernel doesn't have the setting or doesn't take the value."""
    if name in ipvs_timeouts.NAMES:
        ipvs_timeouts.write(name, value)
        return
    try:
        with open(_path(name), "w", encoding="ascii") as stream:
            # The end of the line is what makes an empty value a write at all.
            stream.write(f"{value}\n")
    except OSError as error:
        raise ServicenetError(f"The kernel setting {name} can't be set to {value}: {error.strerror}.") from error


class Settings:
    """The settings that we changed in this boot, remembered in a file.

    :param path: the state file, ``sysctls.json`` in the state directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.warning = ""

    def remembered(self) -> list[Remembered]:
        """What we changed since the kernel was booted; a boot forgets all settings, so nothing older counts."""
        value, self.warning = read_json(self._path)
        try:
            if value is not None and value["boot"] == boot_id():
                return [Remembered(*entry) for entry in value["settings"]]
        except (KeyError, TypeError):
            self.warning = f"The state file {self._path} is not one of ours and is treated as absent."
        return []

    def apply(self, wanted: Iterable[tuple[str, str]]) -> list[Remembered]:
        """Set (name, value) pairs in this order; what was really changed.

        The old values are on the disk before the first setting changes, so that a killed run can be undone as well.

        :raises ServicenetError: a setting can't be set; those before it stay set, and are remembered.
        """
        known = {entry.name: entry for entry in self.remembered()}
        changed: list[Remembered] = []
        for name, value in wanted:
            current = read(name)
            if current != value:
                first = known.get(name)
                old = current or ""
                beside = _followers(name)
                changed.append(Remembered(name, old, value, beside))
                known[name] = Remembered(name, first.old, value, first.beside) if first else changed[-1]
        if changed:
            write_json(self._path, {"boot": boot_id(), "settings": list(known.values())})
        for entry in changed:
            write(entry.name, entry.new)
        return changed

    def restore(self) -> tuple[list[Remembered], list[str]]:
        """Put everything back and forget it: what was put back, and a sentence for each setting that was left.

        One that no longer has the value that we gave it belongs to whoever changed it after us.
        """
        restored: list[Remembered] = []
        left: list[str] = []
        for entry in reversed(self.remembered()):
            current = read(entry.name)
            if current == entry.new:
                write(entry.name, entry.old)
                _put_back(entry.beside)
                restored.append(entry)
            elif current not in (None, entry.old):
                left.append(
                    f"The kernel setting {entry.name} is {current}, which somebody set after this collection made it"
                    f" {entry.new}; it is left so, and was {entry.old} before."
                )
        remove(self._path)
        return restored, left


def _followers(name: str) -> dict[str, str]:
    """The current values of what the kernel changes along with a setting."""
    if name not in FOLLOWERS:
        return {}
    directory, leaf, others = FOLLOWERS[name]
    names: Sequence[str] = [f"{directory}/{device}/{leaf}" for device in sorted(os.listdir(_path(directory)))]
    values = {one: read(one) for one in (*names, *others) if one != name}
    return {one: value for one, value in values.items() if value is not None}


def _put_back(beside: dict[str, str]) -> None:
    for name, value in beside.items():
        if read(name) not in (None, value):
            write(name, value)

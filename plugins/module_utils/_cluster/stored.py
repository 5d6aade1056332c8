# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshot files: read as objects again, written whole or not at all, with the note of where they come from.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    OptionError,
    ServicenetError,
    SnapshotError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.model import SERVICE_NAME_LABEL
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot import Snapshot, load

# The snapshot shows the topology of the cluster: for its owner and the group, not for everybody.
FILE_MODE = 0o640


def load_file(path: str) -> Snapshot:
    """The snapshot in a file; raises ``SnapshotError`` if there is none or it is damaged."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as wrong:
        raise SnapshotError(f"The snapshot {path} can't be read: {wrong.strerror}.") from None
    try:
        return load(data)
    except SnapshotError as wrong:
        raise SnapshotError(f"{path}: {wrong}") from None


def objects_of(snapshot: Snapshot, path: str) -> Iterator[dict[str, Any]]:
    """The objects of a snapshot as an API server would give them: a Service and its slices apart."""
    return objects_of_lines(snapshot.lines, path)


def objects_of_lines(lines: Iterable[bytes], path: str) -> Iterator[dict[str, Any]]:
    """The same for some of its lines."""
    try:
        for line in lines:
            raw = json.loads(line)
            pieces = raw.pop("endpointSlices", [])
            yield raw
            for piece in pieces:
                yield _slice_of(raw["metadata"], piece)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SnapshotError(f"{path}: the snapshot has a line that is no object.") from None


def _slice_of(service: Mapping[str, Any], piece: Mapping[str, Any]) -> dict[str, Any]:
    metadata = piece["metadata"]
    labels = {**metadata.get("labels", {}), SERVICE_NAME_LABEL: service["name"]}
    return {
        **piece,
        "kind": "EndpointSlice",
        "metadata": {**metadata, "namespace": service["namespace"], "labels": labels},
    }


# ------------------------------------------------------------------------------------------------------- writing


def write_file(path: str, data: bytes) -> None:
    """Replaces a file in one step: readers see the old or the new one, after a power cut as well."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                os.fchmod(stream.fileno(), FILE_MODE)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(folder)
    except OSError as wrong:
        raise OptionError(f"The file {path} can't be written: {wrong.strerror}.") from None


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_scratch(data: bytes) -> str:
    """Writes a file of its own for check mode, which whoever asked for it removes; returns its path."""
    try:
        handle, path = tempfile.mkstemp(prefix="servicenet-check-", suffix=".jsonl.gz")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
    except OSError as wrong:
        raise OptionError(f"A scratch file for check mode can't be written: {wrong.strerror}.") from None
    return path


# ---------------------------------------------------------------------------------------- where it comes from


def note_path(path: str) -> str:
    """The file beside a snapshot that says where and when it was read."""
    return f"{path}.source.json"


def write_note(path: str, note: Mapping[str, Any]) -> None:
    """Writes the note of a snapshot."""
    write_file(note_path(path), (json.dumps(note, indent=2, sort_keys=True) + "\n").encode())


def read_note(path: str) -> dict[str, Any]:
    """The note of a snapshot; {} if there is none that can be read."""
    try:
        with open(note_path(path), "rb") as stream:
            note = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def read_time(path: str) -> float:
    """When the state in a snapshot was read, in seconds since 1970; without its note, when the file was written."""
    read = read_note(path).get("read")
    if isinstance(read, (int, float)) and not isinstance(read, bool):
        return float(read)
    try:
        return os.stat(path).st_mtime
    except OSError as wrong:
        raise ServicenetError(f"The snapshot {path} can't be read: {wrong.strerror}.") from None

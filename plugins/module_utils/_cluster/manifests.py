# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubernetes objects from manifests: files and directories, YAML with many documents, JSON, and lists of objects.

What can't be read is refused document by document; the others go on.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError, OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.objects import object_key

from .yaml_documents import MAX_DEPTH, YamlError, read_document

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 256 * 1024 * 1024

# At the start of a line three hyphens always part documents, even inside a block of text.
_DOCUMENT_START = re.compile(rb"---(?=\s|$)")
_DOCUMENT_END = re.compile(rb"\.\.\.\s*$")
_EMPTY_LINE = re.compile(rb"\s*(?:#.*)?$")
_BOTTOMLESS = object()


def find_files(paths: Sequence[str]) -> list[str]:
    """The files of the paths in a fixed order; of a directory, at any depth, what ends in SUFFIXES and isn't hidden."""
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            found += _files_inside(path)
        elif os.path.exists(path):
            found.append(path)
        else:
            raise OptionError(f"There is no {path}, which manifests names.")
    # A file that two paths lead to is one file.
    once: dict[str, str] = {}
    for path in found:
        once.setdefault(os.path.realpath(path), path)
    return list(once.values())


def _files_inside(directory: str) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(directory):
        # What is hidden (.git, .github) is not meant.
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    if not found:
        raise OptionError(f"The directory {directory} of manifests has no file that ends in {', '.join(SUFFIXES)}.")
    return sorted(found)


def read_manifests(files: Sequence[str], refused: list[ObjectError]) -> Iterator[dict[str, Any]]:
    """The objects of the files. What is none, or can't be read, is appended to ``refused``."""
    for path in files:
        for where, value in _values(path, refused):
            yield from _objects(value, where, refused)


def _values(path: str, refused: list[ObjectError]) -> Iterator[tuple[str, Any]]:
    """(where it stands, value) of each document of a file."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise OptionError(f"The manifest {path} has more than {MAX_BYTES // 1024 // 1024} MiB: split it.")
        for number, (line, data) in enumerate(_documents(path), 1):
            where = f"{path} document {number} (line {line})"
            try:
                yield where, _value(data, path.endswith(".json"))
            except ValueError as wrong:
                refused.append(ObjectError("Manifest", where, str(wrong)))
    except OSError as wrong:
        raise OptionError(f"The manifest {path} can't be read: {wrong.strerror}.") from None


def _documents(path: str) -> Iterator[tuple[int, bytes]]:
    """(first line, bytes) of each document that is not empty; a JSON file is one."""
    if path.endswith(".json"):
        with open(path, "rb") as stream:
            yield 1, stream.read()
        return
    first, filled = 1, False
    lines: list[bytes] = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            start, end = _DOCUMENT_START.match(line), _DOCUMENT_END.match(line)
            if (start or end) and filled:
                yield first, b"".join(lines)
            if start or end:
                first, lines = number, [line[3:]] if start else []
                filled = bool(lines) and not _EMPTY_LINE.match(line[3:])
            elif filled or not line.startswith(b"%"):
                # Directives (%YAML 1.2) stand before a document and change nothing here.
                lines.append(line)
                filled = filled or not _EMPTY_LINE.match(line)
    if filled:
        yield first, b"".join(lines)


def _value(data: bytes, is_json: bool) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise YamlError("is not UTF-8") from None
    if not is_json:
        return read_document(text)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        value = _BOTTOMLESS
    except json.JSONDecodeError as wrong:
        raise YamlError(f"is no JSON: {wrong.msg} in its line {wrong.lineno}") from None
    if value is _BOTTOMLESS or _is_deeper(value, MAX_DEPTH):
        raise YamlError(f"is nested deeper than {MAX_DEPTH} levels")
    return value


def _is_deeper(value: Any, limit: int) -> bool:
    """Is there a list or mapping below ``limit`` others?"""
    level = [value]
    for _depth in range(limit + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return bool(level)


def _no_constant(name: str) -> None:
    raise YamlError(f"has the number {name}, which JSON does not have")


def _objects(value: Any, where: str, refused: list[ObjectError]) -> Iterator[dict[str, Any]]:
    """The objects of one document: itself, or the items of a List."""
    if value is None:
        return
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict):
        refused.append(ObjectError("Manifest", where, "is not a Kubernetes object"))
    elif not isinstance(kind, str) or not kind:
        refused.append(ObjectError("Manifest", f"{where} {object_key(value)}", "does not say its kind"))
    elif kind.endswith("List") and "items" in value:
        yield from _items(value, kind, where, refused)
    else:
        yield value


def _items(value: dict[str, Any], kind: str, where: str, refused: list[ObjectError]) -> Iterator[dict[str, Any]]:
    items = value["items"]
    if items is not None and not isinstance(items, list):
        refused.append(ObjectError("Manifest", where, f"is a {kind} whose items are no list"))
        return
    for number, item in enumerate(items or (), 1):
        # A ServiceList gives its items their kind; one that says another kind is a mistake.
        own = kind[: -len("List")]
        name = f"{where} item {number}"
        if not isinstance(item, dict):
            refused.append(ObjectError("Manifest", name, "is not a Kubernetes object"))
            continue
        said = item.get("kind") or own
        if not isinstance(said, str) or not said or (own and said != own) or said.endswith("List"):
            refused.append(
                ObjectError("Manifest", f"{name} {object_key(item)}", "does not say its kind, or a wrong one")
            )
        else:
            yield {**item, "kind": said}

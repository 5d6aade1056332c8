# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds servicenet-agent: one file that runs with nothing but Python 3.8.

build_agent.py MODULE_UTILS FILE

The file holds what the agent's beginning leads to, found by walking the imports, under the names it has in the
collection. The same collection gives the same bytes. A file that is the same already is not written.
"""

from __future__ import annotations

import ast
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = ("ansible_collections", "kubenode", "servicenet", "plugins", "module_utils")
MAIN = Path(__file__).resolve().parent / "agent_main.py"
STAMP = (1980, 1, 1, 0, 0, 0)


def imported(path: Path, module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The names below module_utils that a file of it imports, each in parts; some are of things inside a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = module[: len(module) - node.level] + base
            elif base[: len(PACKAGE)] == PACKAGE:
                base = base[len(PACKAGE) :]
            else:
                continue
            found |= {(*base, alias.name) for alias in node.names} | {base}
    return found


def reached(root: Path) -> dict[str, bytes]:
    """The files below module_utils that the beginning leads to, by their path there."""
    ahead = [*imported(MAIN, ("__main__",))]
    files: dict[str, bytes] = {}
    while ahead:
        name = ahead.pop()
        path = root.joinpath(*name[:-1], f"{name[-1]}.py") if name else root
        shown = path.relative_to(root).as_posix()
        if not path.is_file() or shown in files:
            continue
        files[shown] = path.read_bytes()
        ahead += imported(path, name)
    return files


def build(root: Path) -> bytes:
    """The program."""
    files = {"/".join((*PACKAGE, name)): data for name, data in reached(root).items()}
    folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
    files.update({f"{folder}/__init__.py": b"" for folder in folders})
    files["__main__.py"] = MAIN.read_bytes()
    memory = io.BytesIO()
    memory.write(b"#!/usr/bin/env python3\n")
    # Stored, since two versions of zlib may compress otherwise.
    with zipfile.ZipFile(memory, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, STAMP)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return memory.getvalue()


def main() -> None:
    """The command line."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, target = build(Path(sys.argv[1])), Path(sys.argv[2]).expanduser()
    if target.is_file() and target.read_bytes() == data:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    os.chmod(temporary, 0o755)
    os.replace(temporary, target)
    sys.stdout.write("built\n")


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiles and imports all that goes to a node, and compiles a snapshot, with whatever Python runs this.

    python -IB node_code.py TREE SNAPSHOT

TREE holds ``ansible_collections`` and the part of ``ansible`` that goes to nodes. Prints one JSON object: the version,
how many files were compiled and imported, and a digest of each mode's program, which is the same on every Python.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys

PLUGINS = "ansible_collections.kubenode.servicenet.plugins"
NODE = "node-a"
MODES = {"iptables": "IptablesCompiler", "nftables": "NftablesCompiler", "ipvs": "IpvsCompiler"}


def names(plugins: str) -> list[str]:
    """The dotted names, below the plugins, of all Python files of modules and module_utils."""
    found = []
    for part in ("module_utils", "modules"):
        for directory, _directories, files in os.walk(os.path.join(plugins, part)):
            inside = os.path.relpath(directory, plugins).replace(os.sep, ".")
            found += [inside] if "__init__.py" in files else []
            found += [inside + "." + name[: -len(".py")] for name in files if name.endswith(".py")]
    return sorted(name for name in found if not name.endswith("__init__"))


def compile_all(plugins: str) -> int:
    """Compiles every file and returns how many there were."""
    count = 0
    for directory, _directories, files in os.walk(plugins):
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                with open(path, encoding="utf-8") as stream:
                    compile(stream.read(), path, "exec", dont_inherit=True)
                count += 1
    return count


def programs(snapshot_file: str) -> dict[str, str]:
    """The digest of each mode's program for one node of a snapshot."""
    core = PLUGINS + ".module_utils._core."
    passes, snapshot, resolve, settings = (
        importlib.import_module(core + name) for name in ("passes", "snapshot", "resolve", "settings")
    )
    with open(snapshot_file, "rb") as stream:
        loaded = snapshot.load(stream.read())
    view = resolve.NodeView(NODE, "zone-1", ("198.18.0.11", "fd98::11"))
    wanted = settings.Settings(view, settings.Detector(("10.128.0.0/9", "fd80::/16")))
    made = {}
    for mode, compiler in MODES.items():
        program = passes.full(loaded, view, getattr(importlib.import_module(core + mode), compiler)(wanted)).new
        text = json.dumps(sorted((name, repr(content)) for name, content in program.items()))
        made[mode] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return made


def main() -> None:
    tree, snapshot_file = sys.argv[1:]
    sys.path.insert(0, tree)
    plugins = os.path.join(tree, *PLUGINS.split("."))
    told = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "compiled": compile_all(plugins),
        "imported": len([importlib.import_module(PLUGINS + "." + name) for name in names(plugins)]),
        "programs": programs(snapshot_file),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints what Ansible sends to a node: a module, what it imports and its arguments, as one program.

    python payload.py kubenode.servicenet.MODULE < arguments.json > program.py

It is a process of its own because Ansible's loader and plain imports of the collection do not go together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, module_loader
from ansible.template import Templar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collection_tree import collections_path


def main() -> None:
    """Builds and prints."""
    init_plugin_loader([str(collections_path())])
    name = sys.argv[1]
    built = modify_module(
        module_name=name,
        module_path=module_loader.find_plugin_with_context(name).plugin_resolved_path,
        module_args=json.load(sys.stdin),
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_playbook_python": sys.executable, "ansible_python_interpreter": sys.executable},
        module_compression="ZIP_DEFLATED",
        remote_is_local=True,
    )
    sys.stdout.buffer.write(built.b_module_data)


if __name__ == "__main__":
    main()

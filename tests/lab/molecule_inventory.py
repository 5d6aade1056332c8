#!/usr/bin/env python
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory of a scenario of molecule: that of its lab, an empty one before there is one.

Standard library only: Ansible runs it with whatever Python comes first.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

EMPTY = {"servicenet_nodes": {"hosts": []}, "_meta": {"hostvars": {}}}


def show_inventory() -> None:
    """Prints the inventory as Ansible wants it of a program."""
    path = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "/nonexistent")) / "lab-inventory.yml"
    if not path.exists():
        print(json.dumps(EMPTY))
        return
    # The file is nested, a program's answer is flat.
    every = json.loads(path.read_text())["all"]
    answer = {"all": {"vars": every.get("vars", {})}, "_meta": {"hostvars": {}}}
    for name, group in every["children"].items():
        answer[name] = {"hosts": list(group["hosts"]), "vars": group.get("vars", {})}
        answer["_meta"]["hostvars"].update(group["hosts"])
    print(json.dumps(answer))


if __name__ == "__main__":
    show_inventory()

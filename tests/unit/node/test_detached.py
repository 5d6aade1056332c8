# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that goes on alone has all it needs, also where the code came in an archive that is gone by then."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from lab.waiting import wait_until

MODULE_UTILS = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
PACKAGE = "ansible_collections/kubenode/servicenet/plugins/module_utils"
# As a module of Ansible does it: its last deed is to remove what it was run from.
PROGRAM = """
import os, sys, time
archive, said = sys.argv[1:]
sys.path.insert(0, archive)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.detached import detach

def work():
    while os.path.exists(archive):
        time.sleep(0.01)
    try:
        from ansible_collections.kubenode.servicenet.plugins.module_utils._node import udp_flows
        told = f"late: {udp_flows.ANSWER_SECONDS > 0}"
    except BaseException as error:
        told = repr(error)
    with open(f"{said}.new", "w") as stream:
        stream.write(told)
    os.rename(f"{said}.new", said)

detach(work)
os.unlink(archive)
"""


def test_what_is_imported_late_is_there_when_the_archive_is_gone(tmp_path: Path) -> None:
    archive, said = tmp_path / "payload.zip", tmp_path / "said"
    folders = PACKAGE.split("/")
    with zipfile.ZipFile(archive, "w") as made:
        for depth in range(1, len(folders) + 1):
            made.writestr("/".join([*folders[:depth], "__init__.py"]), "")
        for path in [*MODULE_UTILS.glob("_core/*.py"), *MODULE_UTILS.glob("_node/*.py")]:
            made.write(path, f"{PACKAGE}/{path.relative_to(MODULE_UTILS)}")
    subprocess.run([sys.executable, "-I", "-c", PROGRAM, str(archive), str(said)], check=True, timeout=60)
    wait_until(said.exists, seconds=60)
    assert said.read_text() == "late: True"

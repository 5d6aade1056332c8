# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A play with this machine as its only host, for what a role does without the network of a lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


def run_play(directory: Path, *options: str, variables: dict[str, str] | None = None, **play: Any) -> str:
    """Runs a play that succeeds -> what Ansible said.

    :param directory: where the playbook is written.
    :param options: of ansible-playbook.
    :param variables: of the environment, besides those that there are.
    :param play: the keywords of the play, such as ``tasks``.
    """
    file = directory / "play.yml"
    file.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, **play}]))
    command: list[str | Path] = [PLAYBOOK, "--inventory=localhost,", "--connection=local"]
    command += [f"-eansible_python_interpreter={sys.executable}", *options, file]
    environment = os.environ | (variables or {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Galaxy and ansible-builder make of the collection that is published."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import yaml
from built_collection import environment


def test_galaxy_imports_it_without_a_warning(archive: Path, checkout: Path, tmp_path: Path) -> None:
    venv = environment(checkout, "galaxy-importer")
    assert venv, "galaxy-importer has no environment"
    (tmp_path / "galaxy-importer.cfg").write_text("[galaxy-importer]\nrun_ansible_test = False\n")
    done = subprocess.run(
        [venv / "bin" / "python", "-m", "galaxy_importer.main", archive],
        cwd=tmp_path,
        # What it starts (ansible-doc, ansible-lint) is of its own environment as well, and finds no other collection.
        env={key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        | {"PATH": f"{venv}/bin{os.pathsep}{os.environ['PATH']}", "GALAXY_IMPORTER_CONFIG": "galaxy-importer.cfg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Importer processing completed successfully" in done.stdout, done.stdout
    assert not [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]


def test_an_execution_environment_gets_what_the_controller_needs(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "ansible_collections" / "kubenode" / "servicenet"
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    said = subprocess.run(["ansible-builder", "introspect", tmp_path], capture_output=True, text=True, check=True)
    found = yaml.safe_load(said.stdout)
    wanted = [line for line in (place / "meta" / "ee-requirements.txt").read_text().splitlines() if line[:1].isalpha()]
    # ansible-builder leaves PyYAML out: ansible-core has brought it already.
    python = sorted(line.partition("  #")[0] for line in found["python"])
    assert python == sorted(line for line in wanted if not line.startswith("PyYAML"))
    # Where Ansible runs, only Python is needed; a node's tools are packages that the roles install there.
    assert found["system"] == []

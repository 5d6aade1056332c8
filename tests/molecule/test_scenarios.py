# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every scenario of molecule is a test: molecule's whole sequence on nodes of the lab, in containers where it can be.

`make test` runs one of them, `make molecule` all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lab.control_plane import PEERS, has_peers

CHECKOUT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
SHARED = yaml.safe_load((CHECKOUT / ".config" / "molecule" / "config.yml").read_text())
NEEDS = {"coredns": "coredns", "endpoints": "kube-apiserver"}
QUICK = "default"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, tmp_path: Path, engine: dict[str, str], full_figures: bool) -> None:
    if scenario != QUICK and not full_figures:
        pytest.skip("only make molecule runs this scenario")
    if scenario in NEEDS and not (has_peers(NEEDS[scenario]) or (PEERS / NEEDS[scenario]).exists()):
        pytest.skip(f"{NEEDS[scenario]} has not been built (`make peers`)")
    done = subprocess.run(
        [Path(sys.executable).parent / "molecule", "test", "--scenario-name", scenario],
        cwd=CHECKOUT,
        env=os.environ
        | {"MOLECULE_GLOB": "molecule/*/molecule.yml", "NO_COLOR": "1", "ANSIBLE_HOME": str(tmp_path / "ansible")}
        | engine,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    # A step without its playbook is only a warning to molecule.
    assert "Missing playbook" not in done.stdout, done.stdout
    skipped = re.search("SKIPPED, .*[.]", done.stdout)
    if skipped:
        pytest.skip(skipped.group())
    made_of = re.search("The nodes.*[.]", done.stdout)
    assert made_of, done.stdout
    print(made_of.group())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_step_has_its_playbook(scenario: str) -> None:
    own = yaml.safe_load((CHECKOUT / "molecule" / scenario / "molecule.yml").read_text()) or {}
    playbooks = SHARED["ansible"]["playbooks"] | own.get("ansible", {}).get("playbooks", {})
    missing = [p for p in playbooks.values() if not (CHECKOUT / "molecule" / scenario / p).is_file()]
    assert missing == []

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd units of what runs by itself on a node, as systemd itself reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

# Unit -> its role.
UNITS = {
    "servicenet-dns-network.service": "cluster_dns",
    "servicenet-dns.service": "cluster_dns",
    "servicenet-userspace.service": "service_proxy",
}
# systemd rates 0 (no rights) to 10. nginx starts as root and looks for processes that a crash of it left.
HIGHEST = {"servicenet-dns.service": 2.0, "servicenet-userspace.service": 4.0}
VARIABLES = {"cluster_dns_binary": "/bin/true", "cluster_dns_mode": "kubernetes", "ansible_facts": {}}


def variables_of(role: Path) -> dict[str, object]:
    """The defaults and variables of a role; those that take Ansible to be made stay as they are written."""
    variables: dict[str, object] = dict(VARIABLES)
    for part in ("defaults", "vars"):
        variables = yaml.safe_load((role / part / "main.yml").read_text()) | variables
    for _pass in range(3):  # variables may be made of variables
        variables = {
            name: jinja2.Template(value).render(variables)
            if isinstance(value, str) and "ternary" not in value and "select" not in value
            else value
            for name, value in variables.items()
        }
    return variables


@pytest.fixture
def units(checkout: Path, tmp_path: Path) -> dict[str, Path]:
    """The units with the defaults of their roles, in a directory."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    made = {}
    for name, role in UNITS.items():
        directory = checkout / "roles" / role
        template = jinja2.Template((directory / "templates" / f"{name}.j2").read_text(), trim_blocks=True)
        made[name] = tmp_path / name
        made[name].write_text(template.render(variables_of(directory)))
    return made


def test_systemd_accepts_the_units(units: dict[str, Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units.values())], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", HIGHEST)
def test_a_server_has_next_to_no_rights(units: dict[str, Path], name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(units[name])],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(rf"exposure level for {re.escape(name)}: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= HIGHEST[name]

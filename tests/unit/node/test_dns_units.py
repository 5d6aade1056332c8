# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd units of the role cluster_dns, as systemd itself reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

UNITS = ("servicenet-dns-network.service", "servicenet-dns.service")
VARIABLES = {"cluster_dns_binary": "/bin/true", "ansible_facts": {"service_mgr": "systemd"}}


@pytest.fixture
def units(checkout: Path, tmp_path: Path) -> dict[str, Path]:
    """The units with the role's defaults, in a directory."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    role = checkout / "roles/cluster_dns"
    variables = VARIABLES | {"cluster_dns_mode": "kubernetes"}
    for part in ("defaults", "vars"):
        variables = yaml.safe_load((role / part / "main.yml").read_text()) | variables
    for _pass in range(3):  # variables may be made of variables
        variables = {
            k: jinja2.Template(v).render(variables)
            if isinstance(v, str) and "ternary" not in v and "select" not in v
            else v
            for k, v in variables.items()
        }
    made = {}
    for name in UNITS:
        template = jinja2.Template((role / "templates" / f"{name}.j2").read_text(), trim_blocks=True)
        made[name] = tmp_path / name
        made[name].write_text(template.render(variables))
    return made


def test_systemd_accepts_the_units(units: dict[str, Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, units.values())], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_server_has_next_to_no_rights(units: dict[str, Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(units["servicenet-dns.service"])],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(r"exposure level for servicenet-dns\.service: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0

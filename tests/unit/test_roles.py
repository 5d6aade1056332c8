# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract of every role: typed options whose defaults are what is documented, and a page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted((Path(__file__).resolve().parents[2] / "roles").iterdir())
each_role = pytest.mark.parametrize("role", ROLES, ids=[role.name for role in ROLES])


def entry_points(role: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"])


def problems(specs: dict[str, Any], defaults: dict[str, Any], name: str) -> list[str]:
    """Sentences about options that are not typed, not prefixed, or have another default than is documented."""
    found = []
    options = {k: v for spec in specs.values() for k, v in spec.get("options", {}).items()}
    for option, spec in options.items():
        if not option.startswith(f"{name}_"):
            found.append(f"{option} does not begin with the role's name")
        if "type" not in spec:
            found.append(f"{option} has no type")
        if spec.get("type") == "list" and "elements" not in spec:
            found.append(f"{option} does not say of what it is a list")
        if not spec.get("description"):
            found.append(f"{option} is not described")
        if "default" in spec and (option not in defaults or defaults[option] != spec["default"]):
            found.append(f"{option} is documented to be {spec['default']!r} and is {defaults.get(option)!r}")
        if "default" not in spec and option in defaults and defaults[option] not in ("", None):
            found.append(f"{option} has a default, {defaults[option]!r}, that is not documented")
    return found + [f"{option} is not documented" for option in defaults if option not in options]


@each_role
def test_options_are_typed_and_defaults_are_as_documented(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    assert problems(entry_points(role), defaults, role.name) == []


@each_role
def test_a_role_is_described(role: Path) -> None:
    assert (role / "README.md").read_text().count("\n") > 10
    assert yaml.safe_load((role / "meta" / "main.yml").read_text())["galaxy_info"]["description"]


def test_a_role_that_keeps_nothing_of_it_is_noticed() -> None:
    specs = {"main": {"options": {"a_x": {"type": "list", "description": "x", "default": []}, "y": {}}}}
    found = problems(specs, {"a_x": [1], "a_z": 0}, "a")
    assert len(found) == 6

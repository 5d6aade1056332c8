# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's own description agrees with what is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml


def described(checkout: Path, name: str) -> dict[str, Any]:
    """Read one of the YAML files that describe the collection."""
    content: dict[str, Any] = yaml.safe_load((checkout / name).read_text())
    return content


def test_action_group_lists_every_module(checkout: Path) -> None:
    there = sorted(path.stem for path in (checkout / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
    assert described(checkout, "meta/runtime.yml")["action_groups"] == {"servicenet": there}


def test_oldest_ansible_is_named_in_full(checkout: Path) -> None:
    # An abbreviated version is compared wrongly, and an upper bound would ask for a release with each of Ansible's.
    assert re.fullmatch(r">=\d+\.\d+\.\d+", described(checkout, "meta/runtime.yml")["requires_ansible"])


def test_collection_has_its_name_and_needs_no_other(checkout: Path) -> None:
    galaxy = described(checkout, "galaxy.yml")
    assert (galaxy["namespace"], galaxy["name"], galaxy["dependencies"]) == ("kubenode", "servicenet", {})


def test_readme_and_licence_are_there(checkout: Path) -> None:
    galaxy = described(checkout, "galaxy.yml")
    assert (checkout / galaxy["readme"]).is_file()
    assert [(checkout / "LICENSES" / f"{licence}.txt").is_file() for licence in galaxy["license"]] == [True]


@pytest.mark.parametrize("name", ["kubernetes", "jmespath", "netaddr", "PyYAML"])
def test_tests_use_a_library_that_users_may_have(name: str, checkout: Path) -> None:
    asked = re.search(rf"^{name} >= (\S+)$", (checkout / "meta" / "ee-requirements.txt").read_text(), re.MULTILINE)
    pinned = re.search(
        rf"^{name}==(\S+)$", (checkout / "tests" / "requirements" / "tools.txt").read_text(), re.MULTILINE
    )
    assert asked
    assert pinned
    assert [int(part) for part in asked[1].split(".")] <= [int(part) for part in pinned[1].split(".")]


def test_every_tool_that_is_asked_for_is_pinned(checkout: Path) -> None:
    requirements = checkout / "tests" / "requirements"
    asked = {line.lower() for line in (requirements / "tools.in").read_text().split("\n") if line and line[0] != "#"}
    pinned = [line for line in (requirements / "tools.txt").read_text().split("\n") if line and line[0] != "#"]
    assert [line for line in pinned if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert asked - {line.partition("==")[0].lower() for line in pinned} == set()

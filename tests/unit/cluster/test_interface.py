# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written down twice says the same: options and their documentation, defaults and specs, rights and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kubenode.servicenet.plugins.doc_fragments._cluster import ModuleDocFragment
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.arguments import auth_arguments, auth_options
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.resources import PODS, SNAPSHOT, Resource
from ansible_collections.kubenode.servicenet.plugins.modules import cluster_snapshot

ROLE = Path(__file__).resolve().parents[3] / "roles" / "cluster_snapshot"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_documentation_of_the_connection_is_that_of_its_options() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    arguments = auth_arguments()
    assert set(documented) == set(arguments)
    for name, argument in arguments.items():
        assert (documented[name]["type"], documented[name].get("default")) == (
            argument["type"],
            argument.get("default"),
        )
        for variable in argument["fallback"][1] if "fallback" in argument else ():
            assert f"E({variable})" in " ".join(documented[name]["description"])
    assert arguments["api_key"]["no_log"] is True


def test_an_empty_text_is_no_option() -> None:
    given = {"kubeconfig": "", "context": "", "host": "", "api_key": "", "ca_cert": ""}
    options = auth_options({**given, "validate_certs": True, "timeout": 5})
    assert options[:5] == (None,) * 5
    assert options.timeout == 5.0


def test_defaults_of_the_role_are_those_of_its_specs() -> None:
    specs = load(ROLE / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: spec["default"] for name, spec in specs.items()} == load(ROLE / "defaults" / "main.yml")


def test_every_option_of_the_role_is_in_its_readme() -> None:
    readme = (ROLE / "README.md").read_text()
    for name in load(ROLE / "defaults" / "main.yml"):
        assert f"`{name}`" in readme or f"`{name.replace('cluster_snapshot', '')}`" in readme, name


def test_the_examples_are_tasks_with_options_that_exist() -> None:
    documented = set(yaml.safe_load(cluster_snapshot.DOCUMENTATION)["options"]) | set(auth_arguments())
    for task in yaml.safe_load(cluster_snapshot.EXAMPLES):
        assert set(task["kubenode.servicenet.cluster_snapshot"]) <= documented


@pytest.mark.parametrize(("file", "resources"), [("clusterrole.yaml", SNAPSHOT), ("clusterrole-pods.yaml", (PODS,))])
def test_the_shipped_rights_are_what_is_read(file: str, resources: tuple[Resource, ...]) -> None:
    rules = load(ROLE / "files" / file)["rules"]
    granted = {(group, name) for rule in rules for group in rule["apiGroups"] for name in rule["resources"]}
    assert granted == {(resource.group, resource.plural) for resource in resources}
    assert {verb for rule in rules for verb in rule["verbs"]} == {"list", "watch"}

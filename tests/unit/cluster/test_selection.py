# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which objects are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fixtures import malformed

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.selection import Selection, chosen
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError, OptionError

WEB = malformed.service("web", "shop")
NODE_PORT = malformed.service("edge", "web")
NODE_PORT["spec"]["type"] = "NodePort"
BARE = {"kind": "Service", "metadata": {"name": "bare", "namespace": "shop"}}


def picked(expression: str, services: Sequence[dict[str, Any]] = (WEB, NODE_PORT)) -> tuple[list[str], list[str]]:
    refused: list[ObjectError] = []
    found = chosen(services, (), Selection(expression), False, refused)
    return [raw["metadata"]["name"] for raw in found], [str(wrong) for wrong in refused]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("metadata.namespace == 'shop'", ["web"]),
        ("[?spec.type=='NodePort']", ["edge"]),
        ("[?spec.type!='NodePort'].metadata.name", ["web"]),
        (" [?metadata.labels.tier == 'web'] | [?spec.type == 'NodePort']", ["edge"]),
        ("metadata.labels.tier", ["web", "edge"]),
        ("metadata.labels.other", []),
        ("spec.ports[?port==`80`]", ["web", "edge"]),
        ("spec.ports[?port==`81`]", []),
        ("`0`", ["web", "edge"]),
        ("`{}`", []),
    ],
)
def test_expressions(expression: str, names: list[str]) -> None:
    assert picked(expression) == (names, [])


def test_a_service_of_which_it_can_not_be_asked_is_refused() -> None:
    names, refused = picked("contains(metadata.labels.tier, 'web')", (WEB, BARE))
    assert names == ["web"]
    assert len(refused) == 1
    assert refused[0].startswith("Service shop/bare: select can't be asked of it: ")


@pytest.mark.parametrize("expression", ["[?", "a ==", "nothing(a)("])
def test_a_wrong_expression_is_an_error_of_the_option(expression: str) -> None:
    with pytest.raises(OptionError, match="select is not a JMESPath expression"):
        Selection(expression)


def test_other_kinds_are_not_asked() -> None:
    node = malformed.node("node-a")
    assert list(chosen([node, WEB], (), Selection("`false`"), False, [])) == [node]


def test_namespaces_choose_what_is_in_them() -> None:
    objects = [
        *(malformed.namespace(name) for name in ("shop", "web")),
        malformed.node("node-a"),
        malformed.service_cidr("kubernetes"),
        WEB,
        NODE_PORT,
        malformed.endpoint_slice("web-1", "web", "shop"),
        malformed.endpoint_slice("edge-1", "edge", "web"),
    ]
    found = list(chosen(objects, ["shop"], None, False, []))
    assert [raw["metadata"]["name"] for raw in found] == ["shop", "node-a", "kubernetes", "web", "web-1"]


def test_an_object_without_a_namespace_is_in_default() -> None:
    bare = {"kind": "Service", "metadata": {"name": "x"}}
    assert list(chosen([bare], ["default"], None, False, [])) == [bare]
    assert list(chosen([bare], ["shop"], None, False, [])) == []


def test_a_broken_object_is_left_for_the_refusal_by_name() -> None:
    broken: dict[str, Any] = {"kind": "Service", "metadata": "text"}
    assert list(chosen([broken], ["shop"], None, False, [])) == [broken]


def test_pods_only_if_asked_for() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}}
    assert list(chosen([pod], (), None, False, [])) == []
    assert list(chosen([pod], (), None, True, [])) == [pod]

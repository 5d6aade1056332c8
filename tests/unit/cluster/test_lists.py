# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists: pages, lapsed continue tokens, and answers that are no lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import Answer, Client, ClusterError
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.lists import (
    RESTARTS,
    objects_of,
    read_cluster,
    read_list,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.resources import SERVICE_CIDRS, SERVICES
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError

Handler = Callable[[str, Mapping[str, str]], Answer]


def client_of(handler: Handler) -> Client:
    def transport(
        _method: str, path: str, query: Mapping[str, str], _headers: Mapping[str, str], _body: bytes | None
    ) -> Answer:
        return handler(path, query)

    return Client(transport, "https://198.18.0.1:6443", lambda _seconds: None)


def page(items: list[Any], token: str = "", version: str = "7") -> Answer:
    metadata = {"resourceVersion": version, **({"continue": token} if token else {})}
    return Answer(200, {}, json.dumps({"kind": "ServiceList", "metadata": metadata, "items": items}).encode())


def named(*names: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": name, "managedFields": [{"manager": "x"}]}} for name in names]


def read_names(client: Client, page_size: int = 2) -> list[str]:
    refused: list[ObjectError] = []
    found = read_list(client, SERVICES, "", page_size)
    names = [raw["metadata"]["name"] for raw in objects_of(found, client.server, refused)]
    assert refused == []
    return names


class Paged:
    """A server whose list is replaced when the tokens of the first ``lapses`` tries lapse."""

    def __init__(self, lapses: int) -> None:
        self.lapses = lapses
        self.limits: list[str | None] = []
        self.generation = 0

    def __call__(self, _path: str, query: Mapping[str, str]) -> Answer:
        self.limits.append(query.get("limit"))
        token = query.get("continue")
        if "limit" not in query:
            return page(named("all-1", "all-2", "all-3"))
        if token is None:
            self.generation += 1
            return page(named(f"a{self.generation}", f"b{self.generation}"), f"token{self.generation}")
        if self.generation <= self.lapses:
            return Answer(410, {}, b'{"kind":"Status","message":"The provided continue parameter is too old"}')
        return page(named(f"c{self.generation}"))


def test_pages_are_put_together() -> None:
    server = Paged(0)
    assert read_names(client_of(server)) == ["a1", "b1", "c1"]
    assert server.limits == ["2", "2"]


def test_a_lapsed_token_starts_the_list_again_and_forgets_its_first_pages() -> None:
    assert read_names(client_of(Paged(1))) == ["a2", "b2", "c2"]


def test_a_list_that_lapses_again_and_again_is_read_in_one_piece() -> None:
    server = Paged(99)
    assert read_names(client_of(server)) == ["all-1", "all-2", "all-3"]
    assert server.generation == RESTARTS + 1
    assert server.limits[-1] is None


def test_gone_without_a_token_is_an_error() -> None:
    with pytest.raises(ClusterError, match="410"):
        read_names(client_of(lambda _path, _query: Answer(410, {}, b"")))


def test_a_server_that_repeats_its_page_is_no_endless_list() -> None:
    with pytest.raises(ClusterError, match="the same page of services again and again"):
        read_names(client_of(lambda _path, _query: page(named("a"), "same")))


def test_metadata_after_the_items_is_found() -> None:
    answers = iter(
        (
            Answer(200, {}, b'{"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "t"}}'),
            Answer(200, {}, b'{"items": null, "metadata": {"resourceVersion": "9"}}'),
        )
    )
    client = client_of(lambda _path, _query: next(answers))
    found = read_list(client, SERVICES, "", 500)
    assert found.resource_version == "9"
    assert [raw["kind"] for raw in objects_of(found, client.server, [])] == ["Service"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"7",
        b'{"kind": "Status"}',
        b'{"kind": "Status", "metadata": {}}',
        b'{"metadata": {}, "items": {"a": 1}}',
        b'{"metadata": {}, "items": [',
        b'{"metadata": {}, "items": [' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_list_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(ClusterError, match="no list of them"):
        read_names(client_of(lambda _path, _query: Answer(200, {}, data)))


def test_an_item_that_is_no_object_is_refused_alone() -> None:
    client = client_of(lambda _path, _query: page([5, None, *named("a")]))
    refused: list[ObjectError] = []
    found = list(objects_of(read_list(client, SERVICES, "", 500), client.server, refused))
    assert [raw["metadata"] for raw in found] == [{"name": "a"}]
    assert [str(wrong) for wrong in refused] == ["Service (without metadata): is not an object"] * 2


def test_an_optional_resource_may_be_missing() -> None:
    client = client_of(lambda _path, _query: Answer(404, {}, b"404 page not found"))
    assert read_list(client, SERVICE_CIDRS, "", 500).pages == []
    with pytest.raises(ClusterError, match="not that of a Kubernetes API server"):
        read_list(client, SERVICES, "", 500)


def test_all_missing_rights_are_named_at_once() -> None:
    def answer(path: str, _query: Mapping[str, str]) -> Answer:
        return Answer(403, {}, b"") if path.endswith(("/nodes", "/endpoints")) else page([])

    with pytest.raises(ClusterError) as found:
        read_cluster(client_of(answer), [], False, 500)
    assert "verb list on the resource nodes " in str(found.value)
    assert "verb list on the resource endpoints " in str(found.value)
    assert "services" not in str(found.value)


def test_wrong_credentials_are_said_once() -> None:
    with pytest.raises(ClusterError) as found:
        read_cluster(client_of(lambda _path, _query: Answer(401, {}, b"")), [], False, 500)
    assert str(found.value).count("401") == 1


def test_namespaces_are_listed_one_by_one_and_pods_if_asked_for() -> None:
    paths: list[str] = []

    def answer(path: str, _query: Mapping[str, str]) -> Answer:
        paths.append(path)
        return page([], version=str(len(path)))

    found = read_cluster(client_of(answer), ["shop", "web"], True, 500)
    assert sorted(paths) == sorted(
        ["/api/v1/namespaces", "/api/v1/nodes", "/apis/networking.k8s.io/v1/servicecidrs"]
        + [
            f"/{group}/namespaces/{namespace}/{plural}"
            for namespace in ("shop", "web")
            for group, plural in (
                ("api/v1", "services"),
                ("api/v1", "endpoints"),
                ("api/v1", "pods"),
                ("apis/discovery.k8s.io/v1", "endpointslices"),
            )
        ]
    )
    assert [listed.name for listed in found if listed.resource is SERVICES] == ["shop/services", "web/services"]
    assert all(listed.resource_version for listed in found)

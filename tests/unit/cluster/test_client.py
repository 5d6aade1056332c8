# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests: what is tried again and after how long, and what is said when it does not help."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import (
    ATTEMPTS,
    Answer,
    Client,
    ClusterError,
    ConnectionFailedError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.resources import (
    ENDPOINT_SLICES,
    NODES,
    SERVICES,
)


class Script:
    """A transport that gives prepared answers, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: Answer | ConnectionFailedError) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, bytes | None]] = []
        self.pauses: list[float] = []

    def __call__(
        self, method: str, path: str, _query: Mapping[str, str], _headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        self.asked.append((method, path, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ConnectionFailedError):
            raise answer
        return answer

    def client(self) -> Client:
        return Client(self, "https://198.18.0.1:6443", self.pauses.append)


def status(code: int, message: str = "", **headers: str) -> Answer:
    return Answer(code, headers, json.dumps({"kind": "Status", "message": message}).encode())


OK = Answer(200, {}, b"fine")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again_with_growing_pauses(code: int) -> None:
    script = Script(status(code), status(code), status(code), OK)
    assert script.client().request("list", SERVICES) == b"fine"
    assert script.pauses == [0.5, 1.0, 2.0]


def test_retry_after_is_honoured_but_not_for_ever() -> None:
    script = Script(status(429, **{"retry-after": "7"}), status(503, **{"retry-after": "86400"}), OK)
    script.client().request("list", SERVICES)
    assert script.pauses == [7.0, 60.0]


@pytest.mark.parametrize("when", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "\u00b2", ""])
def test_a_retry_after_that_is_no_number_changes_nothing(when: str) -> None:
    script = Script(status(429, **{"retry-after": when}), OK)
    script.client().request("list", SERVICES)
    assert script.pauses == [0.5]


def test_it_gives_up_in_the_end() -> None:
    script = Script(status(503, "etcd is away"))
    with pytest.raises(
        ClusterError, match=r"can't list services in all namespaces .*\(503\).* It said: etcd is away\.$"
    ) as found:
        script.client().request("list", SERVICES)
    assert found.value.status == 503
    assert len(script.asked) == ATTEMPTS
    assert len(script.pauses) == ATTEMPTS - 1


def test_a_broken_connection_is_tried_again() -> None:
    script = Script(ConnectionFailedError("breaks the connection (reset)", True), OK)
    assert script.client().request("get", NODES, name="node-a") == b"fine"


def test_no_connection_is_said_at_once() -> None:
    script = Script(ConnectionFailedError("can't be reached (Connection refused)", False))
    with pytest.raises(ClusterError, match=r"https://198\.18\.0\.1:6443 can't be reached \(Connection refused\)\.$"):
        script.client().request("list", SERVICES)
    assert script.pauses == []


def test_a_write_that_may_have_been_done_is_not_done_again() -> None:
    for failure in (status(500), ConnectionFailedError("breaks the connection (reset)", True)):
        script = Script(failure)
        with pytest.raises(ClusterError):
            script.client().request("create", ENDPOINT_SLICES, "shop", body={"a": 1})
        assert [(method, body) for method, _path, body in script.asked] == [("POST", b'{"a":1}')]


def test_a_write_that_was_put_off_is_done_again() -> None:
    script = Script(status(429), OK)
    assert script.client().request("update", ENDPOINT_SLICES, "shop", "web-1", body={}) == b"fine"
    assert script.asked[1][:2] == ("PUT", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1")


def test_names_can_not_leave_their_place_in_the_path() -> None:
    assert SERVICES.path("a/../b", "?x#y") == "/api/v1/namespaces/a%2F..%2Fb/services/%3Fx%23y"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (status(401, "Unauthorized"), r"does not accept the credentials \(401\)"),
        (
            status(403, 'User "x" can'),
            r'forbids to list endpointslices\.discovery\.k8s\.io in namespace shop \(403\): grant .* "x" can\.',
        ),
        (Answer(404, {}, b"404 page not found\n"), r"does not serve endpointslices.*Kubernetes 1\.21 or later"),
        (status(400, "bad"), r"answers 400 to list endpointslices.* It said: bad\."),
        (Answer(302, {}, b"<html>login</html>"), r"answers 302 to list endpointslices\S+ in namespace shop\.$"),
    ],
)
def test_refusals_say_what_is_missing(answer: Answer, sentence: str) -> None:
    script = Script(answer)
    with pytest.raises(ClusterError, match=sentence) as found:
        script.client().request("list", ENDPOINT_SLICES, "shop")
    assert found.value.status == answer.status
    assert script.pauses == []


def test_a_hostile_message_stays_on_one_short_line() -> None:
    script = Script(status(400, "a\nb" + "c" * 10_000))
    with pytest.raises(ClusterError) as found:
        script.client().request("list", SERVICES)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600

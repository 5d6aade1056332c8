# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass against an API server in memory: what is written in which order, and what follows an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.endpoints.builders import node, pod, service

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import (
    Answer,
    Client,
    ClusterError,
    ConnectionFailedError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import (
    ROUNDS,
    PassOptions,
    run_pass,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError

ONE_WORKER = PassOptions(workers=1)


class Server:
    """Keeps objects; `refuse` may answer a write instead, or raise."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = {(each["kind"].lower() + "s", each["metadata"]["name"]): each for each in objects}
        self.writes: list[tuple[str, str]] = []
        self.reads = 0
        self.version = 0
        self.refuse = lambda _method, _path, _body: None

    def client(self) -> Client:
        return Client(self, "https://198.18.0.1:6443", lambda _seconds: None)

    def __call__(self, method: str, path: str, _query: Any, _headers: Any, body: bytes | None) -> Answer:
        parts = path.split("/")
        plural = "endpointslices" if "endpointslices" in parts else parts[-1 if method in ("GET", "POST") else -2]
        if method == "GET":
            self.reads += 1
            if parts[-1] == "kube-controller-manager":
                return Answer(404, {}, b"{}")
            names = {"endpoints": "endpointss"}
            items = [
                json.loads(json.dumps(each))
                for (kind, _name), each in self.objects.items()
                if kind == names.get(plural, plural)
            ]
            return Answer(200, {}, json.dumps({"metadata": {}, "items": items}).encode())
        given = json.loads(body or b"{}")
        refused = self.refuse(method, path, given)
        if refused is not None:
            return refused
        name = given["metadata"]["name"] if method == "POST" else parts[-1]
        self.writes.append((method, name))
        key = (plural, name)
        if method == "DELETE":
            self.objects.pop(key)
        else:
            self.version += 1
            given["metadata"].update(uid="uid-" + name, resourceVersion=str(self.version))
            self.objects[key] = given
        return Answer(200, {}, b"{}")


def run(server: Server, options: PassOptions = ONE_WORKER, **more: Any) -> dict[str, Any]:
    return run_pass(server.client(), options, lambda _done, _total: None, lambda _seconds: None, **more)


def answer(status: int, message: str = "no") -> Answer:
    return Answer(status, {}, json.dumps({"message": message}).encode())


def three_services() -> Server:
    return Server(node(), pod(1), *(service(name, selector={"app": "web"}) for name in ("a", "b", "c")))


def test_a_second_pass_sends_no_write() -> None:
    server = three_services()
    assert run(server)["counts"] == {"created": 3, "updated": 0, "deleted": 0}
    written = list(server.writes)
    assert run(server)["changed"] is False
    assert server.writes == written


def broken(item: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    place: Any = item
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return item


# The kind that is wrong -> where, and what stands there instead; each of them ended a pass in an exception.
WRONG_TYPES: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("Service", ("metadata", "name"), ["web"]),
    ("Service", ("spec", "ports", 0, "targetPort"), ["http"]),
    ("Service", ("spec", "ipFamilies"), [{}]),
    ("Pod", ("metadata", "labels"), "app=web"),
    ("Pod", ("metadata", "name"), 7),
    ("Pod", ("metadata", "uid"), ["x"]),
    ("Pod", ("spec", "containers"), [7]),
    ("Node", ("metadata", "name"), {}),
    ("EndpointSlice", ("metadata",), None),
    ("EndpointSlice", ("metadata", "name"), 7),
    ("EndpointSlice", ("metadata", "labels"), ["x"]),
    ("EndpointSlice", ("metadata", "ownerReferences"), ["web"]),
    ("EndpointSlice", ("addressType",), ["IPv4"]),
    ("EndpointSlice", ("ports",), [7]),
    ("EndpointSlice", ("endpoints", 0, "addresses"), 7),
    ("EndpointSlice", ("endpoints", 0, "targetRef"), "pod"),
    ("Endpoints", ("subsets",), [7]),
    ("Endpoints", ("metadata", "annotations"), 7),
]


@pytest.mark.parametrize(("kind", "path", "value"), WRONG_TYPES)
def test_an_object_with_a_value_of_a_wrong_type_is_named(kind: str, path: tuple[str | int, ...], value: Any) -> None:
    web = service("web", ports=[{"port": 80, "targetPort": "http"}])
    server = Server(node(), pod(1, ports=[{"name": "http", "containerPort": 80}]), pod(2, ready=False), web)
    both = ONE_WORKER._replace(write="both")
    run(server, both)
    server.objects["endpointss", "web"] = server.objects.pop(("endpoints", "web"))
    server.objects["pods", "web-2"] = pod(2)
    broken(next(each for each in server.objects.values() if each["kind"] == kind), *path, value=value)
    server.writes.clear()
    with pytest.raises(ClusterError, match=rf"has objects that can't be read\. {kind} ") as caught:
        run(server, both)
    assert str(caught.value).count(kind) == 1
    assert server.writes == []


def test_what_is_no_object_stops_the_pass() -> None:
    """It may be the Service whose records would go for want of one."""
    server = three_services()
    run(server)
    server.writes.clear()

    def without_object(*request: Any) -> Answer:
        given = server(*request)
        return given._replace(data=given.data.replace(b'"items": [{', b'"items": [7, {', 1))

    client = Client(without_object, "https://198.18.0.1:6443", lambda _seconds: None)
    with pytest.raises(ClusterError, match=r"can't be read\. Service \(without metadata\): is not an object"):
        run_pass(client, ONE_WORKER, lambda _done, _total: None)
    assert server.writes == []


@pytest.mark.parametrize("body", [b"[]", b"<html>", b'{"spec": ["holder"]}'])
def test_what_is_no_lease_is_told(body: bytes) -> None:
    server = three_services()

    def strange(method: str, path: str, *rest: Any) -> Answer:
        return Answer(200, {}, body) if path.endswith("kube-controller-manager") else server(method, path, *rest)

    with pytest.raises(ClusterError, match="answers to get a lease with something that is none"):
        run_pass(Client(strange, "https://198.18.0.1:6443"), ONE_WORKER, lambda _done, _total: None)


def test_a_missing_right_stops_everything_and_is_named() -> None:
    server = three_services()
    asked: list[str] = []

    def refuse(method: str, _path: str, _body: dict[str, Any]) -> Answer:
        asked.append(method)
        return answer(403, "forbidden")

    server.refuse = refuse
    with pytest.raises(ClusterError, match=r"0 writes were done, 3 were not.*grant the verb create") as caught:
        run(server)
    assert caught.value.status == 403
    assert asked == ["POST"]


def test_one_refused_object_does_not_stop_the_others() -> None:
    server = three_services()
    server.refuse = lambda _method, _path, body: answer(422, "bad") if body["metadata"]["name"][0] == "b" else None
    with pytest.raises(ClusterError, match=r"2 writes were done, 1 were not.*create EndpointSlice shop/b-.*bad"):
        run(server)
    assert [name[0] for _method, name in server.writes] == ["a", "c"]


@pytest.mark.parametrize(
    "said",
    [
        'endpointslices.discovery.k8s.io "a-1" is forbidden: exceeded quota: few, requested: 1, used: 0, limited: 0',
        'admission webhook "validate.example" denied the request: no',
        "endpointslices.discovery.k8s.io \"a-1\": ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
    ],
)
def test_what_admission_forbids_one_object_does_not_stop_the_others(said: str) -> None:
    server = three_services()
    server.refuse = lambda _method, _path, body: answer(403, said) if body["metadata"]["name"][0] == "a" else None
    with pytest.raises(ClusterError, match=r"2 writes were done, 1 were not.*create EndpointSlice shop/a-"):
        run(server)
    assert [name[0] for _method, name in server.writes] == ["b", "c"]


def test_a_namespace_that_is_being_deleted_stops_nobody_else() -> None:
    server = three_services()
    said = {
        "message": "unable to create new content in namespace shop because it is being terminated",
        "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
    }
    ending = Answer(403, {}, json.dumps(said).encode())
    server.refuse = lambda _method, _path, body: ending if body["metadata"]["name"][0] == "a" else None
    assert run(server)["counts"] == {"created": 2, "updated": 0, "deleted": 0}
    assert [name[0] for _method, name in server.writes] == ["b", "c"]
    assert run(server)["changed"] is False


def test_a_namespace_that_is_gone_takes_its_services_with_it() -> None:
    server = three_services()

    def refuse(_method: str, _path: str, body: dict[str, Any]) -> Answer | None:
        if body["metadata"]["name"][0] != "a":
            return None
        server.objects.pop(("services", "a"), None)
        return answer(404, 'namespaces "shop" not found')

    server.refuse = refuse
    assert run(server)["counts"] == {"created": 2, "updated": 0, "deleted": 0}


@pytest.mark.parametrize("status", [409, 500, 503])
def test_what_may_pass_is_tried_again_after_reading_again(status: int) -> None:
    server = three_services()
    left = [2]

    def refuse(*_request: object) -> Answer | None:
        left[0] -= 1
        return answer(status) if left[0] >= 0 else None

    server.refuse = refuse
    assert run(server)["counts"] == {"created": 3, "updated": 0, "deleted": 0}
    assert len(server.writes) == 3


def test_a_write_that_was_done_although_the_connection_broke_is_not_done_twice() -> None:
    server = three_services()

    def refuse(method: str, path: str, body: dict[str, Any]) -> None:
        server.refuse = lambda *_request: None
        server(method, path, {}, {}, json.dumps(body).encode())
        raise ConnectionFailedError("breaks the connection", True)

    server.refuse = refuse
    assert run(server)["counts"]["created"] == 2
    assert [name[0] for _method, name in server.writes] == ["a", "b", "c"]


def test_what_never_passes_is_given_up() -> None:
    server = three_services()
    server.refuse = lambda *_request: answer(500, "etcd")
    with pytest.raises(ClusterError, match=r"0 writes were done, 3 were not; the next run completes them\..*etcd"):
        run(server)
    assert server.reads == ROUNDS * 6


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    run_pass(three_services().client(), ONE_WORKER, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_deletion_names_what_it_deletes() -> None:
    server = three_services()
    run(server)
    bodies: list[dict[str, Any]] = []
    server.refuse = lambda _method, _path, body: bodies.append(body)
    assert run(server, ONE_WORKER._replace(state="absent"))["counts"]["deleted"] == 3
    assert all(each["preconditions"]["uid"] and each["preconditions"]["resourceVersion"] for each in bodies)


def test_hosts_of_the_inventory() -> None:
    server = Server(service("db", selector=None), service("web"), node())
    hosts = [
        {"address": "198.18.0.1", "hostname": "db-1"},
        {"address": "198.18.0.2", "ports": {"": "8080"}},
        {"address": "FD00::1"},
    ]
    entry = {"service": "db", "namespace": "shop", "probe": "none", "hosts": hosts}
    run(server, ONE_WORKER._replace(inventory=[entry]))
    slices = [each for (kind, _name), each in server.objects.items() if kind == "endpointslices"]
    ours = [each for each in slices if "inventory." in str(each["metadata"]["labels"])]
    assert sorted((each["ports"][0]["port"], each["endpoints"][0]["addresses"][0]) for each in ours) == [
        (80, "198.18.0.1"),
        (8080, "198.18.0.2"),
    ]
    assert all(each["endpoints"][0]["conditions"]["ready"] for each in ours)
    # What is not mentioned stays; an empty list removes it.
    assert run(server)["changed"] is False
    assert run(server, ONE_WORKER._replace(inventory=[]))["counts"]["deleted"] == 2


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"address": "db.example"}, "'db.example' of the host db.example"),
        ({"address": "127.0.0.1", "name": "db-1"}, "'127.0.0.1' of the host db-1 can't be an .*a loopback address"),
        ({"address": "::ffff:198.18.0.1"}, "is not a plain IPv6 address"),
        ({"address": "198.18.0.1", "ports": {"": 0}}, "0 is no port"),
        (
            {"address": "198.18.0.1", "hostname": "db.1"},
            "The host 198.18.0.1 of .*: hostname 'db.1' is not a DNS label",
        ),
        ({"address": "198.18.0.1", "node_name": "Db 1"}, "node_name 'Db 1' is not a DNS name"),
        ({"address": "198.18.0.1", "zone": "a b"}, "zone 'a b' is not a label value"),
    ],
)
def test_hosts_that_cannot_be_endpoints(host: dict[str, Any], message: str) -> None:
    server = Server(service("db", selector=None))
    entry = {"service": "db", "namespace": "shop", "probe": "none", "hosts": [host]}
    with pytest.raises(OptionError, match=message):
        run(server, ONE_WORKER._replace(inventory=[entry]))
    assert server.writes == []


def test_a_port_to_ask_that_is_none_is_refused() -> None:
    # The system would ask port 80.
    entry = {"service": "db", "namespace": "shop", "probe_port": 65616, "hosts": [{"address": "198.18.0.1"}]}
    with pytest.raises(OptionError, match="65616 is no port"):
        run(Server(service("db", selector=None)), ONE_WORKER._replace(inventory=[entry]))


def test_hosts_without_a_port_to_ask_are_a_warning() -> None:
    of_udp = service("dns", selector=None)
    of_udp["spec"]["ports"] = [{"port": 53, "protocol": "UDP"}]
    entry = {"service": "dns", "namespace": "shop", "hosts": [{"address": "198.18.0.1"}, {"address": "198.18.0.2"}]}
    (warning,) = run(Server(of_udp), ONE_WORKER._replace(inventory=[entry]))["warnings"]
    assert warning == (
        "Hosts behind Service shop/dns have no TCP port that could be asked, and count as not ready: 198.18.0.1,"
        " 198.18.0.2. Set probe_port, or probe to none."
    )
    assert run(Server(of_udp), ONE_WORKER._replace(inventory=[{**entry, "probe": "none"}]))["warnings"] == []


def test_a_service_that_cannot_have_hosts_is_a_warning() -> None:
    server = Server(service("web"), node())
    entries = [{"service": name, "namespace": "shop", "probe": "none", "hosts": []} for name in ("web", "none")]
    warnings = run(server, ONE_WORKER._replace(inventory=entries))["warnings"]
    assert warnings == [
        "Service shop/web can't have hosts of the inventory behind it: its endpoints come from elsewhere.",
        "Service shop/none can't have hosts of the inventory behind it: it does not exist.",
    ]

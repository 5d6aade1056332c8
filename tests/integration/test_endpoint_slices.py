# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The endpoints controller against a real API server, beside the real controllers, and when things go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from collection_tree import collections_path
from conformance.endpoints.builders import endpoints, node
from integration.endpoints_lab import (
    BOTH,
    clear,
    client_of,
    plain_pod,
    plain_service,
    published,
    records,
    remove_pod,
    run,
    stop_controllers,
)
from lab import ControlPlane, Lab
from lab.control_plane import Api, has_peers, path_of, peer
from lab.nodes import Node
from lab.playbooks import ansible_playbook, run_playbook
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import Client, ClusterError
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import PassOptions, run_pass

CLUSTER_ROLE = Path(__file__).resolve().parents[2] / "roles" / "service_endpoints" / "files" / "clusterrole.yaml"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
ROLE = yaml.safe_load(CLUSTER_ROLE.read_text(encoding="utf-8"))
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "servicenet-endpoints"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE["metadata"]["name"]},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
}


def granted(rules: list[dict]) -> set[tuple[str, str, str, str]]:
    """(verb, group, resource, name) of all that rules allow."""
    return {
        (verb, group, resource, name)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def wait_for_rules(api: Api, rules: list[dict]) -> None:
    """Back once the server lets the reader do, of all in ROLE, what these rules allow and nothing else."""
    allowed = granted(rules)
    wait_until(lambda: all(api.may("reader", *right) == (right in allowed) for right in granted(ROLE["rules"])))


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The API server, empty but for the namespace shop."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    control_plane.api.create_all([namespace])
    yield control_plane
    clear(control_plane.api)


# --- beside the real controllers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin() -> Iterator[ControlPlane]:
    """An API server with the real controllers."""
    if not has_peers("kube-apiserver", "kube-controller-manager"):
        pytest.skip("kube-controller-manager has not been built (`make peers`)")
    with ControlPlane(controllers=True) as started:
        yield started


def test_a_cluster_with_controllers_of_its_own_is_left_alone(twin: ControlPlane) -> None:
    api = twin.api
    api.create_all([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, node(), plain_service()])
    api.create_all([plain_pod(1)])
    try:
        wait_until(lambda: published(api))
        result = run(client_of(twin))
        assert (result["changed"], result["skipped_for_controller"]) == (False, True)
        assert "endpointslice-controller.k8s.io" in result["warnings"][0]
        assert published(api) == {"10.20.0.2": 1}
        result = run(client_of(twin), PassOptions(beside_controller=True))
        assert result["counts"] == {"created": 1, "updated": 0, "deleted": 0}
        assert published(api) == {"10.20.0.2": 2}
        assert run(client_of(twin), PassOptions(state="absent"))["counts"]["deleted"] == 1
        assert published(api) == {"10.20.0.2": 1}
    finally:
        stop_controllers(twin)
        clear(api)
        twin.start_controllers()


def test_real_controllers_are_recognised_before_they_have_written_anything(twin: ControlPlane) -> None:
    stop_controllers(twin)
    twin.start_controllers(lease=True)
    client = client_of(twin)
    try:
        wait_until(lambda: run(client)["own_controller"])
        result = run(client)
        assert (result["changed"], result["skipped_for_controller"]) == (False, True)
        assert re.match(r"kube-controller-manager runs as \S", result["own_controller"][0])
        assert len(result["own_controller"]) == 1, "there is a record already"
    finally:
        stop_controllers(twin)


def test_a_lease_of_the_real_controllers_counts(plane: ControlPlane) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "kube-controller-manager", "namespace": "kube-system"},
        "spec": {"holderIdentity": "control-1", "renewTime": now, "leaseDurationSeconds": 15},
    }
    plane.api.create_all([plain_service(), ROLE, BINDING])
    plane.api.call("POST", path, lease)
    wait_for_rules(plane.api, ROLE["rules"])
    try:
        result = run(client_of(plane, "reader"))
        assert result["own_controller"] == ["kube-controller-manager runs as control-1."]
        assert records(plane.api) == {}
        old = {"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}}
        plane.api.call("PATCH", path + "/kube-controller-manager", old, "application/merge-patch+json")
        assert run(client_of(plane))["changed"] is True
    finally:
        plane.api.call("DELETE", path + "/kube-controller-manager")
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            plane.api.delete(kind, "", ROLE["metadata"]["name"])


# --- one pass ---------------------------------------------------------------------------------------------------------


def test_check_mode_says_the_same_and_writes_nothing(plane: ControlPlane) -> None:
    plane.api.create_all([node(), plain_service(), plain_service("hand", selector=None), endpoints("hand")])
    plane.api.create_all([plain_pod(number) for number in range(3)])
    before = records(plane.api)
    planned = run(client_of(plane), BOTH._replace(check=True))
    assert records(plane.api) == before
    done = run(client_of(plane))
    assert planned["counts"] == done["counts"] == {"created": 3, "updated": 0, "deleted": 0}
    assert planned["diff"] == done["diff"]
    after = records(plane.api)
    assert run(client_of(plane))["changed"] is False
    assert records(plane.api) == after


def test_one_changed_pod_is_one_write(plane: ControlPlane) -> None:
    plane.api.create_all([node(), plain_service(), *(plain_service(f"other-{number}") for number in range(5))])
    plane.api.create_all([plain_pod(number) for number in range(150)])
    client = client_of(plane)
    run(client, PassOptions())
    before = records(plane.api)
    plane.api.patch(
        "Pod", "shop", "web-7", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "/status"
    )
    result = run(client, PassOptions())
    assert result["counts"] == {"created": 0, "updated": 1, "deleted": 0}
    assert result["services"] == {"total": 1, "names": ["shop/web"]}
    after = records(plane.api)
    assert len([name for name in before if before[name] != after[name]]) == 1


def test_the_cluster_role_is_enough_and_no_rule_of_it_is_too_much(plane: ControlPlane) -> None:
    api, role = plane.api, ROLE
    objects = [node(), plain_service(), plain_service("hand", selector=None), endpoints("hand")]
    api.create_all([*objects, role, BINDING])
    path = path_of("ClusterRole", "", role["metadata"]["name"])

    def set_rules(rules: list[dict]) -> None:
        api.call("PATCH", path, {"rules": rules}, "application/merge-patch+json")
        wait_for_rules(api, rules)

    def work() -> None:
        """Everything that a pass can have to do: create, update and delete records of both kinds."""
        user = client_of(plane, "reader")
        api.create_all([plain_pod(1)])
        run(user)
        remove_pod(api, "shop", "web-1")
        run(user)
        run(user, PassOptions(state="absent"))

    try:
        wait_for_rules(api, role["rules"])
        work()
        for number, rule in enumerate(role["rules"]):
            others = role["rules"][:number] + role["rules"][number + 1 :]
            if "finalizers" in str(rule["resources"]) or "leases" in rule["resources"]:
                continue
            for part in ("resources", "verbs"):
                for left_out in rule[part]:
                    set_rules([*others, {**rule, part: [each for each in rule[part] if each != left_out] or ["none"]}])
                    with pytest.raises(ClusterError, match="forbids to"):
                        work()
                    set_rules(role["rules"])
                    run(client_of(plane), PassOptions(state="absent"))
                    if any(item["metadata"]["name"] == "web-1" for item in api.list("Pod", "shop")):
                        remove_pod(api, "shop", "web-1")
    finally:
        for kind, name in (("ClusterRoleBinding", "servicenet-endpoints"), ("ClusterRole", role["metadata"]["name"])):
            api.delete(kind, "", name)


@pytest.mark.usefixtures("control_plane")
def test_owners_may_be_named_where_the_api_server_guards_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the admission plugin OwnerReferencesPermissionEnforcement, which some distributions switch on."""
    program = tmp_path / "kube-apiserver"
    flag = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
    program.write_text(f'#!/bin/sh\nexec {peer("KUBE_APISERVER", "kube-apiserver")} "$@" {flag}\n')
    program.chmod(0o755)
    monkeypatch.setenv("KUBE_APISERVER", str(program))
    without = {**ROLE, "rules": [rule for rule in ROLE["rules"] if "finalizers" not in str(rule["resources"])]}
    objects = [node(), plain_service(), plain_service("hand", selector=None), endpoints("hand"), without, BINDING]
    with ControlPlane() as guarded:
        api = guarded.api
        api.create_all([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, *objects])
        wait_for_rules(api, without["rules"])
        with pytest.raises(ClusterError, match="blockOwnerDeletion"):
            run(client_of(guarded, "reader"))
        path = path_of("ClusterRole", "", ROLE["metadata"]["name"])
        api.call("PATCH", path, {"rules": ROLE["rules"]}, "application/merge-patch+json")
        wait_for_rules(api, ROLE["rules"])
        run(client_of(guarded, "reader"))
        assert run(client_of(guarded))["changed"] is False


# --- when things go wrong ---------------------------------------------------------------------------------------------


def interrupting(client: Client, method: str, action, times: int = 1) -> Client:
    """A client that lets something happen right before its first requests with a method."""
    transport, left = client._transport, [times]

    def wrapped(*request):
        if request[0] == method and left[0]:
            left[0] -= 1
            action(*request)
        return transport(*request)

    return Client(wrapped, client.server, lambda _seconds: None)


def test_a_conflict_is_read_again_and_nothing_of_the_other_is_lost(plane: ControlPlane) -> None:
    api = plane.api
    api.create_all([node(), plain_service(), plain_pod(1), plain_pod(2)])
    run(client_of(plane))
    remove_pod(api, "shop", "web-2")

    def meddle(_method: str, path: str, *_rest: object) -> None:
        api.call("PATCH", path, {"metadata": {"annotations": {"note": "mine"}}}, "application/merge-patch+json")

    result = run(interrupting(client_of(plane), "PUT", meddle))
    assert result["counts"] == {"created": 0, "updated": 2, "deleted": 0}
    assert published(api) == {"10.20.0.2": 1}
    noted = [
        item["metadata"]["name"]
        for kind in ("EndpointSlice", "Endpoints")
        for item in api.list(kind, "shop")
        if item["metadata"].get("annotations", {}).get("note") == "mine"
    ]
    assert len(noted) == 1


def test_two_passes_at_once_create_nothing_twice(plane: ControlPlane) -> None:
    plane.api.create_all([node(), plain_service(), plain_pod(1)])

    def overtake(*_request: object) -> None:
        run(client_of(plane), PassOptions())

    result = run(interrupting(client_of(plane), "POST", overtake), PassOptions())
    assert result["changed"] is False
    assert published(plane.api) == {"10.20.0.2": 1}


def _large(api: Api, services: int) -> None:
    """Services with two slices of records each, wanted by Pods that all of them select."""
    api.create_all(
        [node(), *(plain_service(f"web-{number:03}", selector={"app": "web"}) for number in range(services))]
    )
    api.create_all([plain_pod(number) for number in range(120)])


def _all_once(api: Api, services: int) -> None:
    for number in range(services):
        assert published(api, f"web-{number:03}") == {f"10.20.0.{each + 1}": 1 for each in range(120)}
    assert len(api.list("EndpointSlice", "shop")) == 2 * services


def test_an_api_server_that_goes_away_in_the_middle(plane: ControlPlane) -> None:
    _large(plane.api, 40)
    client = client_of(plane)
    done: list[int] = []

    def progress(number: int, _total: int) -> None:
        done.append(number)
        if number == 25:
            plane.stop_api()

    try:
        with pytest.raises(ClusterError, match=r"\d+ writes were done"):
            run_pass(client, PassOptions(), progress, lambda _seconds: None)
    finally:
        plane.start_api()
    assert 25 <= len(done) < 80
    assert run(client_of(plane), PassOptions())["changed"] is True
    _all_once(plane.api, 40)
    assert run(client_of(plane), PassOptions())["changed"] is False


# It goes no further than it is told: who kills it may be late.
KILLED = """
import sys, threading
sys.path[:0] = json_path
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.connection import Options, connect
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import PassOptions, run_pass
def progress(done, _total):
    print(done, flush=True)
    if done == int(sys.argv[2]):
        threading.Event().wait()
run_pass(connect(Options(kubeconfig=sys.argv[1])), PassOptions(), progress)
"""


@pytest.mark.parametrize("after", [1, 30, 61])
def test_a_killed_pass_is_completed_by_the_next(plane: ControlPlane, after: int) -> None:
    _large(plane.api, 40)
    script = KILLED.replace("json_path", json.dumps(sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(plane.kubeconfig()), str(after)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= after:
            break
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(plane.api.list("EndpointSlice", "shop")) < 80
    assert run(client_of(plane), PassOptions())["changed"] is True
    _all_once(plane.api, 40)
    assert run(client_of(plane), PassOptions())["changed"] is False


def test_one_refused_object_stops_only_its_own_service(plane: ControlPlane) -> None:
    api = plane.api
    api.create_all([node(), plain_service("a"), plain_service("web"), plain_service("z"), plain_pod(1)])
    client = client_of(plane)
    transport = client._transport

    def refusing(method, path, query, headers, body):
        if method == "POST" and b'"a-' in (body or b""):
            body = body.replace(b'"addressType":"IPv4"', b'"addressType":"IPv5"')
        return transport(method, path, query, headers, body)

    with pytest.raises(ClusterError, match=r"2 writes were done, 1 were not.*create EndpointSlice shop/a-"):
        run(Client(refusing, client.server), PassOptions())
    assert published(api) == {"10.20.0.2": 1}
    assert run(client, PassOptions())["services"]["names"] == ["shop/a"]


def test_a_full_quota_stops_no_other_namespace(plane: ControlPlane) -> None:
    api = plane.api
    api.create_all([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "full"}}, node()])
    api.create_all([plain_service("a", namespace="full"), plain_service("web"), plain_pod(1)])
    quotas, hard = "/api/v1/namespaces/full/resourcequotas", {"count/endpointslices.discovery.k8s.io": "0"}
    made = api.call("POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    # Nobody runs here who would count.
    api.call("PUT", f"{quotas}/none/status", {**made, "status": {"hard": hard, "used": hard}})
    try:
        with pytest.raises(
            ClusterError, match=r"1 writes were done, 1 were not.*EndpointSlice full/a-.*exceeded quota"
        ):
            run(client_of(plane), PassOptions(workers=1))
        assert published(api) == {"10.20.0.2": 1}
    finally:
        api.call("DELETE", f"{quotas}/none")
        api.delete("Service", "full", "a")


def test_a_namespace_that_is_being_deleted_stops_no_other(plane: ControlPlane) -> None:
    api = plane.api
    ending = path_of("Namespace", "", "ending")
    api.create_all([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ending"}}, node()])
    api.create_all([plain_service("a", namespace="ending"), plain_service("web"), plain_pod(1)])
    # Nobody runs here who would complete that.
    api.call("DELETE", ending)
    try:
        assert run(client_of(plane), PassOptions())["services"]["names"] == ["shop/web"]
        assert published(api) == {"10.20.0.2": 1}
        assert run(client_of(plane), PassOptions())["changed"] is False
    finally:
        api.delete("Service", "ending", "a")
        api.call("PUT", f"{ending}/finalize", {**api.call("GET", ending), "spec": {"finalizers": []}})


# --- the playbook -----------------------------------------------------------------------------------------------------


class Played(NamedTuple):
    """`changed`: how many tasks changed something."""

    changed: int
    output: str


class Playbook:
    """The playbook endpoints, run on a node of the lab, from which the Pods can be reached."""

    def __init__(self, where: Node, inventory: Path, variables: dict) -> None:
        self._where, self._inventory, self._variables = where, inventory, variables

    def __call__(self, *options: str, **more: object) -> Played:
        done = self._where.run(
            [
                ansible_playbook(),
                "kubenode.servicenet.endpoints",
                f"--inventory={self._inventory}",
                "--extra-vars",
                json.dumps({**self._variables, **more}),
                *options,
            ],
            env={"ANSIBLE_COLLECTIONS_PATH": str(collections_path()), "ANSIBLE_NOCOLOR": "1"},
        )
        found = re.search(r"^localhost\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)
        assert found, done.stdout
        return Played(int(found.group(1)), done.stdout)


def test_the_playbook_publishes_hosts_that_answer(plane: ControlPlane, lab: Lab, tmp_path: Path) -> None:
    """One answers, the other one does not listen on its port."""
    plane.api.create_all(
        [
            node("node-a"),
            plain_service("db", selector=None, ports=[{"name": "http", "port": 80, "targetPort": 8080}]),
            plain_service(),
            plain_pod(1),
        ]
    )
    server = lab.reach("node-a", plane)
    config = plane.kubeconfig(path=tmp_path / "kubeconfig", server=server)
    hosts = {
        "one": {"ansible_host": lab.pods["pod-a1"].ips[0], "service_endpoints_zone": "zone-1"},
        "two": {"service_endpoints_address": lab.pods["pod-b1"].ips[0], "service_endpoints_ports": {"http": 8089}},
    }
    inventory = {
        "all": {
            "hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}},
            "children": {"databases": {"hosts": hosts}},
        }
    }
    file = tmp_path / "inventory.yml"
    file.write_text(json.dumps(inventory), encoding="utf-8")
    variables = {
        "service_endpoints_kubeconfig": str(config),
        "service_endpoints_from_inventory": [{"service": "db", "namespace": "shop", "group": "databases"}],
    }
    played = Playbook(lab.node("node-a"), file, variables)

    checked = played("--check", "--diff")
    assert checked.changed == 1, checked.output
    assert "shop/db EndpointSlice" in checked.output
    assert records(plane.api) == {}
    first = played()
    assert first.changed == 1, first.output
    (written,) = (
        item
        for item in plane.api.list("EndpointSlice", "shop")
        if item["metadata"]["labels"][MANAGED_BY] == "inventory.servicenet.kubenode.io"
        and item["ports"][0]["port"] == 8080
    )
    (ready,) = written["endpoints"]
    assert ready["addresses"] == [lab.pods["pod-a1"].ips[0]]
    assert ready["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert ready["zone"] == "zone-1"
    listed = {
        each["addresses"][0]: each["conditions"]["ready"]
        for item in plane.api.list("EndpointSlice", "shop")
        if item["metadata"]["labels"]["kubernetes.io/service-name"] == "db"
        for each in item["endpoints"]
    }
    assert listed == {lab.pods["pod-a1"].ips[0]: True, lab.pods["pod-b1"].ips[0]: False}
    assert published(plane.api) == {"10.20.0.2": 1}
    second = played()
    assert second.changed == 0, second.output
    assert played(service_endpoints_from_inventory=[]).changed == 1
    assert published(plane.api, "db") == {}
    assert played(service_endpoints_state="absent").changed == 1
    assert records(plane.api) == {}


def test_the_playbook_shows_how_far_it_is(plane: ControlPlane, tmp_path: Path) -> None:
    number = 510
    plane.api.create_all(plain_service(f"web-{each}") for each in range(number))
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    file = tmp_path / "inventory.yml"
    file.write_text(json.dumps({"all": {"hosts": {"localhost": host}}}), encoding="utf-8")
    variables = {"service_endpoints_kubeconfig": str(plane.kubeconfig())}
    played = run_playbook("endpoints", file, variables, [])
    lines = [line for line in played.output.splitlines() if line.endswith(" endpoint records written")]
    assert lines == [f"500 of {number} endpoint records written", f"{number} of {number} endpoint records written"]
    assert played.changed == {"localhost": 1}
    assert len(plane.api.list("EndpointSlice", "shop")) == number
    again = run_playbook("endpoints", file, variables, [])
    assert again.changed == {"localhost": 0}
    assert "records written" not in again.output

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module and the role cluster_snapshot against a real API server: rights, outages, pages, check mode."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.snapshot import fill, run_module
from fixtures import malformed
from fixtures.refreshes import refresh_options
from lab import ControlPlane
from lab.control_plane import free_port, path_of
from lab.playbooks import PlaybookRun, run_playbook

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import ClusterError
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.connection import Options as Auth
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.refresh import Options, refresh
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.stored import load_file
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import GuardError

CLUSTER_ROLES = Path(__file__).resolve().parents[2] / "roles" / "cluster_snapshot" / "files"
LIMIT_SECONDS, LIMIT_MEBIBYTES = 5.0, 400.0


@pytest.fixture(scope="module")
def filled(control_plane: ControlPlane) -> ControlPlane:
    """A control plane with 20 Services of two ready endpoints each, and `kubernetes`."""
    fill(control_plane, 20)
    return control_plane


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "snapshot.jsonl.gz"


def options(plane: ControlPlane, dest: Path, user: str = "admin", **given: Any) -> Options:
    auth = Auth(
        host=f"https://127.0.0.1:{plane.port}", api_key=plane.token(user), ca_cert=str(plane.certificate), timeout=120
    )
    return refresh_options(dest, **{"auth": auth, **given})


def refused(wanted: Options) -> str:
    """What the refresh says when it fails; it must leave the old snapshot alone."""
    dest = Path(wanted.dest)
    before = {path: path.read_bytes() for path in dest.parent.glob("*")}
    with pytest.raises(ClusterError) as found:
        refresh(wanted)
    assert {path: path.read_bytes() for path in dest.parent.glob("*")} == before
    return str(found.value)


# ---------------------------------------------------------------------------------------------------------- rights


class Rights:
    """The ClusterRoles of the role, given to a user of its own, and what is taken away from them."""

    def __init__(self, plane: ControlPlane, user: str) -> None:
        self.plane, self.user = plane, user

    def give(self, *files: str) -> None:
        """Creates the roles as they are shipped, and binds them."""
        for file in files:
            role = yaml.safe_load((CLUSTER_ROLES / file).read_text())
            name = role["metadata"]["name"]
            self.plane.api.create(role)
            self.plane.api.create(
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": f"{self.user}-{name}"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}],
                }
            )

    def set_rules(self, rules: list[dict[str, Any]]) -> None:
        """Replaces the rules of the first role."""
        path = path_of("ClusterRole", name="servicenet-snapshot")
        role = self.plane.api.call("GET", path)
        self.plane.api.call("PUT", path, {**role, "rules": rules})

    def take_back(self) -> None:
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            for found in self.plane.api.list(kind):
                name = found["metadata"]["name"]
                if "servicenet-snapshot" in name:
                    self.plane.api.delete(kind, "", name)


@pytest.fixture
def rights(filled: ControlPlane) -> Iterator[Rights]:
    made = Rights(filled, "reader")
    yield made
    made.take_back()


def eventually(check: Callable[[], Any], seconds: float = 120) -> Any:
    """What ``check`` returns without failing; the authorizer of an API server learns of roles a moment later."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, ClusterError, pytest.fail.Exception):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def one_right_less(rules: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(what is missing, the other rules) for each resource of the rules."""
    for number, rule in enumerate(rules):
        for resource in rule["resources"]:
            others = copy.deepcopy(rules)
            others[number]["resources"].remove(resource)
            group = rule["apiGroups"][0]
            yield f"{resource}.{group}" if group else resource, [other for other in others if other["resources"]]


def test_the_shipped_role_suffices_and_each_right_of_it_is_needed(rights: Rights, dest: Path) -> None:
    wanted = options(rights.plane, dest, "reader")
    assert "grant the verb list on the resource services to the user" in refused(wanted)
    rights.give("clusterrole.yaml")
    result = eventually(lambda: refresh(wanted))
    assert result["counts"]["services"] == 21
    rules = yaml.safe_load((CLUSTER_ROLES / "clusterrole.yaml").read_text())["rules"]
    assert all(rule["verbs"] == ["list", "watch"] for rule in rules)
    found = []
    for missing, others in one_right_less(rules):
        rights.set_rules(others)
        said = eventually(lambda: refused(wanted))
        assert f"(403): grant the verb list on the resource {missing} to the user." in said
        assert said.count("(403)") == 1
        assert 'User "reader" cannot list resource' in said
        found.append(missing)
        rights.set_rules(rules)
        eventually(lambda: refresh(wanted))
    core = ["endpoints", "namespaces", "nodes", "services"]
    assert sorted(found) == sorted([*core, "endpointslices.discovery.k8s.io", "servicecidrs.networking.k8s.io"])


def test_pods_need_their_own_role(rights: Rights, dest: Path) -> None:
    wanted = options(rights.plane, dest, "reader", pods=True)
    rights.give("clusterrole.yaml")
    eventually(lambda: refresh(options(rights.plane, dest, "reader")))
    assert "the resource pods to the user" in refused(wanted)
    rights.give("clusterrole-pods.yaml")
    eventually(lambda: refresh(wanted))


# --------------------------------------------------------------------------------------------------------- outages


def test_a_wrong_token_is_said(filled: ControlPlane, dest: Path) -> None:
    refresh(options(filled, dest))
    said = refused(options(filled, dest, auth=options(filled, dest).auth._replace(api_key="nobody-knows-it")))
    assert "does not accept the credentials (401)" in said
    assert "nobody-knows-it" not in said


def test_a_certificate_of_another_ca_is_said(filled: ControlPlane, dest: Path, tmp_path: Path) -> None:
    refresh(options(filled, dest))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "1",
         "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    auth = options(filled, dest).auth
    said = refused(options(filled, dest, auth=auth._replace(ca_cert=str(tmp_path / "ca.crt"))))
    assert "has no certificate that can be trusted" in said
    assert "certificate verify failed" in said
    assert "give its CA with ca_cert" in said
    other_name = auth._replace(host=f"https://127.0.0.2:{filled.port}")
    assert "127.0.0.2" in refused(options(filled, dest, auth=other_name))
    assert not refresh(options(filled, dest, auth=auth._replace(ca_cert=None, validate_certs=False)))["changed"]


def test_nobody_there_is_said(filled: ControlPlane, dest: Path) -> None:
    refresh(options(filled, dest))
    auth = options(filled, dest).auth._replace(host=f"https://127.0.0.1:{free_port()}")
    assert "can't be reached (Connection refused)" in refused(options(filled, dest, auth=auth))


def test_a_kubeconfig_reads_the_same(filled: ControlPlane, dest: Path) -> None:
    digest = refresh(options(filled, dest))["digest"]
    found = refresh(options(filled, dest, auth=Auth(kubeconfig=str(filled.kubeconfig()), context="lab")))
    assert (found["changed"], found["digest"]) == (False, digest)


# ------------------------------------------------------------------------------------------------ pages and changes


def test_small_pages_give_the_same_snapshot(filled: ControlPlane, dest: Path) -> None:
    digest = refresh(options(filled, dest))["digest"]
    assert refresh(options(filled, dest, page_size=3))["digest"] == digest
    shop = refresh(options(filled, dest, namespaces=["shop"], page_size=7))
    assert shop["services"]["removed"]["names"] == ["default/kubernetes"]
    assert shop["counts"]["ready_endpoints"] == 40
    assert set(shop["resource_versions"]) == {
        "namespaces", "nodes", "servicecidrs", "shop/services", "shop/endpoints", "shop/endpointslices",
    }  # fmt: skip


def test_every_page_is_of_one_moment_while_objects_change(filled: ControlPlane, dest: Path) -> None:
    """Services come and go in a fixed order; a snapshot that mixed two moments would show a gap in it."""
    stop = threading.Event()
    made: list[str] = []
    api = filled.api

    def churn() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            service = malformed.service(f"churn-{number:05}")
            del service["spec"]["clusterIP"], service["spec"]["clusterIPs"]
            api.create(service)
            made.append(service["metadata"]["name"])
            if number >= 5:
                api.delete("Service", "shop", f"churn-{number - 5:05}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        deadline = time.monotonic() + 300
        while len(made) < 40 and thread.is_alive() and time.monotonic() < deadline:
            refresh(options(filled, dest, page_size=2))
            services, wrong = load_file(str(dest)).services()
            assert wrong == []
            names = [service.name for service in services]
            assert {f"good-{number}" for number in range(20)} <= set(names)
            numbers = [int(name.split("-")[1]) for name in names if name.startswith("churn-")]
            assert numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else True
            assert len(numbers) <= 6
    finally:
        stop.set()
        thread.join()
        for service in api.list("Service", "shop"):
            if service["metadata"]["name"].startswith("churn-"):
                api.delete("Service", "shop", service["metadata"]["name"])
    assert len(made) >= 40


def test_the_guard_stands_before_a_cluster_that_lost_its_services(filled: ControlPlane, dest: Path) -> None:
    refresh(options(filled, dest))
    before = dest.read_bytes()
    with pytest.raises(GuardError, match="lacks 20 of 21 Services"):
        refresh(options(filled, dest, namespaces=["default"]))
    assert dest.read_bytes() == before


# ---------------------------------------------------------------------------------------------------------- watches


def test_a_real_server_tells_what_happened_since(filled: ControlPlane, dest: Path) -> None:
    wanted = options(filled, dest)
    first = refresh(wanted)
    assert refresh(wanted)["read_by"] == "watch"
    path = path_of("Service", "shop", "good-3")
    for body, read_by in (
        ({"metadata": {"annotations": {"somebody/note": "x"}}}, "watch"),
        ({"spec": {"sessionAffinity": "ClientIP"}}, "list"),
        ({"spec": {"sessionAffinity": "None"}}, "list"),
    ):
        # At once: what was changed before the run is seen by it.
        filled.api.call("PATCH", path, body, "application/merge-patch+json")
        found = refresh(wanted)
        assert found["read_by"] == read_by, body
        assert found["changed"] == (read_by == "list")
    assert found["digest"] == first["digest"]
    after = refresh(wanted)
    assert (after["read_by"], after["changed"]) == ("watch", False)
    assert after["resource_versions"]["services"] != first["resource_versions"]["services"]


def test_a_server_that_was_set_back_is_read_anew(filled: ControlPlane, dest: Path) -> None:
    """What a backup of etcd does: the versions that were noted are still to come."""
    wanted = options(filled, dest)
    refresh(wanted)
    note = Path(f"{dest}.source.json")
    told = json.loads(note.read_text())
    later = {name: str(int(version) + 1000) for name, version in told["resource_versions"].items()}
    note.write_text(json.dumps({**told, "resource_versions": later}))
    filled.api.create(malformed.service("since", "default", 4000))
    try:
        found = refresh(wanted)
        assert (found["read_by"], found["services"]["added"]["names"]) == ("list", ["default/since"])
    finally:
        filled.api.delete("Service", "default", "since")


# -------------------------------------------------------------------------------------------------------- the role

SITE = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: kubenode.servicenet.cluster_snapshot
        - ansible.builtin.stat:
            path: "{{ cluster_snapshot_node_path }}"
          register: found
        - ansible.builtin.copy:
            content: "{{ {'path': cluster_snapshot_node_path, 'checksum': found.stat.checksum} | to_json }}"
            dest: "{{ report }}/{{ inventory_hostname }}.json"
            mode: "0644"
          check_mode: false
      always:
        - ansible.builtin.include_role:
            name: kubenode.servicenet.cluster_snapshot
            tasks_from: cleanup
        - ansible.builtin.copy:
            content: "{{ cluster_snapshot_node_path }}"
            dest: "{{ report }}/{{ inventory_hostname }}.after"
            mode: "0644"
          check_mode: false
"""


class Site:
    """A playbook with the role on two nodes that are directories of this machine."""

    def __init__(self, directory: Path, plane: ControlPlane) -> None:
        self.directory = directory
        self.report = directory / "report"
        self.temporary = directory / "tmp"
        for made in (self.report, self.temporary):
            made.mkdir()
        (directory / "site.yml").write_text(SITE)
        hosts = {
            name: {"cluster_snapshot_node_path": str(self.path(name)), "ansible_connection": "local"}
            for name in ("node-a", "node-b")
        }
        self.inventory = directory / "inventory.json"
        # The system's Python has none of the libraries: what reads the cluster must not take it from the inventory.
        everywhere = {"ansible_python_interpreter": "/usr/bin/python3"}
        self.inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": everywhere}}))
        self.variables = {
            "cluster_snapshot_kubeconfig": str(plane.kubeconfig()),
            "cluster_snapshot_path": str(directory / "controller" / "snapshot.jsonl.gz"),
            "report": str(self.report),
        }

    def path(self, node: str) -> Path:
        return self.directory / node / "snapshot.jsonl.gz"

    def run(self, *flags: str, **variables: Any) -> PlaybookRun:
        return run_playbook(
            str(self.directory / "site.yml"), self.inventory, {**self.variables, **variables}, list(flags)
        )

    def files(self) -> dict[Path, bytes]:
        """Every file of the nodes and the controller, but for the note of when it was read."""
        roots = (self.directory / "node-a", self.directory / "node-b", self.directory / "controller", self.temporary)
        found = [path for root in roots for path in root.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in found if not path.name.endswith(".source.json")}

    def seen(self, node: str) -> dict[str, str]:
        """What the roles after this one would have seen."""
        return dict(json.loads((self.report / f"{node}.json").read_text()))


@pytest.fixture
def site(filled: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path, filled)
    monkeypatch.setenv("TMPDIR", str(made.temporary))
    return made


def test_check_mode_on_nodes_never_touched_then_the_real_run_then_nothing(site: Site) -> None:
    checked = site.run("--check", "--diff")
    assert checked.rc == 0, checked.output
    assert site.files() == {}
    assert "+ shop/good-7" in checked.output
    assert "10.128." not in checked.output
    scratch = {node: site.seen(node) for node in ("node-a", "node-b")}
    assert all(str(site.temporary) in seen["path"] for seen in scratch.values())
    assert scratch["node-a"]["path"] != scratch["node-b"]["path"]
    assert (site.report / "node-a.after").read_text() == str(site.path("node-a"))

    real = site.run("--diff")
    assert real.rc == 0, real.output
    assert "+ shop/good-7" in real.output
    contents = {site.path(node).read_bytes() for node in ("node-a", "node-b")}
    assert len(contents) == 1
    assert site.path("node-b").stat().st_mode & 0o777 == 0o640
    for node in ("node-a", "node-b"):
        assert site.seen(node) == {"path": str(site.path(node)), "checksum": scratch[node]["checksum"]}
    files = site.files()

    again = site.run("--diff")
    assert again.rc == 0, again.output
    assert "shop/good" not in again.output
    assert site.files() == files
    # The test's own reports are all that changes: one before and one after, only where they differ.
    assert again.changed["node-b"] == 0
    assert again.changed["node-a"] == 0


def test_a_cluster_that_can_not_be_read_leaves_the_nodes_alone(site: Site) -> None:
    assert site.run().rc == 0
    files = site.files()
    for variables in (
        {"cluster_snapshot_api_key": "nobody-knows-it"},
        {"cluster_snapshot_host": f"https://127.0.0.1:{free_port()}"},
        {"cluster_snapshot_namespaces": ["default"]},
    ):
        for flags in ((), ("--check",)):
            failed = site.run(*flags, **variables)
            assert failed.rc != 0
            assert "nobody-knows-it" not in failed.output
            assert site.files() == files
    assert "20 of 21 Services" in failed.output


def test_the_last_snapshot_is_handed_out_without_the_api_server(site: Site) -> None:
    assert site.run().rc == 0
    site.path("node-b").unlink()
    found = site.run(cluster_snapshot_source="file", cluster_snapshot_host="https://127.0.0.1:1")
    assert found.rc == 0, found.output
    assert site.path("node-b").read_bytes() == site.path("node-a").read_bytes()


# ------------------------------------------------------------------------------------ last: these end the API server


def test_time_and_memory(filled: ControlPlane, dest: Path, full_figures: bool) -> None:
    """10,000 Services and slices in the full figures; `make test` loads a tenth, and asks for the processor's time."""
    services = 10_000 if full_figures else 1_000
    objects = [raw for raw in malformed.good(services) if raw["metadata"].get("namespace") == "shop"]
    for raw in objects:
        raw["metadata"]["namespace"] = "many"
        raw.get("spec", {}).pop("clusterIP", None)
        raw.get("spec", {}).pop("clusterIPs", None)
    filled.api.create_all([malformed.namespace("many"), *objects])
    runs = [run_module("cluster_snapshot", kubeconfig=str(filled.kubeconfig()), dest=str(dest)) for _run in range(2)]
    assert runs[0].result["counts"]["services"] >= services
    assert runs[0].result["changed"]
    assert not runs[1].result["changed"]
    if full_figures:
        assert min(run.seconds for run in runs) <= LIMIT_SECONDS
    # Other tests may share the processor. To load the library kubernetes takes a second of its own.
    assert min(run.cpu_seconds for run in runs) <= 1.5 + LIMIT_SECONDS * services / 10_000
    assert max(run.mebibytes for run in runs) <= LIMIT_MEBIBYTES


def test_an_outage_leaves_the_snapshot_and_ends_by_itself(filled: ControlPlane, dest: Path) -> None:
    digest = refresh(options(filled, dest))["digest"]
    filled.stop_api()
    try:
        assert "can't be reached" in refused(options(filled, dest))
    finally:
        filled.start_api()
    assert refresh(options(filled, dest))["digest"] == digest


def test_a_server_that_began_anew_does_not_know_and_is_listed(filled: ControlPlane, dest: Path) -> None:
    wanted = options(filled, dest)
    digest = refresh(wanted)["digest"]
    note = Path(f"{dest}.source.json")
    told = json.loads(note.read_text())
    note.write_text(json.dumps({**told, "resource_versions": dict.fromkeys(told["resource_versions"], "1")}))
    filled.stop_api()
    filled.start_api()
    found = refresh(wanted)
    assert (found["read_by"], found["digest"]) == ("list", digest)
    assert refresh(wanted)["read_by"] == "watch"

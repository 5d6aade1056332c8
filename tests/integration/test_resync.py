# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `resync` on two nodes: what it repairs and in how few tasks, and an API server that is down."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lab import ControlPlane, Lab
from lab.cluster import manifest_objects
from lab.open_files import times_open
from lab.playbooks import PlaybookRun
from lab.waiting import wait_until

WEB = "10.96.0.10"
BUILT_IN = ("default", "kube-system")


class Cluster:
    """The lab with an API server that holds its manifests, endpoints included."""

    def __init__(self, lab: Lab, plane: ControlPlane) -> None:
        self.lab, self.plane = lab, plane
        self.inventory = lab.inventory(
            cluster_snapshot_source="cluster",
            cluster_snapshot_kubeconfig=str(plane.kubeconfig()),
            service_endpoints_kubeconfig=str(plane.kubeconfig()),
            service_proxy_mode="nftables",
        )
        self.note = Path(lab.directory / "snapshot.jsonl.gz.source.json")

    def resync(self, *options: str, check: bool = True, **variables: Any) -> PlaybookRun:
        return self.lab.playbook("resync", variables, *options, inventory=self.inventory, check=check)

    def who(self) -> set[str]:
        """Who answers behind shop/web, from a Pod of each node."""
        found: Counter[str] = Counter()
        for client in ("pod-a3", "pod-b3"):
            answers = self.lab.probe(client, WEB, 9000, count=40, timeout=0.3)
            found += answers.who + answers.failures
        return set(found)

    def _slice_of_web(self) -> str:
        """The path of the EndpointSlice that holds its IPv4 endpoints."""
        (name,) = [
            one["metadata"]["name"]
            for one in self.plane.api.list("EndpointSlice", "shop")
            if one["metadata"]["labels"].get("kubernetes.io/service-name") == "web" and one["addressType"] == "IPv4"
        ]
        return f"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/{name}"

    def behind_web(self) -> list[dict[str, Any]]:
        """The IPv4 endpoints of shop/web in the API."""
        return list(self.plane.api.call("GET", self._slice_of_web())["endpoints"])

    def put_behind_web(self, endpoints: list[dict[str, Any]]) -> None:
        """From now on these are its IPv4 endpoints."""
        change = {"endpoints": endpoints}
        self.plane.api.call("PATCH", self._slice_of_web(), change, "application/merge-patch+json")


def sent(run: PlaybookRun) -> list[str]:
    """The modules of the collection that Ansible packed for a node in a run with -vvv."""
    return sorted(set(re.findall(r"Using module file .*/kubenode/servicenet/plugins/modules/(\w+)\.py", run.output)))


@pytest.fixture(scope="module")
def cluster(lab: Lab, control_plane: ControlPlane) -> Cluster:
    control_plane.api.create_all(raw for raw in manifest_objects() if raw["metadata"]["name"] not in BUILT_IN)
    made = Cluster(lab, control_plane)
    lab.playbook(
        "endpoints", {"service_endpoints_kubeconfig": str(control_plane.kubeconfig())}, inventory=made.inventory
    )
    made.resync()
    return made


def test_nothing_changed_is_one_task_on_a_node(cluster: Cluster) -> None:
    everybody = cluster.who()
    assert everybody
    assert "drop" not in everybody
    run = cluster.resync("-vvv")
    assert set(run.changed.values()) == {0}
    assert sent(run) == ["service_rules_unchanged"]
    # A task that is skipped is a process of the controller for each node as well.
    (of_nodes,) = [part for part in run.output.split("PLAY [") if part.startswith("Bring the nodes up to date")]
    assert re.findall(r"^TASK \[(?:kubenode\.servicenet\.)?(.*)\]", of_nodes, re.MULTILINE) == [
        "service_proxy : Make the rules those of the snapshot",
        "Do the rest",
    ]
    assert json.loads(cluster.note.read_text())["source"]["type"] == "cluster"


def test_a_node_that_was_altered_gets_the_module_of_its_mode(cluster: Cluster) -> None:
    everybody = cluster.who()
    cluster.lab.node("node-b").run(["nft", "flush", "ruleset"])
    run = cluster.resync("-vvv")
    assert sent(run) == ["nftables_services", "service_rules_unchanged"]
    assert run.changed == {"node-a": 0, "node-b": 1}
    assert cluster.who() == everybody


@pytest.mark.parametrize("down", [False, True], ids=["API server up", "API server down"])
def test_lost_rules_are_back_after_one_resync(cluster: Cluster, down: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rules are gone, as after a reboot or another program's flush; the API server may be gone for an hour, too."""
    everybody = cluster.who()
    monkeypatch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "1")
    if down:
        cluster.plane.stop_api()
        note = json.loads(cluster.note.read_text())
        cluster.note.write_text(json.dumps({**note, "read": time.time() - 3600}))
    try:
        for node in cluster.lab.nodes.values():
            node.run(["nft", "flush", "ruleset"])
        assert cluster.who() == {"drop"}
        run = cluster.resync()
        assert (run.changed["node-a"], run.changed["node-b"]) == (1, 1)
        assert cluster.who() == everybody
        assert run.output.count("can't be reached") == (1 if down else 0)
        used = re.search(r"The snapshot of 6\d minutes ago is used on\.", " ".join(run.output.split()))
        assert bool(used) == down
        assert 3600 * down <= int(run.output.partition('"servicenet_age": ')[2].split(",")[0]) < 3600 * down + 600
        if down:
            late = cluster.resync(check=False, cluster_snapshot_max_age_seconds=1800)
            assert late.rc == 2
            assert sum(late.failed.values()) == 1
            assert "cluster_snapshot_max_age_seconds is 1800" in " ".join(late.output.split())
            assert late.output.count("fatal: ") == 1
            # Nor can the records of endpoints be kept, which is no second failure.
            assert cluster.resync(servicenet_endpoints=True).rc == 0
            ended = cluster.resync(check=False, servicenet_on_unreachable="fail")
            assert ended.rc == 2
            assert sum(ended.failed.values()) == 1
            assert cluster.who() == everybody
    finally:
        if down:
            cluster.plane.start_api()


def test_endpoint_records_that_can_not_be_kept_keep_no_node_from_its_repair(cluster: Cluster) -> None:
    """The variables are those of the nodes' group."""
    everybody = cluster.who()
    cluster.lab.node("node-b").run(["nft", "flush", "ruleset"])
    inventory = json.loads(cluster.inventory.read_text())
    inventory["all"]["children"]["servicenet_nodes"]["vars"] |= {
        "servicenet_endpoints": True,
        "service_endpoints_host": "https://127.0.0.1:1",
    }
    changed = cluster.inventory.with_name("endpoints.json")
    changed.write_text(json.dumps(inventory))
    run = cluster.lab.playbook("resync", inventory=changed, check=False)
    assert run.rc == 2
    assert "The endpoint records of the cluster could not be kept. The API server https://127.0.0.1:1" in run.output
    assert (run.changed["node-b"], sum(run.failed.values())) == (1, 1)
    assert cluster.who() == everybody


def test_a_change_reaches_the_nodes_and_check_mode_leaves_them(cluster: Cluster) -> None:
    everybody = cluster.who()
    whole = cluster.behind_web()
    cluster.put_behind_web(whole[:1])
    try:
        shown = cluster.resync("--check", "--diff")
        assert "~ shop/web" in shown.output
        assert cluster.who() == everybody
        # What no node can have yet needs no question.
        assert sent(cluster.resync("-vvv")) == ["nftables_services"]
        assert len(cluster.who()) == 1
        # A batch that is not well ends the roll-out: the second node keeps what it has.
        cluster.put_behind_web(whole)
        cluster.lab.node("node-a").run(["mount", "--bind", "/bin/false", "/usr/sbin/nft"])
        try:
            staged = cluster.resync(check=False, servicenet_serial=[1, "100%"], servicenet_verify=True)
        finally:
            cluster.lab.node("node-a").run(["umount", "/usr/sbin/nft"])
        assert staged.rc == 2
        assert staged.failed["node-a"] == 1
        assert "node-b" not in staged.changed
        assert "service_verify : " not in staged.output
        assert len({*cluster.lab.probe("pod-b3", WEB, 9000, count=12).who}) == 1
    finally:
        cluster.put_behind_web(whole)
    staged = cluster.resync(servicenet_serial=[1, "100%"], servicenet_verify=True)
    assert not any(staged.failed.values())
    assert "service_verify : " in staged.output
    assert cluster.who() == everybody


def test_check_mode_leaves_no_scratch_file_where_no_node_can_be_programmed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    whole = cluster.behind_web()
    cluster.put_behind_web(whole[:1])
    for node in cluster.lab.nodes.values():
        node.run(["mount", "--bind", "/bin/false", "/usr/sbin/nft"])
    try:
        shown = cluster.resync("--check", check=False)
    finally:
        for node in cluster.lab.nodes.values():
            node.run(["umount", "/usr/sbin/nft"])
        cluster.put_behind_web(whole)
    assert shown.failed == {"node-a": 1, "node-b": 1}
    assert "Remove the scratch file of the controller" in shown.output
    assert list(tmp_path.iterdir()) == []


def test_two_at_the_same_moment(cluster: Cluster) -> None:
    """The one waits on each node until the other has ended, and finds nothing left to do."""
    everybody, whole = cluster.who(), cluster.behind_web()
    cluster.put_behind_web(whole[:1])
    node = cluster.lab.node("node-a")
    node.run(["cp", "/usr/sbin/nft", "/run/nft"])
    slow, go = node.path("/run/slow-nft"), node.path("/run/go")
    slow.write_text('#!/bin/sh\n[ "$1" != -f ] || until [ -e /run/go ]; do sleep 0.1; done\nexec /run/nft "$@"\n')
    slow.chmod(0o755)
    node.run(["mount", "--bind", "/run/slow-nft", "/usr/sbin/nft"])
    try:
        with ThreadPoolExecutor() as pool:
            runs = [pool.submit(cluster.resync, "-v") for _run in range(2)]
            try:
                wait_until(lambda: times_open("/run/servicenet/lock") >= 2)
            finally:
                go.touch()
            told = [run.result().output for run in runs]
    finally:
        node.run(["umount", "/usr/sbin/nft"])
        cluster.put_behind_web(whole)
    for name in cluster.lab.nodes:
        changed = rf'^(ok|changed): \[{name}\] => .*"services_changed_count": (\d+)'
        assert sorted(re.findall(changed, "".join(told), re.MULTILINE)) == [("changed", "1"), ("ok", "0")]
    assert len(cluster.who()) == 1
    cluster.resync()
    assert cluster.who() == everybody


def test_the_loss_of_most_is_refused_on_the_controller_and_on_each_node(cluster: Cluster) -> None:
    """A cluster that seems to be empty, once with the guard of the controller and once past it."""
    everybody = cluster.who()
    nothing: dict[str, Any] = {"cluster_snapshot_select": "metadata.name == 'nobody'"}
    refused = cluster.resync(check=False, **nothing)
    assert (refused.rc, sum(refused.failed.values())) == (2, 1)
    assert "more than 50 %: it is refused and the old one stays" in " ".join(refused.output.split())
    assert cluster.who() == everybody
    try:
        on_nodes = cluster.resync(check=False, cluster_snapshot_max_removed_percent=100, **nothing)
        assert on_nodes.rc == 2
        assert (on_nodes.failed["node-a"], on_nodes.failed["node-b"]) == (1, 1)
        told = re.findall(r"^fatal: \[(.*?)\].*more than 50 %", on_nodes.output, re.MULTILINE)
        assert sorted(told) == ["node-a", "node-b"]
        assert cluster.who() == everybody
    finally:
        cluster.resync()
    assert cluster.who() == everybody

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refreshes by a watch: which events change a snapshot, and when the lists are read after all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import malformed
from fixtures.fake_api import FakeApi, Handler
from fixtures.refreshes import refresh_options
from lab.control_plane import free_port

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import client as client_module
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import connection, stored, watches
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.client import ClusterError
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.refresh import refresh
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import versions

BOOKMARK = {"type": "BOOKMARK", "object": {"kind": "Namespace", "metadata": {"resourceVersion": "150"}}}
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}


class Cluster:
    """A fake API server and the snapshot of it."""

    def __init__(self, api: FakeApi, dest: Path) -> None:
        self.api, self.dest = api, dest

    def refresh(self, **given: Any) -> dict[str, Any]:
        """A refresh; ``host`` is another server than this one."""
        host = given.pop("host", self.api.url)
        return refresh(refresh_options(self.dest, **{"auth": connection.Options(host=host, timeout=60), **given}))

    def happens(self, *events: tuple[str, dict[str, Any]]) -> None:
        """From now on a watch tells these events, with growing versions."""
        self.api.events = {"namespaces": [BOOKMARK]}
        self.api.version = max(self.api.version, 199 + len(events))
        for version, (what, raw) in enumerate(events, 200):
            told = json.loads(json.dumps(raw))
            told["metadata"]["resourceVersion"] = str(version)
            plural = {"Endpoints": "endpoints"}.get(raw["kind"], f"{raw['kind'].lower()}s")
            self.api.events.setdefault(plural, []).append({"type": what, "object": told})

    def object(self, kind: str, name: str) -> dict[str, Any]:
        """A copy of one of the objects."""
        found = next(raw for raw in self.api.objects if raw["kind"] == kind and raw["metadata"]["name"] == name)
        return dict(json.loads(json.dumps(found)))

    def versions(self) -> dict[str, str]:
        """Those that were noted."""
        return dict(stored.read_note(str(self.dest))["resource_versions"])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.001)
    # The fake server ends its watches itself, and may be late with that on a busy machine.
    monkeypatch.setattr(watches.watch, "__defaults__", (60.0,))
    endpoints = {
        "kind": "Endpoints",
        "metadata": {"name": "old", "namespace": "shop"},
        "subsets": [{"addresses": [{"ip": "10.128.9.9"}], "ports": [{"port": 1}]}],
    }
    with FakeApi([*malformed.good(3), malformed.service("old"), endpoints]) as api:
        made = Cluster(api, tmp_path / "snapshot.jsonl.gz")
        assert made.refresh()["read_by"] == "list"
        made.happens()
        yield made


def test_nothing_happened(cluster: Cluster) -> None:
    before = cluster.dest.read_bytes(), cluster.dest.stat().st_ino
    cluster.api.requests.clear()
    result = cluster.refresh()
    assert (result["read_by"], result["changed"]) == ("watch", False)
    assert (cluster.dest.read_bytes(), cluster.dest.stat().st_ino) == before
    asked, *watched = [path for path, _headers in cluster.api.requests]
    assert asked.endswith("?limit=1")
    assert all("watch=1" in path and "resourceVersion=100" in path for path in watched)
    assert len(watched) == 6
    assert cluster.versions() == result["resource_versions"]
    assert cluster.versions()["namespaces"] == "150"
    assert cluster.versions()["services"] == "100"


def test_a_server_that_gives_its_lists_no_version_is_read_each_time(cluster: Cluster) -> None:
    def without_versions(handler: Handler, path: str, query: dict[str, str]) -> None:
        whole, version = handler.answer, b'"resourceVersion": "%d"' % cluster.api.version
        handler.answer = lambda data, **more: whole(data.replace(version, b""), **more)  # type: ignore[method-assign]
        cluster.api.list_objects(handler, path, query)

    cluster.api.play = without_versions
    cluster.dest.unlink()
    cluster.refresh()
    assert not any(cluster.versions().values())
    cluster.api.objects.append(malformed.service("new"))
    result = cluster.refresh()
    assert (result["read_by"], result["services"]["added"]["names"]) == ("list", ["shop/new"])


def quiet_events(cluster: Cluster) -> dict[str, tuple[str, dict[str, Any]]]:
    """What happens and leaves the snapshot as it is."""
    node = cluster.object("Node", "node-a")
    node.setdefault("status", {})["conditions"] = [{"type": "Ready", "lastHeartbeatTime": "now"}]
    service = cluster.object("Service", "good-1")
    service["metadata"]["annotations"] = {"somebody/note": "x"}
    endpoints = {"kind": "Endpoints", "metadata": {"name": "good-1", "namespace": "shop"}, "subsets": []}
    leader = {"kind": "Endpoints", "metadata": {"name": "leader", "namespace": "kube-system"}}
    alien = malformed.endpoint_slice("alien", "nobody")
    return {
        "a Node is alive": ("MODIFIED", node),
        "a Service is annotated": ("MODIFIED", service),
        "a slice is the same": ("MODIFIED", cluster.object("EndpointSlice", "good-1-x")),
        "Endpoints of a Service with slices": ("ADDED", endpoints),
        "Endpoints of a Service with slices go": ("DELETED", endpoints),
        "Endpoints of no Service": ("MODIFIED", leader),
        "Endpoints that are used are the same": ("MODIFIED", cluster.object("Endpoints", "old")),
        "a slice of no Service": ("ADDED", alien),
        "an unknown Service goes": ("DELETED", malformed.service("unknown")),
    }


def loud_events(cluster: Cluster) -> dict[str, tuple[str, dict[str, Any]]]:
    """What happens and has to be read."""
    node = cluster.object("Node", "node-a")
    node["metadata"]["labels"] = {"topology.kubernetes.io/zone": "z"}
    service = cluster.object("Service", "good-1")
    service["spec"]["sessionAffinity"] = "ClientIP"
    piece = cluster.object("EndpointSlice", "good-1-x")
    piece["endpoints"].pop()
    moved = cluster.object("EndpointSlice", "good-1-x")
    moved["metadata"]["labels"]["kubernetes.io/service-name"] = "nobody"
    stray = cluster.object("EndpointSlice", "good-1-x")
    stray["metadata"]["labels"] = {}
    endpoints = cluster.object("Endpoints", "old")
    endpoints["subsets"][0]["addresses"][0]["ip"] = "10.128.9.8"
    broken = malformed.service("broken")
    broken["spec"]["clusterIP"] = broken["spec"]["clusterIPs"] = "no address"
    return {
        "a Node moves": ("MODIFIED", node),
        "a Node goes": ("DELETED", cluster.object("Node", "node-a")),
        "a Node comes": ("ADDED", {"kind": "Node", "metadata": {"name": "node-new"}}),
        "a Service changes": ("MODIFIED", service),
        "a Service goes": ("DELETED", cluster.object("Service", "good-1")),
        "a Service comes": ("ADDED", malformed.service("new")),
        "a broken Service comes": ("ADDED", broken),
        "an endpoint goes": ("MODIFIED", piece),
        "a slice goes": ("DELETED", piece),
        "a slice goes to another Service": ("MODIFIED", moved),
        "a slice goes to no Service": ("MODIFIED", stray),
        "Endpoints that are used change": ("MODIFIED", endpoints),
        "Endpoints that are used go": ("DELETED", endpoints),
        "something without a name": ("MODIFIED", {"kind": "Service", "metadata": {}}),
    }


def test_what_does_not_show_in_a_snapshot_costs_no_list(cluster: Cluster) -> None:
    for what, event in quiet_events(cluster).items():
        cluster.happens(event)
        assert cluster.refresh()["read_by"] == "watch", what
        assert "200" in cluster.versions().values(), what
    cluster.happens(*quiet_events(cluster).values())
    assert cluster.refresh()["read_by"] == "watch"


def test_what_shows_in_a_snapshot_is_read(cluster: Cluster) -> None:
    for what, event in loud_events(cluster).items():
        cluster.happens(next(iter(quiet_events(cluster).values())), event)
        assert cluster.refresh()["read_by"] == "list", what


def test_only_the_last_event_of_an_object_counts(cluster: Cluster) -> None:
    new = malformed.service("new")
    cluster.happens(("ADDED", new), ("MODIFIED", new), ("DELETED", new))
    assert cluster.refresh()["read_by"] == "watch"


@pytest.mark.parametrize("events", [[GONE], [{"type": "MODIFIED"}], [{"type": "ODD", "object": BOOKMARK["object"]}]])
def test_an_error_in_the_stream_is_a_list(cluster: Cluster, events: list[dict[str, Any]]) -> None:
    cluster.api.events["endpointslices"] = events
    result = cluster.refresh()
    assert (result["read_by"], result["changed"]) == ("list", False)


def test_a_server_that_was_set_back_is_read_anew(cluster: Cluster) -> None:
    assert cluster.refresh()["read_by"] == "watch"
    cluster.api.version = 140
    assert cluster.refresh()["read_by"] == "list"
    assert cluster.refresh()["read_by"] == "watch"


@pytest.mark.parametrize("status", [403, 410, 500])
def test_a_watch_that_is_refused_is_a_list(cluster: Cluster, status: int) -> None:
    def play(handler: Handler, path: str, query: dict[str, str]) -> None:
        if "watch" in query and path.endswith("/services"):
            handler.answer(b"{}", status)
        else:
            cluster.api.list_objects(handler, path, query)

    cluster.api.play = play
    assert cluster.refresh()["read_by"] == "list"


def test_a_watch_that_stays_open_is_not_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches.watch, "__defaults__", (watches.QUIET_SECONDS,))
    over = threading.Event()

    def silent(handler: Handler, path: str, query: dict[str, str]) -> None:
        if "watch" not in query:
            cluster.api.list_objects(handler, path, query)
            return
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        over.wait(60)

    cluster.api.play = silent
    started = time.monotonic()
    try:
        assert cluster.refresh()["read_by"] == "watch"
        assert time.monotonic() - started < 50
    finally:
        over.set()


def test_another_version_of_what_makes_snapshots_reads_the_lists(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "SNAPSHOT", versions.SNAPSHOT + 1)
    assert cluster.refresh()["read_by"] == "list"
    assert cluster.refresh()["read_by"] == "watch"


@pytest.mark.parametrize("given", [{"namespaces": ["shop"]}, {"pods": True}, {"select": "metadata.name != 'good-1'"}])
def test_other_options_are_a_list(cluster: Cluster, given: dict[str, Any]) -> None:
    assert cluster.refresh(**given)["read_by"] == "list"
    assert cluster.refresh(**given)["read_by"] == "watch"
    assert cluster.refresh()["read_by"] == "list"


def test_a_snapshot_that_is_not_what_was_noted_is_a_list(cluster: Cluster) -> None:
    cluster.refresh(source="file", dest=str(cluster.dest), select="metadata.name == 'good-1'", max_removed_percent=100)
    assert cluster.refresh()["read_by"] == "list"
    Path(stored.note_path(str(cluster.dest))).write_text("{")
    assert cluster.refresh()["read_by"] == "list"


def test_what_was_left_out_is_told_again(cluster: Cluster) -> None:
    broken = malformed.service("broken")
    broken["spec"]["clusterIP"], broken["spec"]["clusterIPs"] = "no address", ["no address"]
    cluster.api.objects.append(broken)
    cluster.happens(("ADDED", broken))
    first = cluster.refresh()
    cluster.happens()
    second = cluster.refresh()
    assert (first["read_by"], second["read_by"]) == ("list", "watch")
    assert second["refused"] == first["refused"]
    assert second["warnings"] == first["warnings"]
    assert "shop/broken" in first["warnings"][0]


@pytest.mark.parametrize("kind", ["Service", "EndpointSlice"])
@pytest.mark.parametrize("what", ["MODIFIED", "DELETED"])
def test_what_was_left_out_is_told_no_longer_than_it_is_there(cluster: Cluster, kind: str, what: str) -> None:
    good = malformed.service("broken") if kind == "Service" else malformed.endpoint_slice("broken", "nobody")
    broken = json.loads(json.dumps(good))
    if kind == "Service":
        broken["spec"]["clusterIP"], broken["spec"]["clusterIPs"] = "no address", ["no address"]
    else:
        broken["endpoints"] = [{"addresses": ["no address"]}]
    cluster.api.objects.append(broken)
    cluster.happens(("ADDED", broken))
    assert [wrong["name"] for wrong in cluster.refresh()["refused"]] == ["shop/broken"]
    cluster.api.objects[-1:] = [good] if what == "MODIFIED" else []
    cluster.happens((what, good if what == "MODIFIED" else broken))
    assert cluster.refresh()["refused"] == []


def test_check_mode_writes_nothing(cluster: Cluster) -> None:
    before = {path: path.read_bytes() for path in cluster.dest.parent.iterdir()}
    assert cluster.refresh(check=True)["read_by"] == "watch"
    assert {path: path.read_bytes() for path in cluster.dest.parent.iterdir()} == before


# ---------------------------------------------------------------------------------------------------------- outages


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_an_outage_is_an_error_unless_the_snapshot_is_to_be_kept(cluster: Cluster) -> None:
    before = {path: path.read_bytes() for path in cluster.dest.parent.iterdir()}
    with pytest.raises(ClusterError, match="can't be reached"):
        cluster.refresh(host=nobody())
    kept = cluster.refresh(host=nobody(), on_unreachable="keep")
    assert (kept["read_by"], kept["changed"], kept["path"]) == ("kept", False, str(cluster.dest))
    assert "can't be reached" in kept["outage"]
    assert kept["warnings"][0] == f"{kept['outage']} The snapshot of {kept['age']} seconds ago is used on."
    assert {path: path.read_bytes() for path in cluster.dest.parent.iterdir()} == before
    assert cluster.refresh()["read_by"] == "watch"


def test_the_age_of_a_kept_snapshot_is_told_and_alarms(cluster: Cluster) -> None:
    note = Path(stored.note_path(str(cluster.dest)))
    told = json.loads(note.read_text())
    note.write_text(json.dumps({**told, "read": time.time() - 7205}))
    kept = cluster.refresh(host=nobody(), on_unreachable="keep", max_age_seconds=10_000)
    assert 7205 <= kept["age"] < 7300
    assert not kept["too_old"]
    assert "The snapshot of 2 hours ago is used on." in kept["warnings"][0]
    old = cluster.refresh(host=nobody(), on_unreachable="keep", max_age_seconds=3600)
    assert old["too_old"]
    assert "is 2 hours old, and max_age_seconds allows 60 minutes" in old["warnings"][-1]
    assert not cluster.refresh(max_age_seconds=3600)["too_old"]


def test_an_overloaded_server_counts_as_down_and_missing_rights_do_not(cluster: Cluster) -> None:
    cluster.api.play = lambda handler, _path, _query: handler.answer(b"{}", 503, retry_after="0")
    assert cluster.refresh(on_unreachable="keep")["read_by"] == "kept"
    cluster.api.play = lambda handler, _path, _query: handler.answer(b"{}", 403)
    with pytest.raises(ClusterError, match="403"):
        cluster.refresh(on_unreachable="keep")


def test_without_a_snapshot_nothing_can_be_kept(cluster: Cluster) -> None:
    cluster.dest.unlink()
    with pytest.raises(ClusterError, match="can't be reached"):
        cluster.refresh(host=nobody(), on_unreachable="keep")

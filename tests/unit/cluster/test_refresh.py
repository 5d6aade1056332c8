# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole refresh: what is written, what is returned, and that a failure leaves the old snapshot alone."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import malformed
from fixtures.fake_api import FakeApi, Handler
from fixtures.refreshes import refresh_options

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import client as client_module
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import connection, stored
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.refresh import Options, refresh
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    GuardError,
    OptionError,
    ServicenetError,
    SnapshotError,
)


class Place:
    """A directory with manifests and the snapshot that is made of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifests = directory / "manifests"
        self.manifests.mkdir()
        self.dest = directory / "kept" / "snapshot.jsonl.gz"

    def put(self, objects: list[dict[str, Any]]) -> None:
        (self.manifests / "all.json").write_text(json.dumps({"kind": "List", "items": objects}))

    def options(self, **given: Any) -> Options:
        return refresh_options(self.dest, **{"source": "manifests", "manifests": [str(self.manifests)], **given})

    def refresh(self, **given: Any) -> dict[str, Any]:
        return refresh(self.options(**given))

    def bytes(self) -> bytes:
        return self.dest.read_bytes()

    def state(self) -> dict[str, tuple[int, int, bytes]]:
        """Every file beside the snapshot, as it stands."""
        return {
            path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
            for path in self.dest.parent.glob("*")
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.put(malformed.good())
    return found


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.001)
    with FakeApi(malformed.good()) as server:
        yield server


def test_the_first_run_writes_and_the_second_changes_nothing(place: Place) -> None:
    first = place.refresh()
    assert first["changed"]
    assert first["path"] == str(place.dest)
    assert not first["scratch"]
    assert first["counts"]["services"] == 10
    assert first["counts"]["ready_endpoints"] == 20
    assert first["services"]["added"] == {"total": 10, "names": [f"shop/good-{n}" for n in range(10)]}
    assert first["warnings"] == []
    assert (place.dest.stat().st_mode & 0o777) == 0o640
    assert stored.load_file(str(place.dest)).digest == first["digest"]
    before = place.state()["snapshot.jsonl.gz"]
    second = place.refresh()
    assert not second["changed"]
    assert second["digest"] == first["digest"]
    assert second["diff"] == {"prepared": ""}
    assert place.state()["snapshot.jsonl.gz"] == before


def test_the_order_and_the_form_of_the_objects_do_not_matter(place: Place) -> None:
    digest = place.refresh()["digest"]
    objects = malformed.good()
    random.Random(1).shuffle(objects)
    (place.manifests / "all.json").unlink()
    (place.manifests / "all.yaml").write_text("\n---\n".join(json.dumps(raw, indent=1) for raw in objects))
    assert place.refresh() == {**place.refresh(), "changed": False, "digest": digest}


def test_the_diff_names_services(place: Place) -> None:
    place.refresh()
    objects = malformed.good(11)
    objects[4]["endpoints"].pop()
    del objects[5:7]
    objects.append(malformed.namespace("new"))
    place.put(objects)
    assert place.refresh()["diff"]["prepared"] == (
        "- shop/good-1\n+ shop/good-10\n~ shop/good-0\n~ Nodes, Namespaces, ServiceCIDRs or Pods\n"
    )


def test_names_are_capped_but_counted(place: Place) -> None:
    place.put(malformed.good(250))
    added = place.refresh()["services"]["added"]
    assert added["total"] == 250
    assert len(added["names"]) == 100


def test_check_mode_writes_a_scratch_file_alone(place: Place) -> None:
    place.refresh()
    before = place.state()
    place.put(malformed.good(12))
    checked = place.refresh(check=True)
    try:
        assert checked["changed"]
        assert checked["scratch"]
        assert place.state() == before
        assert stored.load_file(checked["path"]).digest == checked["digest"]
    finally:
        os.unlink(checked["path"])
    real = place.refresh()
    assert {**checked, "path": real["path"], "scratch": False} == real


def test_check_mode_makes_no_directory_and_no_scratch_file_without_need(place: Place) -> None:
    checked = place.refresh(check=True)
    os.unlink(checked["path"])
    assert not place.dest.parent.exists()
    place.refresh()
    unchanged = place.refresh(check=True)
    assert unchanged["path"] == str(place.dest)
    assert not unchanged["scratch"]


def test_the_guard_stands_for_services_and_for_ready_endpoints(place: Place) -> None:
    place.refresh()
    before = place.state()
    place.put(malformed.good(4))
    with pytest.raises(GuardError, match="6 of 10 Services"):
        place.refresh()
    objects = malformed.good()
    for raw in objects:
        for endpoint in raw.get("endpoints", []):
            endpoint["conditions"] = {"ready": False, "serving": False, "terminating": True}
    place.put(objects)
    with pytest.raises(GuardError, match="20 of 20 ready endpoints"):
        place.refresh()
    with pytest.raises(GuardError):
        place.refresh(check=True)
    assert place.state() == before
    assert place.refresh(max_removed_percent=100)["changed"]


def test_half_may_go(place: Place) -> None:
    place.refresh()
    place.put(malformed.good(5))
    assert place.refresh()["services"]["removed"]["total"] == 5


def test_manifests_without_anything_are_refused(place: Place) -> None:
    place.put([{"kind": "ConfigMap", "metadata": {"name": "x"}}])
    with pytest.raises(SnapshotError, match="no object that a snapshot is made of"):
        place.refresh()
    assert not place.dest.exists()


def test_a_damaged_old_snapshot_is_replaced_with_a_warning(place: Place) -> None:
    place.refresh()
    whole = place.bytes()
    place.dest.write_bytes(whole[: len(whole) // 2])
    result = place.refresh()
    assert result["changed"]
    assert "can't be compared" in result["warnings"][0]
    assert place.bytes() == whole


def test_namespaces_and_select(place: Place) -> None:
    place.put([*malformed.good(3), malformed.namespace("web"), malformed.service("edge", "web")])
    assert place.refresh(namespaces=["web"])["services"]["added"]["names"] == ["web/edge"]
    chosen = place.refresh(select="metadata.name == 'good-1'", max_removed_percent=100)
    assert chosen["services"]["added"]["names"] == ["shop/good-1"]
    assert chosen["counts"]["endpoints"] == 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"namespaces": ["a/../b"]}, "namespaces has 'a/../b'"),
        ({"select": "[?"}, "select is not a JMESPath expression"),
        ({"page_size": 0}, "page_size must be from 1"),
        ({"max_removed_percent": 101}, "max_removed_percent must be from 0 to 100"),
        ({"manifests": []}, "manifests must name a file"),
        ({"auth": connection.Options(timeout=0)}, "timeout must be from 1"),
        ({"dest": "/proc/servicenet/x.gz"}, "can't be written"),
    ],
)
def test_wrong_options_are_named(place: Place, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        place.refresh(**given)


# ---------------------------------------------------------------------------------------------- malformed objects


def test_every_malformed_object_is_named_and_the_good_ones_are_there(place: Place) -> None:
    reference = place.refresh()
    wanted = stored.load_file(str(place.dest)).lines
    (place.manifests / "all.json").unlink()
    malformed.write(place.manifests)
    result = place.refresh()
    assert result["digest"] == reference["digest"]
    assert stored.load_file(str(place.dest)).lines == wanted
    assert len({case.what for case in malformed.objects()}) >= 100
    named = {(wrong["kind"], wrong["name"]) for wrong in result["refused"]}
    for case in malformed.objects():
        if case.key:
            assert (case.kind, case.key) in named, case.what
    assert result["refused_total"] == len(malformed.objects()) + len(malformed.documents())
    assert len(result["warnings"]) == result["refused_total"]
    assert all(warning.isprintable() for warning in result["warnings"])


@pytest.mark.parametrize("case", malformed.objects(), ids=lambda case: case.what)
def test_each_malformed_object_is_refused_alone(case: malformed.Case, place: Place) -> None:
    place.put([*malformed.good(), case.raw])
    result = place.refresh()
    assert result["counts"]["services"] == 10
    assert len(result["refused"]) == 1
    refused = result["refused"][0]
    assert refused["kind"] == case.kind
    assert not case.key or refused["name"] == case.key
    assert len(result["warnings"][0]) < 700


# ------------------------------------------------------------------------------------------------- other sources


def test_an_older_snapshot_gives_the_same_snapshot(place: Place) -> None:
    endpoints = {
        "kind": "Endpoints",
        "metadata": {"name": "old", "namespace": "shop"},
        "subsets": [{"addresses": [{"ip": "10.128.9.9"}, {"ip": "fd00::9"}], "ports": [{"port": 1}]}],
    }
    hidden = malformed.endpoint_slice("hidden", "good-1")
    hidden["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    place.put([*malformed.good(), malformed.service("old"), endpoints, hidden])
    first = place.refresh()
    os.utime(place.dest, (1, 1))
    copy = place.directory / "copy.gz"
    again = place.refresh(source="file", path=str(place.dest), dest=str(copy))
    assert again["digest"] == first["digest"]
    assert copy.read_bytes() == place.bytes()
    assert 0 <= again["age"] < 60


def test_an_older_snapshot_can_be_narrowed(place: Place) -> None:
    place.refresh()
    copy = place.directory / "copy.gz"
    result = place.refresh(source="file", path=str(place.dest), dest=str(copy), select="metadata.name == 'good-3'")
    assert result["services"]["added"]["names"] == ["shop/good-3"]
    assert result["counts"]["endpoints"] == 2


def test_the_snapshot_itself_can_be_checked(place: Place) -> None:
    place.refresh()
    before = place.state()
    result = place.refresh(source="file")
    assert not result["changed"]
    assert place.state() == before
    note = json.loads(Path(stored.note_path(str(place.dest))).read_bytes())
    note["read"] = time.time() - 3600
    Path(stored.note_path(str(place.dest))).write_text(json.dumps(note))
    assert 3600 <= place.refresh(source="file")["age"] < 3700


def test_an_older_snapshot_that_is_missing_or_damaged_is_an_error(place: Place) -> None:
    with pytest.raises(SnapshotError, match=r"nothing\.gz can't be read"):
        place.refresh(source="file", path=str(place.directory / "nothing.gz"))
    broken = place.directory / "broken.gz"
    broken.write_bytes(b"\x1f\x8bno")
    with pytest.raises(SnapshotError, match=r"broken\.gz: "):
        place.refresh(source="file", path=str(broken))
    assert not place.dest.exists()


def test_a_cluster_gives_what_its_manifests_give(place: Place, api: FakeApi) -> None:
    reference = place.refresh()
    result = place.refresh(source="cluster", auth=connection.Options(host=api.url), page_size=3)
    assert not result["changed"]
    assert result["digest"] == reference["digest"]
    assert result["source"] == {"type": "cluster", "server": api.url}
    assert result["resource_versions"]["services"] == "100"
    note = json.loads(Path(stored.note_path(str(place.dest))).read_bytes())
    assert note["source"]["server"] == api.url
    assert note["resource_versions"] == result["resource_versions"]


def test_a_missing_namespace_is_a_warning(place: Place, api: FakeApi) -> None:
    result = place.refresh(source="cluster", auth=connection.Options(host=api.url), namespaces=["shop", "nowhere"])
    assert result["warnings"] == ["There is no namespace nowhere, which namespaces names."]
    assert result["counts"]["services"] == 10


def test_when_it_was_read_is_noted_again_without_a_change(place: Place, api: FakeApi) -> None:
    options = {"source": "cluster", "auth": connection.Options(host=api.url)}
    place.refresh(**options)
    before = place.state()
    time.sleep(0.01)
    assert not place.refresh(**options)["changed"]
    after = place.state()
    assert after["snapshot.jsonl.gz"] == before["snapshot.jsonl.gz"]
    assert after["snapshot.jsonl.gz.source.json"] != before["snapshot.jsonl.gz.source.json"]


@pytest.mark.parametrize("what", ["forbidden", "half", "cut off in the second page", "empty"])
def test_a_bad_answer_leaves_the_old_snapshot_alone(place: Place, api: FakeApi, what: str) -> None:
    options = {"source": "cluster", "auth": connection.Options(host=api.url), "page_size": 4}
    place.refresh(**options)
    before = place.state()

    def play(handler: Handler, path: str, query: dict[str, str]) -> None:
        if what == "forbidden" and path.endswith("/endpointslices"):
            handler.answer(b"{}", 403)
        elif what == "half" and path.endswith("/services"):
            handler.answer(b'{"kind": "ServiceList", "metadata": {}, "items": []}')
        elif what == "cut off in the second page" and "continue" in query:
            handler.answer(b'{"metadata": {}, "items": [{"metadata"')
        elif what == "empty":
            handler.answer(b'{"metadata": {}, "items": null}')
        else:
            api.list_objects(handler, path, query)

    api.play = play
    with pytest.raises(ServicenetError):
        place.refresh(**options)
    assert place.state() == before


def test_no_temporary_file_stays_behind(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.refresh()
    before = place.state()

    def fail(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    place.put(malformed.good(11))
    with pytest.raises(OptionError, match="can't be written: No space left on device"):
        place.refresh()
    assert place.state() == before
    assert {path.name for path in place.dest.parent.iterdir()} == set(before)

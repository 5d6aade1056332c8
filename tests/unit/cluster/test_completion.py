# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests that are completed on their way into the snapshot: slices from Pods, addresses and node ports that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conformance.endpoints.builders import pod, service
from fixtures.refreshes import refresh_options

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import completion, stored
from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.refresh import refresh
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import SnapshotError


def manifest(name: str = "web", **spec: Any) -> dict[str, Any]:
    return service(name, **{"clusterIP": None, "ipFamilies": None, **spec})


class Place:
    """A directory with manifests and a snapshot."""

    def __init__(self, path: Path) -> None:
        self.path, self.dest = path, path / "snapshot.jsonl.gz"
        self.manifests = path / "manifests"
        self.manifests.mkdir()

    def refresh(
        self, *objects: dict[str, Any], check: bool = False, ranges: tuple[str, ...] = ("10.96.0.0/16",)
    ) -> Any:
        (self.manifests / "all.json").write_text(json.dumps({"kind": "List", "items": list(objects)}), encoding="utf-8")
        return refresh(
            refresh_options(
                self.dest,
                source="manifests",
                manifests=[str(self.manifests)],
                max_removed_percent=100,
                check=check,
                cluster_ip_ranges=ranges,
                node_port_range="30000-32767",
            )
        )

    def services(self) -> dict[str, Any]:
        lines = [json.loads(line) for line in stored.load_file(str(self.dest)).lines]
        return {line["metadata"]["name"]: line for line in lines if line["kind"] == "Service"}

    @property
    def allocations(self) -> Path:
        return Path(completion.allocations_path(str(self.dest)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_services_and_pods_are_a_snapshot_with_addresses_and_endpoints(place: Place) -> None:
    place.refresh(manifest(type="NodePort"), pod(1), pod(2))
    web = place.services()["web"]
    assert web["spec"]["clusterIPs"][0].startswith("10.96.")
    assert 30000 <= web["spec"]["ports"][0]["nodePort"] <= 32767
    (piece,) = web["endpointSlices"]
    assert [each["addresses"] for each in piece["endpoints"]] == [["10.20.0.2"], ["10.20.0.3"]]


def test_what_was_chosen_stays_whatever_comes_and_goes(place: Place) -> None:
    place.refresh(manifest("a"), manifest("b"))
    before, content = place.services(), place.allocations.read_bytes()
    assert place.refresh(manifest("a"), manifest("b"))["changed"] is False
    assert place.allocations.read_bytes() == content
    place.refresh(manifest("0"), manifest("b"), manifest("c"))
    assert place.services()["b"]["spec"]["clusterIPs"] == before["b"]["spec"]["clusterIPs"]
    assert set(json.loads(place.allocations.read_text())["clusterIPs"]) == {"shop/0", "shop/b", "shop/c"}


def test_check_mode_writes_no_allocations(place: Place) -> None:
    result = place.refresh(manifest(), check=True)
    Path(result["path"]).unlink()
    assert not place.allocations.exists()


def test_a_conflict_names_both_and_leaves_everything_as_it_is(place: Place) -> None:
    place.refresh(manifest("a", clusterIP="10.96.0.9"))
    before = place.dest.read_bytes(), place.allocations.read_bytes() if place.allocations.exists() else None
    with pytest.raises(SnapshotError, match=r"Service shop/b asks for the address 10\.96\.0\.9, which shop/a has\."):
        place.refresh(manifest("a", clusterIP="10.96.0.9"), manifest("b", clusterIP="10.96.0.9"))
    assert before == (place.dest.read_bytes(), place.allocations.read_bytes() if place.allocations.exists() else None)


def test_a_damaged_allocations_file_is_an_error_and_stays(place: Place) -> None:
    place.refresh(manifest())
    place.allocations.write_text("{")
    with pytest.raises(SnapshotError, match="allocations"):
        place.refresh(manifest())
    assert place.allocations.read_text() == "{"


def test_without_a_range_a_service_without_address_is_a_warning(place: Place) -> None:
    warnings = place.refresh(manifest(), ranges=())["warnings"]
    assert warnings == ["Service shop/web has no clusterIP, and there is no range to take one from."]


def test_a_pod_that_cannot_be_read_is_refused_by_name(place: Place) -> None:
    broken = pod(1)
    broken["status"]["podIPs"] = "10.20.0.2"
    assert ("Pod", "shop/web-1") in {
        (each["kind"], each["name"]) for each in place.refresh(manifest(), broken)["refused"]
    }

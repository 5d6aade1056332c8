# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters in two API servers: what the real controllers write in one, and our passes in the other."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from conformance.endpoints import compare, normalise
from conformance.endpoints.adapter import SETTINGS
from conformance.endpoints.difference import all_differences
from conformance.endpoints.random_cluster import RandomCluster
from integration.endpoints_lab import clear, client_of, remove_pod, run, stop_controllers
from lab import ControlPlane
from lab.control_plane import Api, has_peers, path_of

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import PassOptions

MANAGERS = SimpleNamespace(
    slice_manager=SETTINGS.manager, mirror_manager=SETTINGS.mirror_manager, endpoints_manager=SETTINGS.manager
)
# So few that Services have several slices, and it shows how they are filled.
MAX_ENDPOINTS = 3
OPTIONS = PassOptions(write="both", max_endpoints=MAX_ENDPOINTS)
BATCH = 20
STEPS = 6
_WRITES = re.compile(
    r'^apiserver_request_total\{.*code="20\d".*resource="(?:endpointslices|endpoints)".*'
    r'verb="(?:POST|PUT|PATCH|DELETE)".*\} (\d+)$',
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def twin() -> Iterator[ControlPlane]:
    """An API server for the real controllers, which the test starts."""
    if not has_peers("kube-apiserver", "kube-controller-manager"):
        pytest.skip("kube-controller-manager has not been built (`make peers`)")
    with ControlPlane() as started:
        yield started


def outcome(api: Api, ours: bool) -> dict:
    """The endpoint records, normalised; as the garbage collector would leave them, which does not run."""
    owners = {item["metadata"]["uid"] for kind in ("Service", "Endpoints") for item in api.list(kind)}
    slices = [
        item
        for item in api.list("EndpointSlice")
        if item["metadata"]["namespace"] != "default"
        and all(owner["uid"] in owners for owner in item["metadata"].get("ownerReferences", ()))
    ]
    listed = [item for item in api.list("Endpoints") if item["metadata"]["namespace"] != "default"]
    if ours:
        compare.rename(slices + listed, MANAGERS, False)
    return normalise.outcome(slices, listed)


def apply_change(api: Api, cluster: RandomCluster, what: str, key: tuple[str, str, str]) -> None:
    kind, namespace, name = key
    wanted = cluster.manifest(key)
    if what == "status":
        # Addresses are a list that a merge would not shorten; null removes what is not wanted.
        status = {"podIP": None, "podIPs": None, **wanted["status"]}
        api.patch(kind, namespace, name, {"status": status}, "/status")
    elif what == "leave":
        remove_pod(api, namespace, name)
    elif what == "labels":
        labels = {"topology.kubernetes.io/zone": None, **wanted["metadata"]["labels"]}
        api.patch(kind, namespace, name, {"metadata": {"labels": labels}})
    else:
        current = api.call("GET", path_of(kind, namespace, name))
        meta = {**current["metadata"], **wanted["metadata"]}
        if kind == "Service":
            keep = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
            spec = {**wanted["spec"], **{part: current["spec"][part] for part in keep}}
            api.call("PUT", path_of(kind, namespace, name), {**wanted, "metadata": meta, "spec": spec})
        else:
            api.call("PUT", path_of(kind, namespace, name), {**wanted, "metadata": meta})


def differences(real: Api, ours: Api) -> list[str]:
    return [text for _name, text in all_differences(outcome(real, False), outcome(ours, True))]


def wait_for_equal(real: Api, ours: Api, seconds: float = 60) -> list[str]:
    """The differences that are left once the real controllers are done."""
    deadline = time.monotonic() + seconds
    while True:
        found = differences(real, ours)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def slices(api: Api) -> Counter[tuple[str, str, str]]:
    """How many slices each Service has, by family."""
    return Counter(
        (item["metadata"]["namespace"], item["metadata"]["labels"]["kubernetes.io/service-name"], item["addressType"])
        for item in api.list("EndpointSlice")
    )


def writes(api: Api) -> int:
    """How many endpoint records were written since the API server started, by whomever."""
    return sum(int(count) for count in _WRITES.findall(api.text("/metrics")))


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(10))
def test_equal_to_the_real_controllers(
    control_plane: ControlPlane, twin: ControlPlane, full_figures: bool, batch: int
) -> None:
    """Twenty clusters at a time, which know nothing of each other; after each step all records are equal."""
    if batch > 0 and not full_figures:
        pytest.skip("one of the full figures")
    seeds = range(batch * BATCH, (batch + 1) * BATCH)
    batches = [RandomCluster(seed, f"-{seed}") for seed in seeds]
    real, ours = twin.api, control_plane.api
    client = client_of(control_plane)
    made = theirs = 0
    try:
        for api in (real, ours):
            api.create_all(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                for cluster in batches
                for name in cluster.namespaces
            )
            api.create_all(item for cluster in batches for item in cluster.manifests())
        for step in range(STEPS):
            what = f"seeds {seeds}, step {step}"
            before = writes(real)
            twin.start_controllers(max_endpoints=MAX_ENDPOINTS)
            result = run(client, OPTIONS)
            assert run(client, OPTIONS)["changed"] is False, f"{what}: a second pass writes again"
            assert wait_for_equal(real, ours) == [], what
            stop_controllers(twin)
            made, theirs = made + sum(result["counts"].values()), theirs + writes(real) - before
            if step == 0:
                # What a slice has room for later depends on which endpoints had a place in it, and that may differ.
                assert made <= theirs, what
                assert not slices(ours) - slices(real), f"{what}: more slices than the real controllers made"
            for cluster in batches:
                for change, key in cluster.change(8):
                    for api in (real, ours):
                        apply_change(api, cluster, change, key)
        assert made <= 1.01 * theirs, f"{made} writes instead of {theirs}"
    finally:
        stop_controllers(twin)
        for api in (real, ours):
            clear(api)

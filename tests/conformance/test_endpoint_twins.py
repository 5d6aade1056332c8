# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters in two API servers: what the real controllers write in one, and our passes in the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from integration.endpoints_lab import plain_service, remove_pod
from lab import ControlPlane
from lab.control_plane import Api, ApiError, has_peers, path_of

from conformance.endpoints import deviations, golden, twin_cases
from conformance.endpoints.random_cluster import RandomCluster
from conformance.endpoints.twin_clusters import Twins

# So few that Services have several slices, and it shows how they are filled; the default of the real controllers.
FEW, MANY = 3, 100
BATCH = 20
STEPS = 5


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    """Both API servers; the real controllers are started by each step."""
    if not has_peers("kube-apiserver", "kube-controller-manager"):
        pytest.skip("kube-controller-manager has not been built (`make peers`)")
    with ControlPlane() as real, ControlPlane() as ours:
        yield Twins(real, ours)


def make_namespaces(twins: Twins, names: Iterable[str]) -> None:
    for api in twins.both:
        api.create_all({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names)


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


@pytest.mark.parametrize("batch", range(10))
def test_equal_to_the_real_controllers(twins: Twins, full_figures: bool, batch: int) -> None:
    """Twenty clusters at a time, which know nothing of each other; after each step all records are equal.

    Each change finds the slices packed alike, so ours are not more and take not one write more.
    """
    if batch > 0 and not full_figures:
        pytest.skip("one of the full figures")
    seeds = range(batch * BATCH, (batch + 1) * BATCH)
    twins.max_endpoints = FEW
    clusters = [RandomCluster(seed, f"-{seed}") for seed in seeds]
    try:
        make_namespaces(twins, [name for cluster in clusters for name in cluster.namespaces])
        for api in twins.both:
            api.create_all(item for cluster in clusters for item in cluster.manifests())
        for step in range(STEPS):
            twins.step(f"{seeds}, step {step}")
            if step == STEPS - 1:
                break
            twins.adopt()
            for cluster in clusters:
                for change, key in cluster.change(8):
                    for api in twins.both:
                        apply_change(api, cluster, change, key)
    finally:
        twins.clear()


# --- hand-made cases --------------------------------------------------------------------------------------------------

CASES = {case.name: case for case in map(twin_cases.recorded, golden.names(twin_cases.CASES))}
CASES.update((case.name, case) for case in twin_cases.made_by_hand())
TOGETHER = [case.moved() for case in CASES.values() if not case.alone and not case.large]
LARGE = [case.moved() for case in CASES.values() if not case.alone and case.large]
EXCUSED = {
    (kind, namespace if CASES[name].alone else f"{namespace}-{name}", service)
    for each in deviations.load()
    for name in each.cases
    for kind, namespace, service in each.groups
}


def carry_out(twins: Twins, cases: list[twin_cases.Case], max_endpoints: int) -> None:
    """The first step of all cases, then the second one of all, and so on; each is compared."""
    twins.max_endpoints = max_endpoints
    applied = [item["metadata"].get("namespace") for case in cases for step in case.steps for item in step.apply]
    make_namespaces(twins, {name for name in applied if name})
    try:
        for number in range(max(len(case.steps) for case in cases)):
            steps = [case.steps[number] for case in cases if number < len(case.steps)]
            for api in twins.both:
                twin_cases.carry_out(api, steps, api is twins.ours, first=number == 0)
            free = {group: minimum for step in steps for group, minimum in step.free.items()}
            twins.step(f"step {number + 1}", EXCUSED, free)
            twins.adopt()
    finally:
        twins.clear()


def test_hand_made_cases(twins: Twins) -> None:
    carry_out(twins, TOGETHER, FEW)


def test_large_cases(twins: Twins, full_figures: bool) -> None:
    if not full_figures:
        pytest.skip("one of the full figures")
    carry_out(twins, LARGE, MANY)


@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.alone])
def test_case_that_counts_all_nodes(twins: Twins, full_figures: bool, name: str) -> None:
    if not full_figures:
        pytest.skip("one of the full figures")
    carry_out(twins, [CASES[name]], MANY)


def test_two_topology_annotations_that_differ_are_refused_by_the_api(twins: Twins) -> None:
    both = {"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "Disabled"}
    make_namespaces(twins, ["shop"])
    with pytest.raises(ApiError, match="topology"):
        twins.ours.create(plain_service(annotations=both))

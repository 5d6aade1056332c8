# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters in two API servers: what the real controllers write in one, and our passes in the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.endpoints_lab import remove_pod
from lab import ControlPlane
from lab.control_plane import Api, has_peers, path_of

from conformance.endpoints.random_cluster import RandomCluster
from conformance.endpoints.twin_clusters import Twins

# So few that Services have several slices, and it shows how they are filled.
MAX_ENDPOINTS = 3
BATCH = 20
STEPS = 5


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    """Both API servers; the real controllers are started by each step."""
    if not has_peers("kube-apiserver", "kube-controller-manager"):
        pytest.skip("kube-controller-manager has not been built (`make peers`)")
    with ControlPlane() as real, ControlPlane() as ours:
        yield Twins(real, ours, MAX_ENDPOINTS)


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
    clusters = [RandomCluster(seed, f"-{seed}") for seed in seeds]
    try:
        for api in twins.both:
            api.create_all(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                for cluster in clusters
                for name in cluster.namespaces
            )
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

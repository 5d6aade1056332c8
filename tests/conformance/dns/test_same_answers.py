# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same objects behind a real API server: our zones against a real CoreDNS's kubernetes plugin, and against BIND."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from lab.control_plane import ControlPlane, free_port

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns, snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.corefile import KUBERNETES, ZONES
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from conformance.dns import clusters, deviations, queries
from conformance.dns.deviations import Case, World
from conformance.dns.queries import Query
from conformance.dns.servers import LOOPBACK, Answer, Servers, ask_all, check_zone, corefile_for

READY = Query("kubernetes.default.svc.cluster.local.", "A")
REVERSE_CIDRS = ["10.96.0.0/12", "10.128.0.0/14", "fd00::/16"]
KINDS = ("Namespace", "Service", "EndpointSlice", "Endpoints", "Pod")


@dataclass
class Cluster:
    """A cluster behind a real API server, and what is asked about it."""

    objects: list[dict[str, Any]]
    snapshot: snapshot.Snapshot
    queries: list[Query]
    servers: Servers
    kubeconfig: str
    upstream: int
    used: set[str]

    def zones(self, pods: str, endpoint_names: bool) -> dns.Zones:
        """Our zones."""
        options = dns.options(servers=[LOOPBACK], pods=pods, endpoint_names=endpoint_names, reverse_cidrs=REVERSE_CIDRS)
        return dns.build(self.snapshot, options)

    @property
    def with_cluster_ip(self) -> list[str]:
        """namespace/name of all Services with a ClusterIP."""
        return [
            f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in self.objects
            if item["kind"] == "Service" and item["spec"].get("clusterIP", "None") != "None"
        ]


def _objects(plane: ControlPlane) -> list[dict[str, Any]]:
    found = [item | {"kind": kind} for kind in KINDS for item in plane.api.list(kind)]
    cidrs = plane.api.call("GET", "/apis/networking.k8s.io/v1/servicecidrs")["items"]
    return found + [item | {"kind": "ServiceCIDR"} for item in cidrs]


@pytest.fixture(scope="module")
def cluster(full_figures: bool) -> Iterator[Cluster]:
    """A cluster with every case and some random ones."""
    with ControlPlane() as plane, Servers() as servers:
        plane.api.create_all(clusters.every_case())
        for seed in range(12 if full_figures else 2):
            plane.api.create_all(clusters.random_cluster(seed, 60))
        # Its finalizer keeps it there, terminating.
        plane.api.delete("Pod", "shop", "leaving")
        objects = _objects(plane)
        yield Cluster(
            objects,
            build_snapshot(objects),
            queries.about(objects),
            servers,
            str(plane.kubeconfig()),
            servers.outside(),
            set(),
        )


def serve(cluster: Cluster, made: dns.Zones, name: str) -> dict[Query, Answer]:
    """The answers of a CoreDNS with our zones."""
    port = free_port()
    text = corefile_for(ZONES, port, cluster.upstream, zones=cluster.servers.zone_files(made))
    cluster.servers.coredns(name, text, port, READY)
    return ask_all(port, cluster.queries)


def left_out(query: Query) -> bool:
    """Pods that ended or are about to: to leave them out is up to who reads the cluster, see the test below."""
    return query.name.startswith(("10-128-7-4.", "10-128-7-5.", "10-128-7-6."))


@pytest.mark.parametrize(("pods", "endpoint_names"), [("disabled", False), ("verified", True)])
def test_zones_answer_as_the_kubernetes_plugin_does(cluster: Cluster, pods: str, endpoint_names: bool) -> None:
    port = free_port()
    text = corefile_for(KUBERNETES, port, cluster.upstream, kubeconfig=cluster.kubeconfig, pods=pods)
    cluster.servers.coredns(f"kubernetes-{pods}", text, port, READY)
    theirs = ask_all(port, cluster.queries)
    made = cluster.zones(pods, endpoint_names)
    ours = serve(cluster, made, f"zones-{pods}")
    world = World(made, cluster.with_cluster_ip)
    unexplained = []
    for query in cluster.queries:
        if ours[query] != theirs[query] and not left_out(query):
            deviation = deviations.explain(Case(query, theirs[query], ours[query], world))
            if deviation is None:
                unexplained.append(f"{query}\n  theirs: {theirs[query]}\n  ours:   {ours[query]}")
            else:
                cluster.used.add(deviation.title)
    assert not unexplained, "\n".join(unexplained)
    # Most answers carry records, so equality says something.
    assert sum(1 for answer in ours.values() if answer.records) > 500


def test_pods_that_ended_have_no_name(cluster: Cluster) -> None:
    ours = serve(cluster, cluster.zones("verified", False), "zones-pods")
    answers = {query.name: ours[query].rcode for query in cluster.queries if left_out(query)}
    assert answers
    assert set(answers.values()) == {"NXDOMAIN"}


def test_every_deviation_is_still_one(cluster: Cluster) -> None:
    assert cluster.used == {deviation.title for deviation in deviations.DEVIATIONS}


def test_zone_files_pass_named_checkzone(cluster: Cluster) -> None:
    for pods, endpoint_names in (("disabled", False), ("verified", True)):
        sources = cluster.servers.zone_files(cluster.zones(pods, endpoint_names))
        assert len(sources) > 20
        assert [problem for problem in map(check_zone, sources) if problem] == []


def test_bind_serves_the_same_zone_files_with_the_same_answers(cluster: Cluster) -> None:
    made = cluster.zones("verified", True)
    ours = serve(cluster, made, "zones-for-bind")
    port = cluster.servers.bind(cluster.servers.zone_files(made), READY, cluster.upstream)
    theirs = ask_all(port, cluster.queries)
    world = World(made, cluster.with_cluster_ip)
    unexplained = [
        f"{query}\n  BIND:    {theirs[query]}\n  CoreDNS: {ours[query]}"
        for query in cluster.queries
        if ours[query] != theirs[query] and not deviations.explain_bind(Case(query, theirs[query], ours[query], world))
    ]
    assert not unexplained, "\n".join(unexplained)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random Services, Pods and Nodes, and what happens to them: for a comparison with the real controllers.

Only what has one right answer: topology-mode Auto is free to choose, so it is left to the recorded cases.
"""

from __future__ import annotations

import copy
import random

NAMESPACES = ("shop", "blog")
NAMES = {"http": (8080, 8081), "metrics": (9100,)}


class RandomCluster:
    """A cluster that changes; the same seed gives the same history.

    `objects` maps (kind, namespace, name) to a manifest with its status. A Pod in `leaving` is deleted and stays,
    terminating, since a finalizer holds it. A suffix keeps the names of several clusters in one API server apart.
    """

    def __init__(self, seed: int, suffix: str = "") -> None:
        self.random = random.Random(seed)
        self.namespaces = [f"{name}{suffix}" for name in NAMESPACES]
        self._nodes = f"node{suffix}"
        self.objects: dict[tuple[str, str, str], dict] = {}
        self.leaving: set[tuple[str, str, str]] = set()
        self._addresses = 0
        for letter in "abcd":
            self._put(self._node(letter))
        for namespace in self.namespaces:
            for number in range(6):
                self._put(self._service(namespace, f"svc-{number}"))
            for number in range(12):
                self._put(self._pod(namespace, f"pod-{number}"))
        for namespace in self.namespaces:
            self._put(self._endpoints(namespace, "svc-5"))

    def _put(self, item: dict) -> None:
        meta = item["metadata"]
        self.objects[(item["kind"], meta.get("namespace", ""), meta["name"])] = item

    def _node(self, letter: str) -> dict:
        zone = self.random.choice([{}, {"topology.kubernetes.io/zone": f"zone-{self.random.choice('12')}"}])
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"{self._nodes}-{letter}",
                "labels": {"kubernetes.io/hostname": f"{self._nodes}-{letter}", **zone},
            },
            "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def _service(self, namespace: str, name: str) -> dict:
        choose = self.random.choice
        ports = choose(
            [
                [{"port": 80}],
                [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 90, "targetPort": "metrics"}],
                [{"name": "a", "port": 80, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"}],
                [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "targetPort": 5353}],
            ]
        )
        spec = {
            "ports": ports,
            # The last one has Endpoints that people write.
            **({} if name == "svc-5" else {"selector": {"app": choose("xyz")}}),
            **choose([{}, {}, {"clusterIP": "None"}]),
            **choose([{}, {"ipFamilyPolicy": "RequireDualStack"}, {"ipFamilies": ["IPv6"]}]),
            **choose([{}, {}, {"publishNotReadyAddresses": True}]),
            **choose([{}, {"trafficDistribution": choose(["PreferClose", "PreferSameZone", "PreferSameNode"])}]),
        }
        meta = {"namespace": namespace, "name": name, "labels": choose([{}, {"team": "a"}, {"team": "b", "x": ""}])}
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}

    def _pod(self, namespace: str, name: str) -> dict:
        choose = self.random.choice
        ports = [
            {"name": port, "containerPort": choose(numbers)}
            for port, numbers in NAMES.items()
            if choose([True, True, False])
        ]
        container = {"name": "main", "image": "example.test/main", "ports": ports}
        sidecar = {"name": "side", "image": "example.test/side", "restartPolicy": "Always"}
        sidecar["ports"] = [{"name": "metrics", "containerPort": 9200}] if choose([True, False]) else []
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": {"app": choose("xyz")},
                "finalizers": ["conformance.test/hold"],
            },
            "spec": {
                "containers": [container],
                "initContainers": [sidecar],
                "nodeName": f"{self._nodes}-{choose(['a', 'b', 'c', 'd', 'gone'])}",
                "automountServiceAccountToken": False,
                **choose([{}, {"hostname": name, "subdomain": f"svc-{choose('0123')}"}]),
            },
            "status": self._status(),
        }

    def _status(self) -> dict:
        self._addresses += 1
        four, six = f"10.20.0.{self._addresses}", f"fd00:20::{self._addresses:x}"
        listed = self.random.choice([[], [four], [four, six], [four, six], [four, six]])
        return {
            "phase": self.random.choice(["Running", "Running", "Running", "Pending", "Succeeded", "Failed"]),
            "conditions": [{"type": "Ready", "status": self.random.choice(["True", "True", "False", "Unknown"])}],
            **({"podIP": listed[0], "podIPs": [{"ip": each} for each in listed]} if listed else {}),
        }

    def _endpoints(self, namespace: str, name: str) -> dict:
        def addresses(count: int) -> list[dict]:
            return [{"ip": f"10.30.0.{self.random.randrange(1, 200)}"} for _each in range(count)]

        subsets = [
            {
                "addresses": addresses(self.random.randrange(1, 4)),
                "notReadyAddresses": addresses(self.random.randrange(3)),
                "ports": [{"name": "p", "port": self.random.choice([80, 81]), "protocol": "TCP"}],
            }
            for _each in range(self.random.randrange(1, 3))
        ]
        meta = {"namespace": namespace, "name": name, "annotations": {"note": str(self.random.randrange(3))}}
        return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}

    def change(self, times: int) -> list[tuple[str, tuple[str, str, str]]]:
        """Let some things happen; returns (what, key) of each: status, leave, replace or labels."""
        done = []
        for _each in range(times):
            key = self.random.choice(sorted(self.objects))
            kind, namespace, name = key
            if kind == "Pod":
                if key in self.leaving:
                    continue
                what = self.random.choice(["status", "leave"])
                if what == "status":
                    self.objects[key]["status"] = self._status()
                else:
                    self.leaving.add(key)
            elif kind == "Service":
                what = "replace"
                fresh = self._service(namespace, name)
                old = self.objects[key]["spec"]
                # The API lets neither the address nor the families of a Service change.
                kept = {part: old[part] for part in ("clusterIP", "ipFamilyPolicy", "ipFamilies") if part in old}
                spec = {
                    part: value
                    for part, value in fresh["spec"].items()
                    if part not in ("clusterIP", "ipFamilyPolicy", "ipFamilies")
                }
                fresh["spec"] = {**spec, **kept}
                self.objects[key] = fresh
            elif kind == "Node":
                what = "labels"
                self.objects[key] = self._node(name[-1])
            else:
                what = "replace"
                self.objects[key] = self._endpoints(namespace, name)
            done.append((what, key))
        return done

    def manifests(self) -> list[dict]:
        """All objects, copied."""
        return copy.deepcopy(list(self.objects.values()))

    def manifest(self, key: tuple[str, str, str]) -> dict:
        """One object, copied."""
        return copy.deepcopy(self.objects[key])

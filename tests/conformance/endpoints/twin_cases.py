# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recorded and hand-made cases as steps for twin clusters, and how a step is carried out in an API server."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from integration.endpoints_lab import remove_pod
from lab.control_plane import Api, ApiError, path_of

from conformance.endpoints import compare, golden, hand_made
from conformance.endpoints.twin_clusters import MANAGERS

CASES = Path(compare.__file__).resolve().parent / "cases"
NOT_FOUND = 404
# More objects than this and the case belongs to the full figures.
MANY = 150
# What a Service keeps when it is applied again, unless that says otherwise.
_KEPT = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
_IDENTITY = ("uid", "resourceVersion", "creationTimestamp")


class Deed(NamedTuple):
    """One step of one case. ``delete``: (kind, namespace, name); ``free``: groups with free hints and their minimum."""

    apply: list[dict]
    delete: list[tuple[str, str, str]]
    free: dict[tuple, dict[str, int]]


class Case(NamedTuple):
    """``alone``: it counts all Nodes there are; ``large``: it belongs to the full figures."""

    name: str
    steps: list[Deed]
    alone: bool
    large: bool

    def moved(self) -> Case:
        """The same in a namespace and on Nodes of its own, so that others do not matter."""
        steps = [
            Deed(
                [_moved(item, self.name) for item in step.apply],
                [(kind, *_moved_name(kind, where, name, self.name)) for kind, where, name in step.delete],
                {},
            )
            for step in self.steps
        ]
        return self._replace(steps=steps)


def _moved_name(kind: str, namespace: str, name: str, case: str) -> tuple[str, str]:
    return ("", f"{name}-{case}") if kind == "Node" else (f"{namespace}-{case}", name)


def _moved(item: dict, case: str) -> dict:
    made = copy.deepcopy(item)
    meta = made["metadata"]
    where, name = _moved_name(made["kind"], meta.get("namespace", ""), meta["name"], case)
    meta.update({"name": name, **({"namespace": where} if where else {})})
    if made["kind"] == "Pod" and made["spec"].get("nodeName"):
        made["spec"]["nodeName"] += f"-{case}"
    for subset in made.get("subsets") or ():
        for address in (*(subset.get("addresses") or ()), *(subset.get("notReadyAddresses") or ())):
            if "nodeName" in address:
                address["nodeName"] += f"-{case}"
            if "namespace" in address.get("targetRef", {}):
                address["targetRef"]["namespace"] += f"-{case}"
    return made


def recorded(name: str) -> Case:
    """A recorded case; what was recorded in it is not looked at."""
    steps = [
        Deed(
            step["apply"],
            [(each["kind"], each.get("namespace", ""), each["name"]) for each in step["delete"]],
            {tuple(each["group"]): each["minimum"] for each in step["unstable_hints"]},
        )
        for step in golden.read(CASES, name)["steps"]
    ]
    applied = [item for step in steps for item in step.apply]
    size = sum(1 + sum(len(subset.get("addresses") or ()) for subset in item.get("subsets") or ()) for item in applied)
    alone = any("topology-" in name for item in applied for name in item["metadata"].get("annotations") or {})
    return Case(name, steps, alone, size > MANY)


def made_by_hand() -> Iterable[Case]:
    """All of `hand_made`."""
    for cases, alone, large in (
        (hand_made.TOGETHER, False, False),
        (hand_made.ALONE, True, False),
        (hand_made.LARGE, False, True),
    ):
        for name, steps in cases.items():
            deeds = [
                Deed(
                    [_cleaned(item) for item in step.apply],
                    [(kind, "" if kind == "Node" else "shop", gone) for kind, gone in step.delete],
                    {},
                )
                for step in steps
            ]
            yield Case(name, deeds, alone, large)


def _cleaned(item: dict) -> dict:
    """Without the UID that builders invent."""
    made = copy.deepcopy(item)
    made["metadata"].pop("uid", None)
    return made


def carry_out(api: Api, steps: Iterable[Deed], ours: bool, first: bool) -> None:
    """One step of several cases in one API server.

    :param ours: whether our passes keep its records.
    :param first: nothing is there yet.
    """
    steps = list(steps)
    manifests = [_with_own_label(item) if ours else copy.deepcopy(item) for step in steps for item in step.apply]
    if first:
        api.create_all(manifests)
    else:
        for manifest in manifests:
            _apply(api, manifest)
    for step in steps:
        for kind, namespace, name in step.delete:
            if kind == "Pod":
                remove_pod(api, namespace, name)
            else:
                api.delete(kind, namespace, name)


def _with_own_label(manifest: dict) -> dict:
    """Endpoints that say that the real controller manages them say so of ours."""
    made = copy.deepcopy(manifest)
    if made["kind"] == "Endpoints":
        compare.rename([made], MANAGERS, True)
    return made


def _apply(api: Api, wanted: dict) -> None:
    """Creates an object, or makes the one that is there so."""
    meta = wanted["metadata"]
    kind, namespace, name = wanted["kind"], meta.get("namespace", ""), meta["name"]
    try:
        current = api.call("GET", path_of(kind, namespace, name))
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        api.create(wanted)
        return
    kept = {part: current["metadata"][part] for part in _IDENTITY}
    if kind in ("Pod", "Node"):
        # Their spec stays; null removes what is not wanted.
        change = {
            part: {**dict.fromkeys(current["metadata"].get(part) or {}), **(meta.get(part) or {})}
            for part in ("labels", "annotations")
        }
        api.patch(kind, namespace, name, {"metadata": change})
        gone = {"podIP": None, "podIPs": None} if kind == "Pod" else {}
        api.patch(kind, namespace, name, {"status": {**gone, **wanted["status"]}}, "/status")
        return
    if kind == "Service":
        spec = {part: current["spec"][part] for part in _KEPT if part in current["spec"]}
        wanted["spec"] = {**spec, **wanted["spec"]}
    api.call("PUT", path_of(kind, namespace, name), {**wanted, "metadata": {**meta, **kept}})

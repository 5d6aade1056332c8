# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two API servers with the same objects: the real controllers keep the records of one, our passes keep the other's."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Container, Mapping
from types import SimpleNamespace

from integration.endpoints_lab import clear, client_of, run, stop_controllers
from lab import ControlPlane
from lab.control_plane import Api

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.endpoint_pass import PassOptions
from conformance.endpoints import compare, normalise
from conformance.endpoints.adapter import SETTINGS
from conformance.endpoints.difference import all_differences

MANAGERS = SimpleNamespace(
    slice_manager=SETTINGS.manager, mirror_manager=SETTINGS.mirror_manager, endpoints_manager=SETTINGS.manager
)
SERVICE_NAME = "kubernetes.io/service-name"
RECORDS = ("EndpointSlice", "Endpoints")
# The real controllers need a few seconds to start, many more beside other tests.
PATIENCE = 240

_ServiceKey = tuple[str, str]


def service_of(item: dict) -> _ServiceKey:
    """The Service to which a record belongs."""
    meta = item["metadata"]
    return meta["namespace"], (meta.get("labels") or {}).get(SERVICE_NAME, meta["name"])


class Records:
    """The endpoint records of one API server at one time; those of the server's own Service do not count."""

    def __init__(self, api: Api) -> None:
        listed = {kind: api.list(kind) for kind in ("Service", *RECORDS)}
        owners = {item["metadata"]["uid"] for kind in ("Service", "Endpoints") for item in listed[kind]}
        self._items = {
            kind: [
                item
                for item in listed[kind]
                if item["metadata"]["namespace"] != "default"
                and all(owner["uid"] in owners for owner in item["metadata"].get("ownerReferences", ()))
            ]
            for kind in RECORDS
        }

    def of(self, kind: str) -> list[dict]:
        """The records of one kind; as the garbage collector would leave them, which does not run."""
        return copy.deepcopy(self._items[kind])

    def outcome(self, ours: bool) -> dict:
        """What is compared."""
        slices, listed = self.of("EndpointSlice"), self.of("Endpoints")
        if ours:
            compare.rename(slices + listed, MANAGERS, False)
        return normalise.outcome(slices, listed)

    def slices(self) -> Counter[tuple[str, str, str]]:
        """How many slices each Service has, by family."""
        return Counter((*service_of(item), item["addressType"]) for item in self.of("EndpointSlice"))

    def writes_since(self, before: Records) -> Counter[_ServiceKey]:
        """How many records of each Service were created, changed or deleted."""
        made: Counter[_ServiceKey] = Counter()
        found = [
            {(kind, *service_of(item), item["metadata"]["name"]): item for kind in RECORDS for item in records.of(kind)}
            for records in (before, self)
        ]
        for key in {*found[0], *found[1]}:
            old, new = (each.get(key) for each in found)
            versions = {item["metadata"]["resourceVersion"] if item else None for item in (old, new)}
            if len(versions) == 2:
                made[key[1:3]] += 1
        return made


class Twins:
    """Both clusters. ``max_endpoints``: of a slice, in both."""

    max_endpoints = 3

    def __init__(self, real: ControlPlane, ours: ControlPlane) -> None:
        self._plane = real
        self.real, self.ours = real.api, ours.api
        self._client = client_of(ours)

    def _pass(self) -> dict:
        return run(self._client, PassOptions(write="both", max_endpoints=self.max_endpoints))

    @property
    def both(self) -> tuple[Api, Api]:
        """The API of the real controllers, and that of our passes."""
        return self.real, self.ours

    def step(
        self,
        what: str,
        excused: Container[tuple] = (),
        free: Mapping[tuple, Mapping[str, int]] | None = None,
    ) -> None:
        """Lets both controllers do what is to be done, and compares: records, packing, number of slices and of writes.

        What the real controllers write depends on the order of events; right after a start, on the objects alone. So
        they run only here.

        :param what: said when something differs.
        :param excused: (kind, namespace, Service) of what differs on purpose.
        :param free: groups whose hints may be chosen, with the least of each zone.
        """
        before = [Records(api) for api in self.both]
        self._plane.start_controllers(max_endpoints=self.max_endpoints)
        try:
            self._pass()
            assert self._pass()["changed"] is False, f"{what}: a second pass writes again"
            found = self._wait_for_equal(before, excused, free)
            assert found == [], f"{what}: {found}"
        finally:
            stop_controllers(self._plane)
        real, ours = (Records(api) for api in self.both)
        for name, theirs, own in (
            ("slices", real.slices(), ours.slices()),
            ("writes", real.writes_since(before[0]), ours.writes_since(before[1])),
        ):
            more = {
                key: f"{own[key]} instead of {theirs[key]}"
                for key in own
                if own[key] > theirs[key] and ("Endpoints", *key[:2]) not in excused
            }
            assert more == {}, f"{what}: more {name} than the real controllers'"

    def _wait_for_equal(
        self, before: list[Records], excused: Container[tuple], free: Mapping[tuple, Mapping[str, int]] | None
    ) -> list[str]:
        """The differences that are left once the real controllers are done; equal packing shows that they are."""
        # Those of nobody's Service: the original deletes them once, ours stay.
        old = [
            item
            for records, ours in zip(before, (False, True), strict=True)
            for item in records.outcome(ours)["endpoints"]
        ]
        deadline = time.monotonic() + PATIENCE
        while True:
            # Ours does not change; but a connection that nothing asks is closed.
            real, ours = Records(self.real).outcome(False), Records(self.ours).outcome(True)
            found = [
                text
                for name, text in all_differences(real, ours, free, strict_packing=True, before=old)
                if tuple(name) not in excused
            ]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def adopt(self) -> None:
        """Packs our slices as the real controllers packed theirs: which endpoints share a slice is chance there.

        What has to be written at the next change depends on it, so only then are writes comparable. The next pass must
        not mind.
        """
        theirs, own = Records(self.real), Records(self.ours)
        uids = {
            (kind, item["metadata"]["namespace"], item["metadata"]["name"]): item["metadata"]["uid"]
            for kind in ("Service", "Endpoints", "Pod")
            for item in self.ours.list(kind)
        }
        wanted, found = (_by_service(records) for records in (theirs, own))
        for key in sorted({*wanted, *found}):
            if _packing(wanted.get(key, [])) == _packing(found.get(key, [])):
                continue
            for item in found.get(key, []):
                self.ours.delete("EndpointSlice", key[0], item["metadata"]["name"])
            self.ours.create_all(_transplanted(item, uids) for item in wanted.get(key, []))
        assert self._pass()["changed"] is False, "slices that are packed differently are rewritten"

    def clear(self) -> None:
        """Removes everything."""
        stop_controllers(self._plane)
        for api in self.both:
            clear(api)


def _by_service(records: Records) -> dict[_ServiceKey, list[dict]]:
    made: dict[_ServiceKey, list[dict]] = {}
    for item in records.of("EndpointSlice"):
        made.setdefault(service_of(item), []).append(item)
    return made


def _packing(slices: list[dict]) -> list[str]:
    """Which endpoints share a slice."""
    return sorted(
        normalise.key([item["addressType"], sorted(each["addresses"][0] for each in item["endpoints"] or ())])
        for item in slices
    )


def _transplanted(item: dict, uids: dict[tuple[str, str, str], str]) -> dict:
    """A slice of the real controllers as one of ours."""
    meta = item["metadata"]
    for owner in meta["ownerReferences"]:
        owner["uid"] = uids[(owner["kind"], meta["namespace"], owner["name"])]
    for each in item["endpoints"] or ():
        target = each.get("targetRef")
        if target:
            target["uid"] = uids[("Pod", target["namespace"], target["name"])]
    compare.rename([item], MANAGERS, True)
    return {**item, "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}

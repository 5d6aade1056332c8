# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass of the endpoints controller against an API server: read, compute, write only what differs.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_completion import wrong_objects
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_records import Change
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoints import (
    ClusterObjects,
    EndpointsSettings,
    Plan,
    other_controllers,
    plan_endpoints,
    plan_removal,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError

from .client import Client, ClusterError
from .endpoint_writer import Failure, write_changes
from .inventory import published_hosts
from .lists import objects_of, read_list
from .probes import Probe
from .resources import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES, Resource

# How often a pass begins anew because an object was changed by somebody else, or a write failed in passing.
ROUNDS = 6
FIRST_PAUSE = 0.5
MAX_NAMES = 100

_LEASES = Resource("Lease", "leases", "coordination.k8s.io")
_LISTS = {
    "services": SERVICES,
    "pods": PODS,
    "nodes": NODES,
    "endpoints": ENDPOINTS,
    "endpointslices": ENDPOINT_SLICES,
}


class PassOptions(NamedTuple):
    """The options of the module of the same names; `inventory` is None where it is not given."""

    state: str = "present"
    write: str = "endpointslices"
    namespaces: Sequence[str] = ()
    managed_by: str = "servicenet.kubenode.io"
    max_endpoints: int = 100
    beside_controller: bool = False
    inventory: Sequence[Mapping[str, Any]] | None = None
    workers: int = 8
    page_size: int = 500
    check: bool = False


def run_pass(
    client: Client,
    options: PassOptions,
    progress: Callable[[int, int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """One pass. Returns the module's result; raises ServicenetError.

    :param progress: is told (writes done, all writes) after each write.
    """
    warnings: list[str] = []
    evidence: list[str] = []
    written: list[Change] = []
    pause = FIRST_PAUSE
    probed: dict[Probe, bool] = {}
    for remaining in reversed(range(ROUNDS)):
        try:
            objects = _read(client, options)
        except ClusterError as error:
            if not written:
                raise
            raise ClusterError(f"{len(written)} writes were done; the next run does the rest. {error}") from None
        settings = _settings(options)
        with _told_of(objects, client.server):
            if not written:
                evidence = _evidence(client, objects, settings)
            if evidence and not options.beside_controller and options.state == "present":
                return _result([], [f"Nothing is written: {' '.join(evidence)} See beside_controller."], evidence, True)
            plan = _plan(objects, settings, options, probed)
            warnings = plan.warnings
            # Also for its diff: what can't be shown is not written.
            planned = _result([*written, *plan.changes], warnings, evidence, False)
        if options.check or not plan.changes:
            return planned
        outcome = write_changes(client, plan.changes, options.workers, progress)
        written += outcome.done
        again = [failure for failure in outcome.failures if failure.stale or failure.passing]
        if len(again) < len(outcome.failures) or (again and not remaining):
            raise _failed(outcome.failures, len(written), len(plan.changes) - len(outcome.done))
        if not again:
            return _result(written, warnings, evidence, False)
        sleep(pause)
        pause *= 2
    raise ClusterError(f"The API server {client.server} was asked {ROUNDS} times in vain.")


@contextlib.contextmanager
def _told_of(objects: ClusterObjects, server: str) -> Iterator[None]:
    """Turns what comes of values of a wrong type, which no API server has, into a sentence that names the objects.

    They are not looked for beforehand: that would cost every pass as much as the pass itself.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError):
        wrong = wrong_objects(objects)
        if not wrong:
            raise
        raise _no_objects(server, wrong) from None


def _no_objects(server: str, wrong: Sequence[ObjectError]) -> ClusterError:
    more = f" And {len(wrong) - 5} more." if len(wrong) > 5 else ""
    shown = " ".join(f"{str(each).rstrip('.')}." for each in wrong[:5])
    return ClusterError(f"The API server {server} has objects that can't be read. {shown}{more}")


def _settings(options: PassOptions) -> EndpointsSettings:
    now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return EndpointsSettings(
        manager=options.managed_by,
        write=options.write,
        limit=options.max_endpoints,
        trigger_time=now,
        namespaces=frozenset(options.namespaces) if options.namespaces else None,
    )


def _read(client: Client, options: PassOptions) -> ClusterObjects:
    """All lists, side by side."""
    wanted = [
        (name, resource, namespace)
        for name, resource in _LISTS.items()
        for namespace in (options.namespaces if options.namespaces and resource.namespaced else ("",))
    ]
    with ThreadPoolExecutor(max_workers=min(len(wanted), 8)) as threads:
        jobs = [
            (name, threads.submit(read_list, client, resource, namespace, options.page_size))
            for name, resource, namespace in wanted
        ]
    objects = ClusterObjects()
    refused: list[ObjectError] = []
    for name, job in jobs:
        getattr(objects, name).extend(objects_of(job.result(), client.server, refused))
    if refused:
        # What it was is not known, so whose records are of use isn't either.
        raise _no_objects(client.server, refused)
    return objects


def _evidence(client: Client, objects: ClusterObjects, settings: EndpointsSettings) -> list[str]:
    """What shows that the cluster has a controller of its own."""
    found = other_controllers(objects, settings)
    try:
        lease = json.loads(client.request("get", _LEASES, "kube-system", "kube-controller-manager"))
        spec = {**(lease.get("spec") or {})}
    except ClusterError as error:
        if error.status in (403, 404):
            return found
        raise
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise ClusterError(
            f"The API server {client.server} answers to get a lease with something that is none."
        ) from None
    if spec.get("holderIdentity") and _is_recent(str(spec.get("renewTime") or "")):
        found.append(f"kube-controller-manager runs as {str(spec['holderIdentity'])[:253]}.")
    return found


def _is_recent(text: str) -> bool:
    """Whether a time is within five minutes of now, so that clocks may differ a little."""
    try:
        then = dt.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return False
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    return abs((now - then).total_seconds()) < 300


def _plan(
    objects: ClusterObjects, settings: EndpointsSettings, options: PassOptions, probed: dict[Probe, bool]
) -> Plan:
    if options.state == "absent":
        return plan_removal(objects, settings)
    published = None if options.inventory is None else published_hosts(objects.services, options.inventory, probed)
    return plan_endpoints(objects, settings, published)


def _failed(failures: Sequence[Failure], done: int, left: int) -> ClusterError:
    """The one error for all failed writes."""
    shown = " ".join(failure.text for failure in failures[:5])
    more = f" And {len(failures) - 5} more." if len(failures) > 5 else ""
    return ClusterError(
        f"{done} writes were done, {left} were not; the next run completes them. {shown}{more}",
        failures[0].error.status,
    )


def _result(changes: Sequence[Change], warnings: list[str], evidence: list[str], skipped: bool) -> dict[str, Any]:
    counts = Counter(change.action for change in changes)
    names = sorted({f"{change.namespace}/{change.service}" for change in changes})
    return {
        "changed": bool(changes),
        "counts": {action + "d": counts[action] for action in ("create", "update", "delete")},
        "services": {"total": len(names), "names": names[:MAX_NAMES]},
        "own_controller": evidence,
        "skipped_for_controller": skipped,
        "warnings": warnings,
        "diff": _diff(changes),
    }


def _diff(changes: Sequence[Change]) -> dict[str, str]:
    """Before and after, a line for each record that differs."""
    before = "".join(_line(change, change.before) for change in changes)
    after = "".join(_line(change, change.after) for change in changes)
    return {"before_header": "endpoint records", "after_header": "endpoint records", "before": before, "after": after}


def _line(change: Change, item: Mapping[str, Any] | None) -> str:
    if item is None:
        return ""
    start = f"{change.namespace}/{change.service} {change.kind} {change.name}"
    if change.kind == "Endpoints":
        subsets = item.get("subsets") or ()
        ready = sum(len(subset.get("addresses") or ()) for subset in subsets)
        waiting = sum(len(subset.get("notReadyAddresses") or ()) for subset in subsets)
        ports = sorted({_port(port) for subset in subsets for port in subset.get("ports") or ()})
        return f"{start} [{', '.join(ports)}] -> {ready} ready, {waiting} not ready\n"
    endpoints = item.get("endpoints") or ()
    ports = sorted(_port(port) for port in item.get("ports") or ())
    listed = [
        f"{each['addresses'][0]}{'' if (each.get('conditions') or {}).get('ready') is not False else ' (not ready)'}"
        for each in endpoints
    ]
    return f"{start} {item.get('addressType')} [{', '.join(ports)}] -> {', '.join(listed) or 'no endpoints'}\n"


def _port(port: Mapping[str, Any]) -> str:
    name = port.get("name")
    return f"{name + ':' if name else ''}{port.get('port')}/{port.get('protocol') or 'TCP'}"

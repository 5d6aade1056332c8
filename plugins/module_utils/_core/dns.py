# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The zones of a cluster from its snapshot.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import dns_names, model, values
from .dns_records import Pointer, Record, Records, Writer
from .dns_zonefile import Zone
from .errors import ObjectError, OptionError
from .snapshot import Snapshot, parsed
from .values import Broken

SPECIFICATION = "1.1.0"
SPECIFICATION_TTL = 28800
PODS_MODES = ("disabled", "verified")
MAX_TTL = 3600
# The kubernetes plugin gives up after as many aliases.
MAX_ALIASES = 8


class DnsOptions(NamedTuple):
    """What is served, checked: see ``options``.

    ``servers`` are the addresses of ``ns.dns.<domain>``. ``reverse_cidrs`` None: those of the ServiceCIDRs in the
    snapshot.
    """

    domain: str
    ttl: int
    pods: str
    servers: tuple[str, ...]
    reverse_cidrs: tuple[str, ...] | None
    endpoint_names: bool


class Zones(NamedTuple):
    """The forward zone, then the reverse zones by origin; ``problems`` are what is not served, or not wholly."""

    zones: tuple[Zone, ...]
    problems: tuple[ObjectError, ...]


def options(
    domain: str = "cluster.local",
    ttl: int = 5,
    pods: str = "disabled",
    servers: Iterable[str] = (),
    reverse_cidrs: Iterable[str] | None = None,
    endpoint_names: bool = False,
) -> DnsOptions:
    """Checks the options; raises ``OptionError``."""
    try:
        addresses = tuple(values.address(s) for s in servers)
        values.number(ttl, "ttl", 0, MAX_TTL)
        values.choice(pods, "pods", PODS_MODES, "disabled")
    except Broken as wrong:
        raise OptionError(f"The option {wrong}.") from None
    if not addresses:
        raise OptionError("DNS needs at least one listen address.")
    return DnsOptions(
        dns_names.cluster_domain(domain),
        ttl,
        pods,
        addresses,
        None if reverse_cidrs is None else tuple(reverse_cidrs),
        endpoint_names,
    )


def build(snapshot: Snapshot, opts: DnsOptions) -> Zones:
    """The zones. The same snapshot and options always give the same value."""
    forward: list[Record] = []
    pointers: list[Pointer] = []
    problems: list[ObjectError] = []
    for made in _parts(snapshot, opts, problems):
        forward += made.forward
        pointers += made.pointers
        problems += made.problems
    if opts.pods == "verified" and not snapshot.counts["pods"]:
        problems.append(ObjectError("Snapshot", "pods", "it has none, so no Pod has a name"))
    forward = _without_loops(forward, problems)
    forward += _fixed(opts, snapshot.of_kind("Namespace"))
    reverse = _reverse(pointers, _origins(snapshot, opts), opts)
    zones = [_zone(opts.domain, forward, opts)]
    zones += [_zone(origin, reverse[origin], opts) for origin in sorted(reverse)]
    return Zones(tuple(zones), tuple(problems))


def _parts(snapshot: Snapshot, opts: DnsOptions, problems: list[ObjectError]) -> Iterator[Records]:
    writer = Writer(opts.domain, opts.ttl, opts.endpoint_names)
    for line in snapshot.service_lines():
        try:
            service = _read_service(line, opts.endpoint_names)
        except ObjectError as wrong:
            problems.append(wrong)
        else:
            yield writer.service(service)
    if opts.pods == "verified":
        for pod in snapshot.of_kind("Pod"):
            yield writer.pod(pod)


def _read_service(line: bytes, endpoint_names: bool) -> model.Service:
    """A Service; its slices are read only where they make records, which saves most of the time of a big cluster."""
    raw = parsed(line)
    spec = raw.get("spec") if isinstance(raw, dict) else None
    if not endpoint_names and isinstance(spec, dict) and spec.get("clusterIPs") != ["None"]:
        raw.pop("endpointSlices", None)
    return model.read_service(raw)


# ---------------------------------------------------------------------------------------------------------- forward


def _fixed(opts: DnsOptions, namespaces: Iterable[str]) -> list[Record]:
    """What does not come from Services. A name that exists only because of names below it answers "no data" instead of
    "no such name", so each namespace gets a placeholder below it."""
    domain, ttl = opts.domain, opts.ttl
    placeholders = [f"svc.{domain}", f"pod.{domain}"]
    for namespace in namespaces:
        placeholders.append(f"{namespace}.svc.{domain}")
        if opts.pods != "disabled":
            placeholders.append(f"{namespace}.pod.{domain}")
    records = [Record(f"_ent.{name}", "TXT", '""', ttl) for name in placeholders]
    records.append(Record(f"dns-version.{domain}", "TXT", f'"{SPECIFICATION}"', SPECIFICATION_TTL))
    records += [Record(_server(opts), "AAAA" if ":" in address else "A", address, ttl) for address in opts.servers]
    return records


def _without_loops(records: list[Record], problems: list[ObjectError]) -> list[Record]:
    """Drops aliases that lead round in a circle, or on and on, and names them."""
    aliases = {r.owner: r.data for r in records if r.type == "CNAME"}
    lost = {}
    for owner in aliases:
        seen = [owner]
        # No further than matters: whoever may create Services could make a chain of thousands.
        while seen[-1] in aliases and aliases[seen[-1]] not in seen and len(seen) <= MAX_ALIASES + 1:
            seen.append(aliases[seen[-1]])
        if len(seen) > MAX_ALIASES + 1:
            lost[owner] = f"its externalName leads over more than the {MAX_ALIASES} aliases that a server follows"
        elif seen[-1] in aliases:
            lost[owner] = "its externalName leads into a loop: " + " -> ".join(
                [*seen[:4], *(["..."] if len(seen) > 4 else []), aliases[seen[-1]]]
            )
    for owner in sorted(lost):
        name, namespace = owner.split(".")[:2]
        problems.append(ObjectError("Service", f"{namespace}/{name}", f"{lost[owner]}; it is not served"))
    return [r for r in records if r.type != "CNAME" or r.owner not in lost]


# ---------------------------------------------------------------------------------------------------------- reverse


def _origins(snapshot: Snapshot, opts: DnsOptions) -> tuple[str, ...]:
    if opts.reverse_cidrs is not None:
        return dns_names.reverse_zones(opts.reverse_cidrs)
    return dns_names.reverse_zones(cidr for found in snapshot.of_kind("ServiceCIDR") for cidr in found.cidrs)


def _reverse(pointers: list[Pointer], origins: tuple[str, ...], opts: DnsOptions) -> dict[str, list[Record]]:
    """Origin -> PTR records. A ClusterIP has one name, even if an endpoint has the same address."""
    zones: dict[str, list[Record]] = {origin: [] for origin in origins}
    if not origins:
        return zones
    known = frozenset(origins)
    ordered = sorted(pointers)
    names_of_cluster_ips = {p.address: p.name for p in reversed(ordered) if p.cluster_ip}
    for pointer in ordered:
        if names_of_cluster_ips.get(pointer.address, pointer.name) == pointer.name:
            owner = dns_names.reverse_name(pointer.address)
            origin = dns_names.zone_of(owner, known)
            if origin is not None:
                zones[origin].append(Record(owner, "PTR", pointer.name, opts.ttl))
    return zones


def _server(opts: DnsOptions) -> str:
    return f"ns.dns.{opts.domain}"


def _zone(origin: str, records: list[Record], opts: DnsOptions) -> Zone:
    apex = Record(origin, "NS", _server(opts), opts.ttl)
    return Zone(
        origin,
        (apex, *sorted(set(records))),
        opts.ttl,
        _server(opts),
        f"hostmaster.{opts.domain}",
    )

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where answers from our zones differ from those of the kubernetes plugin on purpose, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns_names
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns import Zones
from conformance.dns.queries import DOMAIN, Query
from conformance.dns.servers import Answer

NODATA = Answer("NOERROR", ())
NXDOMAIN = Answer("NXDOMAIN", ())


class World:
    """What the zones hold: the types at each name, all names above one with records, what was reported as looping."""

    def __init__(self, made: Zones, with_cluster_ip: Iterable[str]) -> None:
        self.types: dict[str, set[str]] = {}
        for zone in made.zones:
            for record in zone.records:
                self.types.setdefault(record.owner, set()).add(record.type)
        self._origins = frozenset(zone.origin for zone in made.zones)
        self.above = {parent for owner in self.types for parent in _parents(owner)}
        self.loops = {_service_name(*p.key.split("/")) for p in made.problems if "loop" in p.reason}
        self.with_cluster_ip = {_service_name(*key.split("/")) for key in with_cluster_ip}

    def zone_of(self, name: str) -> str | None:
        """The origin of the zone that a name lies in."""
        return dns_names.zone_of(name, self._origins)


class Case(NamedTuple):
    """One question with both answers; its name in lower case."""

    query: Query
    theirs: Answer
    ours: Answer
    world: World

    @property
    def name(self) -> str:
        """The name that was asked for."""
        return self.query.name.lower()

    @property
    def own_types(self) -> set[str]:
        """The types that our zone has at that name."""
        return self.world.types.get(self.name, set())


class Deviation(NamedTuple):
    """A difference that is meant: what it is called, why it is so, and which cases are of its kind."""

    title: str
    reason: str
    holds: Callable[[Case], bool]


def _service_name(space: str, name: str) -> str:
    return f"{name}.{space}.svc.{DOMAIN}"


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[i:]) for i in range(1, len(labels) - 1)]


def _port_of(name: str) -> str:
    """The name with an underscore before each of its first two labels."""
    first, second, rest = (name + "..").split(".", 2)
    return f"_{first.lstrip('_')}._{second.lstrip('_')}.{rest[:-2]}"


def _names_an_endpoint_behind_a_cluster_ip(case: Case) -> bool:
    surplus = set(case.theirs.records) - set(case.ours.records)
    names = [r[2] for r in surplus if r[1] == "PTR"] or [case.name]
    return set(case.ours.records) <= set(case.theirs.records) and all(
        name.partition(".")[2] in case.world.with_cluster_ip for name in names
    )


def _is_an_alias(case: Case) -> bool:
    return case.own_types == {"CNAME"} and any(r[0] == case.name and r[1] == "CNAME" for r in case.ours.records)


DEVIATIONS = (
    Deviation(
        "A name that has only other names below it",
        "The name exists, so the answer is that it has no data (RFC 8020). The plugin denies it, and with it a "
        "resolver may deny what is below.",
        lambda c: c.theirs == NXDOMAIN and c.ours == NODATA and not c.own_types and c.name in c.world.above,
    ),
    Deviation(
        "Another type than the one that is there, at dns-version, at an address's name, at a port's name",
        "As above: the name exists.",
        lambda c: c.theirs == NXDOMAIN and c.ours == NODATA and bool(c.own_types) and c.query.kind not in c.own_types,
    ),
    Deviation(
        "The address of a port",
        "The specification gives a port's name SRV records alone; the plugin answers for the Service.",
        lambda c: (
            c.theirs.rcode == "NOERROR"
            and c.ours == NODATA
            and c.query.kind in ("A", "AAAA")
            and c.own_types == {"SRV"}
        ),
    ),
    Deviation(
        "A port without underscores",
        "There is no such name; the plugin drops underscores before it looks at a name.",
        lambda c: c.theirs.rcode == "NOERROR" and c.ours == NXDOMAIN and _port_of(c.name) in c.world.types,
    ),
    Deviation(
        "Other types than addresses of an ExternalName Service",
        "The name is an alias for every type (RFC 1034, 3.6.2); the plugin follows it for addresses only.",
        lambda c: c.theirs == NODATA and c.own_types == {"CNAME"} and c.query.kind not in ("A", "AAAA", "CNAME"),
    ),
    Deviation(
        "An ExternalName Service whose target in the cluster does not exist, or has no such address",
        "The alias is there and what it leads to is not: both are said (RFC 6604). The plugin hides the alias.",
        lambda c: c.theirs == NODATA and _is_an_alias(c) and all(r[1] == "CNAME" for r in c.ours.records),
    ),
    Deviation(
        "An ExternalName Service whose target outside does not exist",
        "The answer has the alias and what the upstream said of its target (RFC 6604). The plugin drops that.",
        lambda c: c.theirs.rcode == "NOERROR" and c.ours == Answer("NXDOMAIN", c.theirs.records) and _is_an_alias(c),
    ),
    Deviation(
        "ExternalName Services that lead round in a circle",
        "They are found when the zone is made, reported by name and not served, not found with each query.",
        lambda c: c.theirs.rcode == "NOERROR" and c.ours == NXDOMAIN and c.name in c.world.loops,
    ),
    Deviation(
        "A port of a Pod",
        "The plugin makes up an SRV record with port 0; Pods have addresses only.",
        lambda c: c.ours == NODATA and c.query.kind == "SRV" and f".pod.{DOMAIN}" in c.name,
    ),
    Deviation(
        "The name server's own name",
        "A zone has to have one: ns.dns.DOMAIN with the addresses that this server listens on. The plugin has one only "
        "if it listens on another address than the loopback, or finds itself behind a Service.",
        lambda c: c.name == f"ns.dns.{DOMAIN}" or (c.name == DOMAIN and c.query.kind == "NS"),
    ),
    Deviation(
        "Names of endpoints behind a ClusterIP",
        "Not part of the specification, and most of a big zone: served if `endpoint_names` asks for them.",
        lambda c: c.theirs.rcode == "NOERROR" and _names_an_endpoint_behind_a_cluster_ip(c),
    ),
    Deviation(
        "The name of an address outside of reverse_cidrs",
        "There is no zone for it: all of the reverse tree is not ours to answer for.",
        lambda c: c.query.kind == "PTR" and c.ours == NXDOMAIN and c.world.zone_of(c.name) is None,
    ),
)

BIND_DEVIATIONS = (
    Deviation(
        "A reverse name without data",
        "CoreDNS passes it on to the upstreams (fallthrough): the zones are wider than the cluster's addresses.",
        lambda c: c.name.endswith(".arpa.") and c.theirs == NODATA and c.ours == NXDOMAIN and c.name in c.world.above,
    ),
    Deviation(
        "The age of what an upstream said",
        "BIND always caches it; this CoreDNS runs without a cache.",
        lambda c: _without_age(c.theirs) == _without_age(c.ours),
    ),
)


def _without_age(answer: Answer) -> Answer:
    ours = (".arpa.", DOMAIN)
    return Answer(answer.rcode, tuple((*r[:3], r[3] if r[0].endswith(ours) else 0) for r in answer.records))


def table(known: Iterable[Deviation]) -> str:
    """The same as Markdown, for docs/conformance.md."""
    return "| what | reason |\n|---|---|\n" + "".join(f"| {each.title} | {each.reason} |\n" for each in known)


def explain(case: Case) -> Deviation | None:
    """The deviation that a difference belongs to."""
    return next((deviation for deviation in DEVIATIONS if deviation.holds(case)), None)


def explain_bind(case: Case) -> Deviation | None:
    """The same for the answers of BIND from the same zone files."""
    return next((deviation for deviation in BIND_DEVIATIONS if deviation.holds(case)), None)

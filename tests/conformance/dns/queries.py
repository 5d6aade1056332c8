# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The questions about a cluster: every name that its objects make, and as many that none makes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

DOMAIN = "cluster.local."
HOST_TYPES = ("A", "AAAA", "SRV", "TXT", "CNAME", "HTTPS", "MX")


class Query(NamedTuple):
    """One question."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.name} {self.kind}"


def about(objects: Iterable[dict[str, Any]]) -> list[Query]:
    """All questions, each once, in a fixed order."""
    names: dict[str, tuple[str, ...]] = {
        DOMAIN: ("A", "SOA", "NS", "TXT"),
        f"svc.{DOMAIN}": HOST_TYPES,
        f"pod.{DOMAIN}": HOST_TYPES,
        f"dns-version.{DOMAIN}": ("TXT", "A"),
        f"nothing.{DOMAIN}": HOST_TYPES,
        f"x.pood.{DOMAIN}": ("A",),
        f"ns.dns.{DOMAIN}": ("A", "AAAA"),
        f"dns.{DOMAIN}": ("A",),
        f"nospace.svc.{DOMAIN}": HOST_TYPES,
        f"web.nospace.svc.{DOMAIN}": HOST_TYPES,
        f"1-2-3-4.nospace.pod.{DOMAIN}": ("A",),
        "www.outside.example.": ("A", "AAAA", "TXT"),
        "gone.outside.example.": ("A",),
    }
    addresses: set[str] = {"10.96.200.200", "10.128.250.250", "fd00:10:96::f00d", "198.18.77.7"}
    for item in objects:
        metadata = item["metadata"]
        if item["kind"] == "Namespace":
            names[f"{metadata['name']}.svc.{DOMAIN}"] = HOST_TYPES
            names[f"{metadata['name']}.pod.{DOMAIN}"] = HOST_TYPES
            names[f"gone.{metadata['name']}.svc.{DOMAIN}"] = ("A", "SRV")
            names[f"10-9-9-9.{metadata['name']}.pod.{DOMAIN}"] = ("A",)
        elif item["kind"] == "Service":
            names.update(_of_service(item))
            addresses.update(a for a in item["spec"].get("clusterIPs", ()) if a != "None")
        elif item["kind"] == "EndpointSlice":
            names.update(_of_slice(item))
            addresses.update(a for e in item["endpoints"] or () for a in e["addresses"])
        elif item["kind"] == "Pod":
            for entry in item["status"].get("podIPs", ()):
                label = entry["ip"].replace(".", "-").replace(":", "-")
                names[f"{label}.{metadata['namespace']}.pod.{DOMAIN}"] = ("A", "AAAA", "TXT", "SRV")
    for address in addresses:
        name = ipaddress.ip_address(address).reverse_pointer + "."
        names[name] = ("PTR", "A", "TXT")
        names[name.partition(".")[2]] = ("PTR",)
    return [Query(name, kind) for name in sorted(names) for kind in names[name]]


def _of_service(item: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    name, space = item["metadata"]["name"], item["metadata"]["namespace"]
    own = f"{name}.{space}.svc.{DOMAIN}"
    names: dict[str, tuple[str, ...]] = {
        own: HOST_TYPES,
        f"{name.upper()}.{space}.SVC.{DOMAIN}": ("A", "SRV"),
        f"nothing.{own}": HOST_TYPES,
        f"_tcp.{own}": ("SRV", "A"),
        f"a.b.c.{own}": ("A",),
        f"*.{own}": ("A",),
        f"_nothing._tcp.{own}": ("SRV", "A"),
    }
    for port in item["spec"].get("ports", ()):
        for protocol in ("_tcp", "_udp", "_sctp"):
            label = port.get("name", "")
            if 0 < len(label) < 63:
                names[f"_{label}.{protocol}.{own}"] = ("SRV", "A", "AAAA", "TXT")
                names[f"{label}.{protocol[1:]}.{own}"] = ("SRV",)
    return names


def _of_slice(item: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    own = f"{item['metadata']['labels']['kubernetes.io/service-name']}.{item['metadata']['namespace']}.svc.{DOMAIN}"
    names: dict[str, tuple[str, ...]] = {}
    for port in item["ports"] or ():
        if port.get("name"):
            names[f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{own}"] = ("SRV", "A", "AAAA", "TXT")
    for entry in item["endpoints"] or ():
        labels = [entry["hostname"]] if entry.get("hostname") else []
        labels += [a.replace(".", "-").replace(":", "-") for a in entry["addresses"]]
        for label in labels:
            names[f"{label}{'0' if label.endswith('-') else ''}.{own}"] = ("A", "AAAA", "SRV", "TXT")
    return names

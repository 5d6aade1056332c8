# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names in the DNS: labels, the names that addresses get, and reverse zones.

A name that ends with a dot is absolute. All names are lower case.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from . import values
from .errors import OptionError
from .values import Broken

MAX_NAME = 253
# CoreDNS walks its zones one by one for each query.
MAX_REVERSE_ZONES = 256

_TARGET_LABEL = re.compile(r"[a-z0-9_](?:[-a-z0-9_]{0,61}[a-z0-9_])?\Z")


def is_label(text: str) -> bool:
    """Can ``text`` be the label of a host (RFC 1123)?"""
    return values.LABEL.match(text) is not None


def cluster_domain(value: object) -> str:
    """The option ``domain`` as an absolute name: ``cluster.local`` -> ``cluster.local.``"""
    try:
        text = values.subdomain(value.lower().rstrip(".") if isinstance(value, str) else value, "domain")
    except Broken as wrong:
        raise OptionError(f"The option {wrong}.") from None
    if not all(is_label(part) for part in text.split(".")):
        raise OptionError(f"The option domain {values.shown(value)} has a label of more than 63 characters.")
    if text == "arpa" or text.endswith(".arpa"):
        raise OptionError(f"The option domain {text} is a reverse zone: name those in reverse_cidrs.")
    return text + "."


def external_target(text: str) -> str:
    """The target of an ExternalName Service as an absolute name; raises ``Broken`` for what the DNS can't hold."""
    name = text.lower()
    if name.endswith("."):
        name = name[:-1]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        raise Broken(f"externalName {values.shown(text)} is an IP address, and an alias can only point at a name")
    if not 0 < len(name) <= MAX_NAME or not all(_TARGET_LABEL.match(part) for part in name.split(".")):
        raise Broken(f"externalName {values.shown(text)} is not a DNS name")
    return name + "."


@lru_cache(maxsize=200_000)
def dashed(address: str) -> str:
    """The label of an endpoint or Pod without a hostname: ``10.0.0.1`` -> ``10-0-0-1``, ``fd00::1`` -> ``fd00--1``."""
    if ":" not in address:
        return address.replace(".", "-")
    name = address.replace(":", "-")
    return name + "0" if name.endswith("-") else name


@lru_cache(maxsize=200_000)
def reverse_name(address: str) -> str:
    """The owner of the PTR record of an address: ``10.0.0.1`` -> ``1.0.0.10.in-addr.arpa.``"""
    if ":" not in address:
        return ".".join(reversed(address.split("."))) + ".in-addr.arpa."
    digits = ipaddress.IPv6Address(address).exploded.replace(":", "")
    return ".".join(reversed(digits)) + ".ip6.arpa."


def zone_of(name: str, origins: frozenset[str]) -> str | None:
    """The longest of the origins that ``name`` is in or below of, or None."""
    while name:
        if name in origins:
            return name
        name = name.partition(".")[2]
    return None


def reverse_zones(cidrs: Iterable[str]) -> tuple[str, ...]:
    """The reverse zones that cover the CIDRs, on byte (IPv4) or nibble (IPv6) boundaries: sorted origins.

    A CIDR between two boundaries is several zones; one smaller than the smallest zone (/24, /124) gets that zone whole.
    """
    origins = set()
    for cidr in cidrs:
        try:
            network = ipaddress.ip_network(values.network(cidr, "its entry"))
        except Broken as wrong:
            raise OptionError(f"The option reverse_cidrs: {wrong}.") from None
        step, most = (8, 24) if network.version == 4 else (4, 124)
        wanted = min(max(-(-network.prefixlen // step) * step, step), most)
        if wanted < network.prefixlen:
            network = network.supernet(new_prefix=wanted)
        if 2 ** (wanted - network.prefixlen) > MAX_REVERSE_ZONES:
            raise OptionError(f"The option reverse_cidrs has {cidr}, which is too large.")
        for part in network.subnets(new_prefix=wanted):
            whole = reverse_name(str(part.network_address))
            labels = whole.split(".")
            hidden = (part.max_prefixlen - wanted) // step
            origins.add(".".join(labels[hidden:]))
    if len(origins) > MAX_REVERSE_ZONES:
        raise OptionError(
            f"The option reverse_cidrs makes {len(origins)} reverse zones, more than {MAX_REVERSE_ZONES}: each query "
            "walks them all. Give CIDRs on byte boundaries."
        )
    return tuple(sorted(origins))

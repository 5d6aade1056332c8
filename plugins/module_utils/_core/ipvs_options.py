# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What annotations of a Service say to the ipvs mode: its scheduler, and the weights of its endpoints.

    servicenet.kubenode.io/scheduler: wlc
    servicenet.kubenode.io/weights: local=3, 10.129.0.0/16=2, 10.129.0.7=5

A weight is for an address, for all addresses of a CIDR, or for the endpoints on the node itself (``local``). The
longest prefix that fits counts, then ``local``; everything else has the weight 1.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .model import OWN_ANNOTATIONS
from .table import Backend, PortRules
from .values import shown

SCHEDULER = OWN_ANNOTATIONS + "scheduler"
WEIGHTS = OWN_ANNOTATIONS + "weights"
LOCAL = "local"
MOST_WEIGHT = 65535
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh")
# These heed no weight but 0.
WITHOUT_WEIGHTS = ("rr", "lc", "dh")


class ServiceOptions(NamedTuple):
    """``weights``: (network, weight), the longest prefix first. ``warnings`` are sentences that name the Service."""

    scheduler: str
    weights: tuple[tuple[Any, int], ...] = ()
    local: int = 1
    warnings: tuple[str, ...] = ()

    def weight(self, backend: Backend) -> int:
        """The weight of a real server."""
        if self.weights:
            address = ipaddress.ip_address(backend.address)
            for network, weight in self.weights:
                if address.version == network.version and address in network:
                    return weight
        return self.local if backend.local else 1


def options_of(service: str, annotations: Mapping[str, str], default: str) -> ServiceOptions:
    """What a Service asks for. What is invalid is warned of, and the default used in its place.

    :param service: namespace/name.
    :param annotations: its annotations.
    :param default: the scheduler of Services that name none.
    """
    warnings: list[str] = []
    scheduler = annotations.get(SCHEDULER, default)
    if scheduler not in SCHEDULERS:
        warnings.append(
            f"Service {service}: annotation {SCHEDULER} {shown(scheduler)} is none of {', '.join(SCHEDULERS)};"
            f" {default} is used."
        )
        scheduler = default
    weights: dict[Any, int] = {}
    local = 1
    for part in filter(None, (one.strip() for one in annotations.get(WEIGHTS, "").split(","))):
        whom, _equals, text = (one.strip() for one in part.partition("="))
        weight, network = _weight(text), None if whom == LOCAL else _network(whom)
        if weight is None or (network is None and whom != LOCAL):
            warnings.append(
                f"Service {service}: {shown(part)} in annotation {WEIGHTS} is not ADDRESS=WEIGHT, CIDR=WEIGHT or"
                f" {LOCAL}=WEIGHT with a weight from 1 to {MOST_WEIGHT}; it is passed over."
            )
        elif network is None:
            local = weight
        else:
            weights[network] = weight
    if (weights or local != 1) and scheduler in WITHOUT_WEIGHTS:
        warnings.append(
            f"Service {service}: annotation {WEIGHTS} has no effect, since the scheduler {scheduler} knows no weights;"
            f" ask for another with annotation {SCHEDULER}."
        )
    ordered = sorted(weights.items(), key=lambda item: (-item[0].prefixlen, str(item[0])))
    return ServiceOptions(scheduler, tuple(ordered), local, tuple(warnings))


def warnings_of(rules: Iterable[PortRules], default: str) -> list[str]:
    """The warnings of all Services, each once."""
    asked = {entry.service: entry.annotations for entry in rules if entry.annotations}
    return [one for service, given in asked.items() for one in options_of(service, dict(given), default).warnings]


def schedulers_of(rules: Iterable[PortRules], default: str) -> set[str]:
    """The schedulers that the kernel has to have."""
    asked = {entry.service: entry.annotations for entry in rules if entry.annotations}
    return {default, *(options_of(service, dict(given), default).scheduler for service, given in asked.items())}


def _weight(text: str) -> int | None:
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_WEIGHT))
    return int(text) if plain and 1 <= int(text) <= MOST_WEIGHT else None


def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None

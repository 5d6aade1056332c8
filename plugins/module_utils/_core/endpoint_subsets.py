# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subsets of Endpoints: addresses packed by the ports they share, and cut to what an Endpoints object may hold.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from math import ceil
from typing import Any, Iterable, NamedTuple, Sequence, Tuple

from .endpoint_objects import Object, Pod, Service
from .endpoint_pods import resolved_ports

# The most addresses of one Endpoints object.
CAPACITY = 1000

_AddressKey = Tuple[str, str]
_PortKey = Tuple[str, str, int, str]


class Offer(NamedTuple):
    """An address that is ready, or not, on some ports."""

    address: Object
    ready: bool
    ports: Sequence[Object]


def _address_key(address: Object) -> _AddressKey:
    """Equal addresses of different targets are two."""
    return address["ip"], (address.get("targetRef") or {}).get("uid") or ""


def _port_key(port: Object) -> _PortKey:
    return port.get("name") or "", port.get("protocol") or "TCP", port["port"], port.get("appProtocol") or ""


def offers_of(subsets: Iterable[Object]) -> list[Offer]:
    """The offers that existing subsets make."""
    made = []
    for subset in subsets:
        ports = subset.get("ports") or ()
        made += [Offer(address, True, ports) for address in subset.get("addresses") or ()]
        made += [Offer(address, False, ports) for address in subset.get("notReadyAddresses") or ()]
    return made


def pack_subsets(offers: Iterable[Offer]) -> list[Object]:
    """The fewest subsets that say the same: ports with equal addresses share one.

    An address that is offered on one port both ready and not ready is not ready.
    """
    addresses: dict[_AddressKey, Object] = {}
    ports: dict[_PortKey | None, Object] = {}
    ready_on: dict[_PortKey | None, dict[_AddressKey, bool]] = {}
    for offer in offers:
        key = _address_key(offer.address)
        addresses.setdefault(key, offer.address)
        # Addresses of a headless Service without ports are kept under None.
        offered: list[tuple[_PortKey | None, Object]] = [(_port_key(port), port) for port in offer.ports]
        for port_key, port in offered or [(None, {})]:
            ports.setdefault(port_key, port)
            known = ready_on.setdefault(port_key, {})
            known[key] = offer.ready and known.get(key, True)
    shared: dict[frozenset[tuple[_AddressKey, bool]], list[_PortKey | None]] = {}
    for offered_on, known in ready_on.items():
        shared.setdefault(frozenset(known.items()), []).append(offered_on)
    made = []
    for members, port_keys in shared.items():
        subset: Object = {}
        for name, ready in (("addresses", True), ("notReadyAddresses", False)):
            listed = [addresses[key] for key, state in sorted(members) if state is ready]
            if listed:
                subset[name] = listed
        numbered = [ports[key] for key in sorted(key for key in port_keys if key is not None)]
        if numbered:
            subset["ports"] = numbered
        made.append(subset)
    return sorted(made, key=_subset_order)


def _subset_order(subset: Object) -> tuple[Any, ...]:
    listed = (subset.get("addresses") or []) + (subset.get("notReadyAddresses") or [])
    return [_port_key(port) for port in subset.get("ports") or ()], [_address_key(each) for each in listed]


def same_subsets(one: Iterable[Object], other: Iterable[Object]) -> bool:
    """Whether two lists of subsets say the same, order and versions of targets aside."""
    return _comparable(one) == _comparable(other)


def _comparable(subsets: Iterable[Object]) -> list[tuple[Any, ...]]:
    made = []
    for subset in subsets:
        lists = [
            sorted(
                (
                    *_address_key(each),
                    each.get("hostname") or "",
                    each.get("nodeName") or "",
                    (each.get("targetRef") or {}).get("name") or "",
                )
                for each in subset.get(name) or ()
            )
            for name in ("addresses", "notReadyAddresses")
        ]
        made.append((sorted(_port_key(port) for port in subset.get("ports") or ()), *lists))
    return sorted(made)


def truncate(subsets: list[Object]) -> tuple[list[Object], bool]:
    """Cut to CAPACITY addresses: ready ones first, each subset in proportion. Returns the subsets and whether cut."""
    ready = sum(len(subset.get("addresses") or ()) for subset in subsets)
    not_ready = sum(len(subset.get("notReadyAddresses") or ()) for subset in subsets)
    if ready + not_ready <= CAPACITY:
        return subsets, False
    name, total, room = (
        ("addresses", ready, CAPACITY) if ready > CAPACITY else ("notReadyAddresses", not_ready, CAPACITY - ready)
    )
    left, made = room, []
    for subset in subsets:
        listed = subset.get(name) or []
        share = min(ceil(len(listed) / total * room), left)
        left -= share
        cut = dict(subset, **{name: listed[:share]})
        if name == "addresses":
            cut.pop("notReadyAddresses", None)
        made.append({part: value for part, value in cut.items() if value})
    return [subset for subset in made if "addresses" in subset or "notReadyAddresses" in subset], True


def pod_subsets(service: Service, pods: Sequence[Pod]) -> list[Object]:
    """The subsets of a Service's Endpoints: one family, the Service's first."""
    offers = []
    family = service.families[0]
    for pod in pods:
        if not pod.admitted or family not in pod.addresses or (pod.terminating and not service.publish_not_ready):
            continue
        ports = resolved_ports(service, pod)
        # Without ports only a headless Service that declares none has addresses.
        if not ports and (service.ports or not service.headless):
            continue
        address: Object = {"ip": pod.addresses[family], "targetRef": pod.reference()}
        if pod.node_name:
            address["nodeName"] = pod.node_name
        hostname = pod.hostname_for(service)
        if hostname:
            address["hostname"] = hostname
        offers.append(Offer(address, service.publish_not_ready or pod.ready, ports))
    return pack_subsets(offers)

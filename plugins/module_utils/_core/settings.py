# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings that a mode compiles by, besides the snapshot: what the role's variables say about one node.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import values
from .detect_local import BRIDGE_INTERFACE, INTERFACE_NAME_PREFIX, NO_DETECTOR, NODE_CIDR
from .errors import OptionError
from .resolve import NodeView

PRIMARY = "primary"


class Detector(NamedTuple):
    """How a packet of a local Pod is told: by its source in ``cidrs`` (both families), or by the interface it came in
    through (``interface``, a trailing ``+`` is a prefix). Both empty: there is no detector."""

    cidrs: tuple[str, ...] = ()
    interface: str = ""

    def cidrs_of(self, family: int) -> tuple[str, ...]:
        """The CIDRs of one family."""
        return tuple(c for c in self.cidrs if values.family(c) == family)

    def exists_for(self, family: int) -> bool:
        """Can a local Pod of this family be told at all?"""
        return bool(self.interface or self.cidrs_of(family))


class Settings(NamedTuple):
    """``nodeport_addresses``: CIDRs that serve node ports, () is the default of the mode; see ``node_port_cidrs``.
    ``masquerade_bit``: number of the bit in the packet mark, 0 to 31. ``drop_invalid``: what connection tracking calls
    invalid is dropped, where the mode does so at all."""

    view: NodeView
    detector: Detector = Detector()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    nodeport_addresses: tuple[str, ...] = ()
    localhost_nodeports: bool = True
    service_cidrs: tuple[str, ...] = ()
    drop_invalid: bool = True

    @property
    def mark(self) -> int:
        """The packet mark that asks for masquerading."""
        return 1 << self.masquerade_bit

    @property
    def digest(self) -> str:
        """Changes whenever a setting does: what was compiled before counts no more."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()

    def recorded(self) -> dict[str, Any]:
        """What the state file of a mode keeps: the digest, and what preflight goes by, as plain data."""
        return {
            "digest": self.digest,
            "node_name": self.view.name,
            "families": list(self.view.families),
            "serves_loopback": self.serves_loopback(),
            "pod_cidrs": list(self.detector.cidrs),
        }

    def node_port_cidrs(self, family: int) -> tuple[str, ...]:
        """The CIDRs of this family whose addresses serve node ports. () is every local address: the default and, as in
        kube-proxy, what holds where CIDRs are given for the other family only, or one of them is everything."""
        found = tuple(c for c in self.nodeport_addresses if values.family(c) == family)
        return () if any(c.endswith("/0") for c in found) else found

    def serves_loopback(self) -> bool:
        """Are node ports served on 127.0.0.1? It takes the sysctl route_localnet."""
        loopback, cidrs = ipaddress.ip_network("127.0.0.0/8"), self.node_port_cidrs(4)
        return self.localhost_nodeports and (
            not cidrs or any(loopback.overlaps(ipaddress.ip_network(cidr)) for cidr in cidrs)
        )


def is_loopback(cidr: str) -> bool:
    """Is this a network of loopback addresses? What is translated there and leaves the node is lost."""
    return ipaddress.ip_network(cidr).is_loopback


def detector(
    mode: str, pod_cidrs: Iterable[str], node_cidrs: Iterable[str], bridge_interface: str, interface_name_prefix: str
) -> Detector:
    """The detector for one of the detect-local modes; ``node_cidrs`` are the Pod CIDRs of the own Node object."""
    if mode == NO_DETECTOR:
        return Detector()
    if mode == BRIDGE_INTERFACE:
        return Detector(interface=_interface(bridge_interface, "bridge_interface", mode))
    if mode == INTERFACE_NAME_PREFIX:
        return Detector(interface=_interface(interface_name_prefix, "interface_name_prefix", mode) + "+")
    given = list(pod_cidrs)
    if mode == NODE_CIDR:
        given = given or list(node_cidrs)
        if not given:
            raise OptionError(
                "detect_local_mode NodeCIDR needs the Pod CIDRs of this node, and its Node object has none: "
                "give pod_cidrs, or another detect_local_mode."
            )
    return Detector(cidrs=cidrs(given, "pod_cidrs"))


def _interface(name: str, option: str, mode: str) -> str:
    if not name:
        raise OptionError(f"detect_local_mode {mode} needs {option}.")
    if len(name) > 15 or any(not (c.isalnum() or c in "_.-@") for c in name):
        raise OptionError(f"{option} {values.shown(name)} is not an interface name.")
    return name


def cidrs(given: Iterable[str], option: str) -> tuple[str, ...]:
    """CIDRs in canonical text, in their order."""
    try:
        return tuple(values.network(c, option) for c in given)
    except values.Broken as wrong:
        raise OptionError(f"{wrong}.") from None


def node_ips(given: Iterable[str], of_node: Iterable[str]) -> tuple[str, ...]:
    """The addresses of the option node_ips. Where it is empty, as in kube-proxy the first address of each family that
    the Node object has: a second one may be on a network that is to see no node port."""
    try:
        asked = tuple(values.address(a, "node_ips") for a in given)
    except values.Broken as wrong:
        raise OptionError(f"node_ips: {wrong}.") from None
    first: dict[int, str] = {}
    for address in of_node:
        first.setdefault(values.family(address), address)
    return asked or tuple(first.values())


def nodeport_cidrs(given: Iterable[str], node_ips: Iterable[str]) -> tuple[str, ...]:
    """nodeport_addresses with the word ``primary`` replaced by the node's own addresses."""
    found: list[str] = []
    for entry in given:
        if entry == PRIMARY:
            found.extend(str(ipaddress.ip_network(a)) for a in node_ips)
        else:
            found.extend(cidrs([entry], "nodeport_addresses"))
    return tuple(dict.fromkeys(found))

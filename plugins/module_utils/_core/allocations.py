# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and node ports for Services that have none: what the API server does when a Service is created.

Kubernetes keeps the lower band of each range for those who choose for themselves, and takes from the upper band as long
as it lasts. Here the choice depends on the Service's name, so that it is the same wherever it is made first; what was
chosen once is kept.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Iterable, Iterator, Sequence, Union

from .endpoint_objects import IPV4, IPV6, Object, family_of, key_of
from .errors import ObjectError, OptionError, SnapshotError
from .objects import object_key

_Network = Union[IPv4Network, IPv6Network]

_PORT_RANGE = re.compile(r"^([0-9]{1,5})-([0-9]{1,5})$")
# An address range of IPv6 may be larger than any cluster; Kubernetes allows no more than this.
_LARGEST = 2**20


@dataclass(frozen=True)
class Ranges:
    """Where addresses and node ports come from.

    :param cluster_ips: networks, at most one a family; the first one's family is the cluster's first. Empty: no Service
        gets an address, and those that have one may have any.
    :param node_ports: FIRST-LAST, or empty in the same sense.
    """

    cluster_ips: Sequence[str] = ()
    node_ports: str = ""


@dataclass
class Allocations:
    """What was chosen: by namespace/name of the Service the addresses by family, and the node ports by port.

    The health check's node port stands under the port "healthCheck".
    """

    cluster_ips: dict[str, dict[str, str]] = field(default_factory=dict)
    node_ports: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_json(self) -> Object:
        """The content of the allocations file."""
        return {"schema": 1, "clusterIPs": self.cluster_ips, "nodePorts": self.node_ports}

    @classmethod
    def from_json(cls, content: Any) -> Allocations:
        """Read the content of the allocations file. Raises SnapshotError."""
        try:
            if content["schema"] != 1:
                raise ValueError("its schema is not 1")
            addresses = {
                str(key): {str(family): str(ip_address(address)) for family, address in each.items()}
                for key, each in content["clusterIPs"].items()
            }
            ports = {
                str(key): {str(port): int(number) for port, number in each.items()}
                for key, each in content["nodePorts"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SnapshotError(
                f"The allocations file can't be used ({type(error).__name__}: {error}). Restore it, or remove it to "
                "have all addresses and node ports chosen anew."
            ) from None
        return cls(addresses, ports)


class _Pool:
    """Numbers from `first` to `last`, the first `static` of them taken only when the others are used up."""

    def __init__(self, first: int, last: int, static: int) -> None:
        self.first, self.last, self.static = first, last, static
        self.owners: dict[int, str] = {}

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def free(self, seed: str) -> int | None:
        """A free number that depends on `seed` and on what is taken; None if there is none."""
        start = int.from_bytes(sha256(seed.encode()).digest()[:8], "big")
        for low, high in ((self.first + self.static, self.last), (self.first, self.first + self.static - 1)):
            size = high - low + 1
            for step in range(size):
                number = low + (start + step) % size
                if number not in self.owners:
                    return number
        return None


def _address_pool(network: _Network) -> _Pool:
    """The usable addresses of a range: neither the first nor, in IPv4, the last one."""
    size = min(network.num_addresses, _LARGEST)
    static = 0 if size <= 16 else min(max(16, size // 16), 256)
    first = int(network.network_address) + 1
    last = int(network.network_address) + size - (2 if network.version == 4 else 1)
    pool = _Pool(first, last, static)
    # The API server's own Service has the first address of the range in every cluster.
    pool.owners[first] = "default/kubernetes"
    return pool


def _port_pool(text: str) -> _Pool:
    """The node ports of a range FIRST-LAST."""
    match = _PORT_RANGE.match(text)
    first, last = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise OptionError(f"The range of node ports must be FIRST-LAST within 1-65535, not {text!r}.")
    size = last - first + 1
    return _Pool(first, last, 0 if size <= 16 else min(max(16, size // 32), 128))


def _networks(texts: Sequence[str]) -> dict[str, _Network]:
    """The ranges by family, in their order."""
    made: dict[str, _Network] = {}
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise OptionError(f"The range of Service addresses {text!r} is wrong: {error}.") from None
        family = IPV4 if network.version == 4 else IPV6
        if family in made:
            raise OptionError(f"There are two ranges of Service addresses for {family}; give one a family.")
        if network.num_addresses < 4:
            raise OptionError(f"The range of Service addresses {text} has no room; give a larger one.")
        made[family] = network
    return made


def check_wishes(item: Object) -> None:
    """Raise ObjectError if what a Service asks for by itself has the wrong type; `item` is readable otherwise."""
    spec = item["spec"]
    addresses = spec.get("clusterIPs") or []
    ports = [port.get("nodePort") for port in spec.get("ports") or ()]
    if not isinstance(addresses, list) or not all(
        isinstance(each, str) for each in [*addresses, spec.get("clusterIP") or ""]
    ):
        raise ObjectError("Service", object_key(item), "its addresses must be texts.")
    for address in _addresses(item):
        try:
            ip_address(address)
        except ValueError:
            raise ObjectError("Service", object_key(item), f"its clusterIP {address[:50]!r} is no address.") from None
    if not all(
        each is None or (isinstance(each, int) and not isinstance(each, bool))
        for each in [*ports, spec.get("healthCheckNodePort")]
    ):
        raise ObjectError("Service", object_key(item), "its node ports must be numbers.")
    if not set(spec.get("ipFamilies") or ()) <= {IPV4, IPV6}:
        raise ObjectError("Service", object_key(item), f"its families must be {IPV4} or {IPV6}.")


def allocate(services: Iterable[Object], previous: Allocations, ranges: Ranges) -> tuple[list[Object], Allocations]:
    """Give every Service that needs them its families, addresses and node ports.

    :param services: Services with `metadata.name`; others must have been refused before.
    :param previous: what earlier runs chose.
    :returns: the Services, in their order, and what is chosen now: entries of Services that are gone are gone as well.

    Raises SnapshotError with one sentence for each conflict, OptionError for wrong ranges.
    """
    return _Allocator(previous, ranges).run(list(services))


class _Allocator:
    """One run. Wishes are noted first, then earlier choices, then what is new: so nobody's address moves."""

    def __init__(self, previous: Allocations, ranges: Ranges) -> None:
        self.previous = previous
        networks = _networks(ranges.cluster_ips)
        self.families = list(networks)
        self.ranges = {family: str(network) for family, network in networks.items()}
        self.addresses = {family: _address_pool(network) for family, network in networks.items()}
        self.ports = _port_pool(ranges.node_ports) if ranges.node_ports else None
        self.chosen = Allocations()
        self.problems: list[str] = []

    def run(self, services: list[Object]) -> tuple[list[Object], Allocations]:
        """Allocate for all Services."""
        made = [self._prepared(item) for item in services]
        ordered = sorted(made, key=key_of)
        for item in ordered:
            self._note_wishes(item)
        for keep in (True, False):
            for item in ordered:
                self._choose_addresses(item, keep)
                self._choose_ports(item, keep)
        for item in ordered:
            self._finish(item)
        if self.problems:
            raise SnapshotError(" ".join(self.problems))
        return made, self.chosen

    def _prepared(self, item: Object) -> Object:
        """A copy with the API's defaults and its families."""
        spec = dict(item["spec"])
        spec.setdefault("type", "ClusterIP")
        spec["ports"] = [
            {"protocol": "TCP", "targetPort": port.get("port"), **port} for port in spec.get("ports") or ()
        ]
        namespace = item["metadata"].get("namespace") or "default"
        made = dict(item, metadata=dict(item["metadata"], namespace=namespace), spec=spec)
        if spec["type"] != "ExternalName":
            self._set_families(made)
        return made

    def _set_families(self, item: Object) -> None:
        """ipFamilies and ipFamilyPolicy, as the API server sets them."""
        spec = item["spec"]
        families = list(spec.get("ipFamilies") or ())
        if not families:
            families = list(dict.fromkeys(family_of(address) for address in _addresses(item)))
        policy = spec.get("ipFamilyPolicy")
        if policy is None:
            unselected = spec.get("clusterIP") == "None" and not spec.get("selector") and not families
            policy = "RequireDualStack" if unselected or len(families) > 1 else "SingleStack"
            if unselected:
                families = [*self.families, *(other for other in (IPV4, IPV6) if other not in self.families)]
        families = families or self.families[:1] or [IPV4]
        if policy != "SingleStack":
            families += [family for family in self.families if family not in families]
        elif len(families) > 1:
            self.problems.append(f"Service {key_of(item)} is SingleStack and has two families: remove one.")
        if policy == "RequireDualStack" and len(families) < 2 and self.families:
            self.problems.append(
                f"Service {key_of(item)} requires two families; there is a range of Service addresses for one only."
            )
        spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy

    def _note_wishes(self, item: Object) -> None:
        """Take what a Service asks for by itself."""
        key = key_of(item)
        for address in _addresses(item) if self.addresses else ():
            family = family_of(address)
            pool = self.addresses.get(family)
            number = int(ip_address(address))
            if pool is None or number not in pool:
                known = ", ".join(self.ranges.values())
                self.problems.append(f"Service {key} asks for the address {address}, which is not in {known}.")
            elif number == pool.first and key == pool.owners[number]:
                continue
            else:
                self._take(pool, number, key, f"the address {address}")
        ports = self.ports
        if ports is None:
            return
        for number in sorted(set(_node_ports(item))):
            if number not in ports:
                self.problems.append(
                    f"Service {key} asks for the node port {number}, which is not in {ports.first}-{ports.last}."
                )
            else:
                self._take(ports, number, key, f"the node port {number}")

    def _take(self, pool: _Pool, number: int, key: str, what: str) -> None:
        owner = pool.owners.setdefault(number, key)
        if owner != key:
            self.problems.append(f"Service {key} asks for {what}, which {owner} has.")

    def _choose_addresses(self, item: Object, keep: bool) -> None:
        """An address for each family that has none: the earlier one (`keep`), or a new one."""
        if not (self.addresses and _needs_address(item)):
            return
        key = key_of(item)
        mine = {family_of(address): address for address in _addresses(item)}
        for family in item["spec"]["ipFamilies"]:
            if family in mine or family in self.chosen.cluster_ips.get(key, {}):
                continue
            pool = self.addresses.get(family)
            if pool is None:
                if not keep:
                    self.problems.append(f"Service {key} needs an {family} address, and there is no range for it.")
                continue
            number = self._number(
                pool, key, self.previous.cluster_ips.get(key, {}).get(family), keep, f"{key}/{family}"
            )
            if number is not None:
                self.chosen.cluster_ips.setdefault(key, {})[family] = str(_address(number, family))
            elif not keep:
                self.problems.append(f"Service {key} gets no address: {self.ranges[family]} is used up.")

    def _choose_ports(self, item: Object, keep: bool) -> None:
        """A node port for each port that has none."""
        key, ports = key_of(item), self.ports
        if ports is None:
            return
        for port in _wanted_ports(item):
            if port in self.chosen.node_ports.get(key, {}):
                continue
            number = self._number(ports, key, self.previous.node_ports.get(key, {}).get(port), keep, f"{key}/{port}")
            if number is not None:
                self.chosen.node_ports.setdefault(key, {})[port] = number
            elif not keep:
                self.problems.append(f"Service {key} gets no node port: all of them are used up.")

    def _number(self, pool: _Pool, key: str, earlier: str | int | None, keep: bool, seed: str) -> int | None:
        """The earlier choice if it can be kept, or a new one."""
        if keep:
            number = int(ip_address(earlier)) if isinstance(earlier, str) else earlier
            if number is None or number not in pool:
                return None
            if pool.owners.get(number, key) != key:
                self.problems.append(
                    f"Service {pool.owners[number]} asks for {earlier}, which {key} has since an earlier run: "
                    f"choose another, or remove the entry of {key} from the allocations file."
                )
        else:
            number = pool.free(seed)
            if number is None:
                return None
        pool.owners[number] = key
        return number

    def _finish(self, item: Object) -> None:
        """Write what was chosen into the Service."""
        key, spec = key_of(item), item["spec"]
        if _needs_address(item):
            given = {family_of(address): address for address in _addresses(item)}
            given.update(self.chosen.cluster_ips.get(key, {}))
            listed = [given[family] for family in spec["ipFamilies"] if family in given]
            if listed:
                spec["clusterIP"], spec["clusterIPs"] = listed[0], listed
        elif spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
        chosen = self.chosen.node_ports.get(key, {})
        wished = {str(port.get("port")): port["nodePort"] for port in spec["ports"] if port.get("nodePort")}
        if _has_node_ports(spec):
            for port in spec["ports"]:
                number = port.get("nodePort") or wished.get(str(port.get("port"))) or chosen.get(str(port.get("port")))
                if number:
                    port["nodePort"] = number
        if "healthCheck" in chosen:
            spec["healthCheckNodePort"] = chosen["healthCheck"]


def _address(number: int, family: str) -> Any:
    return ip_address(number) if family == IPV4 else ip_address(number.to_bytes(16, "big"))


def _addresses(item: Object) -> list[str]:
    """The addresses that a Service names itself."""
    spec = item["spec"]
    listed = [*(spec.get("clusterIPs") or ()), spec.get("clusterIP")]
    return list(dict.fromkeys(each for each in listed if each and each != "None"))


def _needs_address(item: Object) -> bool:
    spec = item["spec"]
    return bool(spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None")


def lacks_address(item: Object) -> bool:
    """Whether a Service should have an address and has none."""
    return _needs_address(item) and not _addresses(item)


def _has_node_ports(spec: Object) -> bool:
    if spec["type"] == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return bool(spec["type"] == "NodePort")


def _has_health_check(spec: Object) -> bool:
    return bool(spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def _node_ports(item: Object) -> Iterator[int]:
    """The node ports that a Service names itself."""
    spec = item["spec"]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        yield from (port["nodePort"] for port in spec["ports"] if port.get("nodePort"))
        if spec.get("healthCheckNodePort"):
            yield spec["healthCheckNodePort"]


def _wanted_ports(item: Object) -> Iterator[str]:
    """The ports of a Service that need a node port; one number serves all protocols of a port."""
    spec = item["spec"]
    if _has_node_ports(spec):
        named = {port.get("port") for port in spec["ports"] if port.get("nodePort")}
        yield from dict.fromkeys(str(port.get("port")) for port in spec["ports"] if port.get("port") not in named)
    if _has_health_check(spec) and not spec.get("healthCheckNodePort"):
        yield "healthCheck"

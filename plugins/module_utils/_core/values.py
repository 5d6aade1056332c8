# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checked values: addresses, names and numbers as Kubernetes allows them, each in its one canonical spelling.

Every function takes whatever an object holds and returns the value, or raises ``Broken`` with the end of a sentence.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_IPV4_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_IPV4_BYTE}(?:\.{_IPV4_BYTE}){{3}}\Z", re.ASCII)
# Most addresses of a cluster are of this kind, and a big one has tens of thousands: they are told at one glance.
_ROUTABLE_IPV4 = re.compile(
    rf"(?!0\.|127\.|169\.254\.|2(?:2[4-9]|3\d)\.){_IPV4_BYTE}(?:\.{_IPV4_BYTE}){{3}}\Z", re.ASCII
)

PROTOCOLS = ("TCP", "UDP", "SCTP")


class Broken(ValueError):
    """What is wrong with a value, as the end of a sentence."""


def shown(value: object) -> str:
    """The value for a message: short, printable, on one line, even if it is hostile."""
    text = repr(value[:60]) + "..." if isinstance(value, (str, list)) and len(value) > 60 else repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


@lru_cache(maxsize=200_000)
def _address(text: str) -> str:
    if _IPV4.match(text):
        return text
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise Broken(f"{shown(text)} is not an IP address") from None
    if "%" in text or address.ipv4_mapped is not None:
        raise Broken(f"{shown(text)} is not a plain IPv6 address")
    return str(address)


def address(value: object, what: str = "address") -> str:
    """A plain IPv4 or IPv6 address in canonical text."""
    if not isinstance(value, str):
        raise Broken(f"{what} must be a string, not {shown(value)}")
    if len(value) > 45:
        raise Broken(f"{what} {shown(value)} is not an IP address")
    return _address(value)


def _reason_against_traffic(text: str) -> str:
    """Why an address in canonical text is none for a Service; "" if it is fine."""
    if ":" in text:
        group = text.split(":", 1)[0]
        full = group if len(group) == 4 else ""
        if full[:3] in ("fe8", "fe9", "fea", "feb"):
            return "a link-local address"
        if full[:2] == "ff":
            return "a multicast address"
        return {"::1": "a loopback address", "::": "the unspecified address"}.get(text, "")
    byte = int(text.split(".", 1)[0])
    if byte == 127:
        return "a loopback address"
    if text.startswith("169.254."):
        return "a link-local address"
    if 224 <= byte <= 239:
        return "a multicast address"
    return "" if byte else "the unspecified address"


def routable(value: object, what: str = "address") -> str:
    """An address that packets may be sent to on behalf of a Service; the API server refuses the others as well."""
    if isinstance(value, str) and _ROUTABLE_IPV4.match(value):
        return value
    text = address(value, what)
    reason = _reason_against_traffic(text)
    if reason:
        raise Broken(f"{what} {text} is {reason}")
    return text


def network(value: object, what: str) -> str:
    """A CIDR without host bits, in canonical text."""
    if not isinstance(value, str) or len(value) > 60:
        raise Broken(f"{what} {shown(value)} is not a CIDR")
    text = value.strip()
    base, slash, _bits = text.partition("/")
    if not slash:
        raise Broken(f"{what} {shown(value)} is not a CIDR")
    address(base, what)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as wrong:
        raise Broken(f"{what} {shown(value)} is not a CIDR: {wrong}") from None


def means_this_host(address: str) -> bool:
    """Whether whoever asks this address, in canonical spelling, asks the host itself."""
    return address.startswith("127.") or address in ("::1", "0.0.0.0", "::")


def family(text: str) -> int:
    """4 or 6, for an address or CIDR in canonical text."""
    return 6 if ":" in text else 4


def label(value: object, what: str) -> str:
    """A DNS label (RFC 1123): at most 63 lower-case letters, digits and hyphens."""
    if not isinstance(value, str) or not LABEL.match(value):
        raise Broken(f"{what} {shown(value)} is not a DNS label")
    return value


def subdomain(value: object, what: str) -> str:
    """A DNS subdomain (RFC 1123) of at most 253 characters."""
    if not isinstance(value, str) or len(value) > 253 or not SUBDOMAIN.match(value):
        raise Broken(f"{what} {shown(value)} is not a DNS name")
    return value


def label_value(value: object, what: str) -> str:
    """The value of a Kubernetes label; may be empty."""
    if not isinstance(value, str) or not LABEL_VALUE.match(value):
        raise Broken(f"{what} {shown(value)} is not a label value")
    return value


def number(value: object, what: str, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Broken(f"{what} must be a number, not {shown(value)}")
    if not low <= value <= high:
        raise Broken(f"{what} {shown(value)} is not in {low} to {high}")
    return value


def protocol(value: object) -> str:
    """TCP, UDP or SCTP; TCP where nothing is said."""
    if value is None:
        return "TCP"
    if value not in PROTOCOLS:
        raise Broken(f"protocol {shown(value)} is not TCP, UDP or SCTP")
    return str(value)


def choice(value: object, what: str, allowed: Sequence[str], default: str) -> str:
    """One of the allowed words; the default where nothing, or "", is said."""
    if value is None or value == "":
        return default
    if value not in allowed:
        raise Broken(f"{what} {shown(value)} is not one of {', '.join(allowed)}")
    return str(value)


def flag(value: object, what: str, default: bool) -> bool:
    """A boolean; the default where nothing is said."""
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Broken(f"{what} must be true or false, not {shown(value)}")
    return value


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """An object; nothing counts as an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Broken(f"{what} must be an object, not {shown(value)}")
    return value


def sequence(value: object, what: str, limit: int) -> Sequence[Any]:
    """A list of at most ``limit`` entries; nothing counts as an empty one."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise Broken(f"{what} must be a list, not {shown(value)}")
    if len(value) > limit:
        raise Broken(f"{what} has {len(value)} entries, more than {limit}")
    return value

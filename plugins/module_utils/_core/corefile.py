# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Corefile of a node: a small tree of directives, and its text.

It holds nothing that changes with the cluster's Services: CoreDNS starts all of its plugins anew when the Corefile
changes.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from . import values
from .errors import OptionError
from .values import Broken

ZONES = "zones"
KUBERNETES = "kubernetes"
DNS_PORT = 53
REVERSE_ROOTS = ("in-addr.arpa.", "ip6.arpa.")

NOTE = "# Written by kubenode.servicenet. Changes are lost.\n"
# What the Corefile's reader takes for quotes, braces, comments, variables or several words never gets in.
_WORD = re.compile(r"[A-Za-z0-9_./:%@+\[\]~=,-]+\Z")
_CACHE_ENTRIES = "9984"
_NEGATIVE_CACHE_SECONDS = 5
_LONGEST_SECONDS = 86400
# With more CoreDNS does not start.
_MOST_UPSTREAMS = 15


class Directive(NamedTuple):
    """A plugin or a property: its name, its arguments, and what stands in braces behind it."""

    name: str
    arguments: tuple[str, ...] = ()
    body: tuple[Directive, ...] = ()


class ServerBlock(NamedTuple):
    """A server: ``keys`` such as ``.:53``, and its plugins."""

    keys: tuple[str, ...]
    directives: tuple[Directive, ...]


class ZoneSource(NamedTuple):
    """A zone file: the zone's absolute origin, and where its file is."""

    origin: str
    path: str


class CorefileOptions(NamedTuple):
    """What the Corefile says.

    ``mode``: ZONES serves ``zones`` from files; KUBERNETES asks the API server that ``kubeconfig`` names.
    ``listen_addresses`` and ``upstreams``: checked by ``listeners`` and ``forwarders``. ``cache_seconds``: for names
    outside the cluster, 0 is no cache; names of the cluster are never cached, so that a change is seen at once.
    ``zone_reload_seconds``: how often CoreDNS looks for a new serial. Ports are on 127.0.0.1, 0 is none.
    """

    mode: str
    domain: str
    listen_addresses: tuple[str, ...]
    port: int
    zones: tuple[ZoneSource, ...]
    upstreams: tuple[str, ...]
    ttl: int = 5
    pods: str = "disabled"
    kubeconfig: str = ""
    cache_seconds: int = 30
    zone_reload_seconds: int = 2
    health_port: int = 9254
    ready_port: int = 9255
    metrics_port: int = 9253


# --------------------------------------------------------------------------------------------------------- checking


def listeners(addresses: Iterable[object]) -> tuple[str, ...]:
    """Checks the option ``listen_addresses``; raises ``OptionError``. A wildcard takes the port from others."""
    checked: list[str] = []
    for given in addresses:
        try:
            address = values.address(given)
        except Broken as wrong:
            raise OptionError(f"The option listen_addresses: {wrong}.") from None
        if address in ("0.0.0.0", "::"):
            raise OptionError(
                f"The option listen_addresses has {address}: name single addresses, so that other DNS servers of the "
                "node keep theirs."
            )
        if address not in checked:
            checked.append(address)
    if not checked:
        raise OptionError("The option listen_addresses needs at least one address.")
    return tuple(checked)


def forwarders(upstreams: Iterable[object], listen_addresses: Iterable[str], port: int) -> tuple[str, ...]:
    """Checks the option ``upstreams``: ``address``, ``address:port`` or ``[address]:port``; raises ``OptionError`` for
    one that would send queries round in a circle."""
    own = set(listen_addresses)
    checked: list[str] = []
    for given in upstreams:
        address, its_port = _upstream(given)
        if address in own and its_port == port:
            raise OptionError(f"The option upstreams has {address}, where this server listens: it would ask itself.")
        if its_port == DNS_PORT and values.means_this_host(address):
            raise OptionError(
                f"The option upstreams has {address}: a resolver on the node itself would ask this server back. Name "
                "the servers that it uses; systemd-resolved lists them in /run/systemd/resolve/resolv.conf."
            )
        text = (
            address
            if its_port == DNS_PORT
            else f"[{address}]:{its_port}"
            if ":" in address
            else f"{address}:{its_port}"
        )
        if text not in checked:
            checked.append(text)
    if len(checked) > _MOST_UPSTREAMS:
        raise OptionError(
            f"The option upstreams has {len(checked)} servers, and CoreDNS takes {_MOST_UPSTREAMS} at most."
        )
    return tuple(checked)


def _upstream(given: object) -> tuple[str, int]:
    text = given if isinstance(given, str) else ""
    address, port = text, str(DNS_PORT)
    bracketed = re.match(r"\[([^\]]*)\](?::(\d{1,5}))?\Z", text)
    if bracketed:
        address, port = bracketed.group(1), bracketed.group(2) or port
    elif text.count(":") == 1:
        address, _colon, port = text.partition(":")
    try:
        number = int(port) if port.isdigit() and len(port) < 6 else port
        return values.address(address), values.number(number, "port", 1, 65535)
    except Broken as wrong:
        raise OptionError(f"The option upstreams has {values.shown(given)}: {wrong}.") from None


# ---------------------------------------------------------------------------------------------------------- building


def _check(options: CorefileOptions) -> None:
    """Raises ``OptionError`` for a number with which CoreDNS would not start, or see no change any more.

    That would be noticed at the next boot, not before: a CoreDNS that runs goes on with what it had."""
    local = {name: getattr(options, name) for name in ("health_port", "ready_port", "metrics_port")}
    try:
        values.number(options.port, "port", 1, 65535)
        for name, port in local.items():
            values.number(port, name, 0, 65535)
        values.number(options.cache_seconds, "cache_seconds", 0, _LONGEST_SECONDS)
        values.number(options.zone_reload_seconds, "zone_reload_seconds", 1, _LONGEST_SECONDS)
    except Broken as wrong:
        raise OptionError(f"The option {wrong}.") from None
    taken = [port for port in local.values() if port]
    if len(set(taken)) < len(taken):
        raise OptionError(f"The options {', '.join(local)} need a port each, or 0.")


def build(options: CorefileOptions) -> tuple[ServerBlock, ...]:
    """The server blocks. It is one block, because CoreDNS follows aliases only within a block. Raises
    ``OptionError``."""
    _check(options)
    cluster = _zone_files(options) if options.mode == ZONES else (_kubernetes(options),)
    directives = [
        Directive("bind", options.listen_addresses),
        Directive("errors"),
        *_endpoints(options),
        *_cache(options),
        Directive("loadbalance"),
        *cluster,
    ]
    if options.upstreams:
        directives += [
            Directive("loop"),
            Directive(
                "forward",
                (".", *options.upstreams),
                (Directive("max_concurrent", ("1000",)),),
            ),
        ]
    directives.append(Directive("reload", ("10s",)))
    return (ServerBlock((f".:{options.port}",), tuple(directives)),)


def _endpoints(options: CorefileOptions) -> list[Directive]:
    made = []
    if options.health_port:
        lameduck = Directive("lameduck", ("5s",))
        made.append(Directive("health", (f"127.0.0.1:{options.health_port}",), (lameduck,)))
    if options.ready_port:
        made.append(Directive("ready", (f"127.0.0.1:{options.ready_port}",)))
    if options.metrics_port:
        made.append(Directive("prometheus", (f"127.0.0.1:{options.metrics_port}",)))
    return made


def _cache(options: CorefileOptions) -> list[Directive]:
    if not options.cache_seconds or not options.upstreams:
        return []
    seconds = str(options.cache_seconds)
    own = _origins(options)
    negative = str(min(options.cache_seconds, _NEGATIVE_CACHE_SECONDS))
    return [
        Directive(
            "cache",
            (seconds,),
            (
                Directive("success", (_CACHE_ENTRIES, seconds)),
                Directive("denial", (_CACHE_ENTRIES, negative)),
                Directive("disable", ("success", *own)),
                Directive("disable", ("denial", *own)),
            ),
        )
    ]


def _origins(options: CorefileOptions) -> tuple[str, ...]:
    if options.mode == ZONES:
        return tuple(zone.origin for zone in options.zones)
    # Of the whole reverse tree most is not the cluster's: its answers may be cached.
    return (options.domain,)


def _zone_files(options: CorefileOptions) -> tuple[Directive, ...]:
    made = []
    for zone in options.zones:
        body = [Directive("reload", (f"{options.zone_reload_seconds}s",))]
        if options.upstreams and zone.origin.endswith(REVERSE_ROOTS):
            # The zones are wider than the cluster's addresses. It holds for all file directives of the block.
            body.append(Directive("fallthrough", REVERSE_ROOTS))
        made.append(Directive("file", (zone.path, zone.origin), tuple(body)))
    return tuple(made)


def _kubernetes(options: CorefileOptions) -> Directive:
    body = [
        Directive("kubeconfig", (options.kubeconfig,)),
        Directive("pods", (options.pods,)),
        Directive("ttl", (str(options.ttl),)),
    ]
    if options.upstreams:
        body.append(Directive("fallthrough", REVERSE_ROOTS))
    return Directive("kubernetes", (options.domain, *REVERSE_ROOTS), tuple(body))


# --------------------------------------------------------------------------------------------------------- rendering


def render(blocks: Iterable[ServerBlock]) -> str:
    """The text of the Corefile; raises ``OptionError`` for a word that it can't hold."""
    lines = [NOTE]
    for block in blocks:
        lines.append(" ".join(_word(key) for key in block.keys) + " {\n")
        lines.extend(_lines(block.directives, 1))
        lines.append("}\n")
    return "".join(lines)


def _lines(directives: Iterable[Directive], depth: int) -> Iterable[str]:
    indent = "    " * depth
    for directive in directives:
        words = " ".join(_word(w) for w in (directive.name, *directive.arguments))
        if directive.body:
            yield f"{indent}{words} {{\n"
            yield from _lines(directive.body, depth + 1)
            yield f"{indent}}}\n"
        else:
            yield f"{indent}{words}\n"


def _word(text: str) -> str:
    if not _WORD.match(text):
        raise OptionError(f"{values.shown(text)} can't be written into a Corefile: use a plain path, name or address.")
    return text

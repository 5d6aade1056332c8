# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zones as the text of zone files (RFC 1035), and back as far as it takes to know whether a file is whole.

The first record is the SOA, because a server that looks for a new serial reads up to it. The last one is a TXT record
``_snapshot`` with the SHA-256 of all records between: it names the state that is served, and a file that was cut off or
altered does not match it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from .dns_records import Record

NOTE = "; Written by kubenode.servicenet from a snapshot of the cluster. Changes are lost.\n"
_SOA = re.compile(r"\S+ \d+ IN SOA \S+ \S+ (\d{1,10}) 7200 1800 86400 \d+\n\Z")
_SERIALS = 2**32
_MARK = "_snapshot."
_NEGATIVE_TTL_LIMIT = 300


class Zone(NamedTuple):
    """A zone without its SOA: absolute origin, sorted records without duplicates (the NS records among them), TTL in
    seconds, the absolute names of its primary server and of its contact."""

    origin: str
    records: tuple[Record, ...]
    ttl: int
    server: str
    contact: str


class ZoneFile(NamedTuple):
    """What a zone file says of itself; ``lines`` are what stands between its SOA and its digest, if it is whole."""

    serial: int
    lines: tuple[str, ...]


class Update(NamedTuple):
    """What becomes of a zone file: ``text`` is None where the file stays as it is."""

    serial: int
    digest: str
    text: str | None
    before: tuple[str, ...]
    after: tuple[str, ...]


def record_lines(zone: Zone) -> list[str]:
    """The records between SOA and digest, one a line."""
    return [f"{r.owner} {r.ttl} IN {r.type} {r.data}\n" for r in zone.records]


def render(zone: Zone, serial: int) -> str:
    """The zone file."""
    lines = record_lines(zone)
    return _text(zone, serial, lines, _digest(lines))


def read(text: str) -> ZoneFile | None:
    """Reads a file that ``render`` wrote, or a part of it; None for anything that has no serial of ours to be read."""
    note, newline, rest = text.partition("\n")
    lines = rest.splitlines(keepends=True)
    soa = _SOA.match(lines[0]) if lines and note + newline == NOTE else None
    if soa is None:
        return None
    return ZoneFile(int(soa.group(1)), tuple(line for line in lines[1:] if not line.startswith(_MARK)))


def update(zone: Zone, current: str | None, remembered_serial: int, now: int) -> Update:
    """Compares the zone with its file.

    :param current: the text of the file, None without one.
    :param remembered_serial: the last serial that was written, 0 if unknown: a server may hold it although the file is
        gone.
    :param now: seconds since the epoch. A new serial is at least that, so it grows where nothing is remembered, too.
    """
    lines = record_lines(zone)
    digest = _digest(lines)
    found = None if current is None else read(current)
    if found is not None and _text(zone, found.serial, lines, digest) == current:
        return Update(found.serial, digest, None, (), ())
    serial = next_serial((remembered_serial, found.serial if found else 0), now)
    before = found.lines if found else ()
    return Update(serial, digest, _text(zone, serial, lines, digest), before, tuple(lines))


def next_serial(used: Iterable[int], now: int) -> int:
    """A serial that differs from those used and is greater, but for the wrap after 2^32; CoreDNS refuses 0."""
    taken = tuple(used)
    serial = max(now % _SERIALS, (max(taken) + 1) % _SERIALS, 1)
    while serial in taken:
        serial = serial % (_SERIALS - 1) + 1
    return serial


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _text(zone: Zone, serial: int, lines: list[str], digest: str) -> str:
    negative = min(zone.ttl, _NEGATIVE_TTL_LIMIT)
    soa = f"{zone.origin} {negative} IN SOA {zone.server} {zone.contact} {serial} 7200 1800 86400 {negative}\n"
    mark = f'{_MARK}{zone.origin} {zone.ttl} IN TXT "{digest}"\n'
    return "".join([NOTE, soa, *lines, mark])

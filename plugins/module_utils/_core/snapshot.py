# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshot: a cluster's state as sorted lines of canonical JSON, one an object, a Service together with its slices.

A file is gzip (mtime 0) of a header line, ``{"schema": 1, "counts": {...}, "digest": "..."}``, and the lines. The
digest is the SHA-256 of every line but the header. Each line begins with its kind and its name, so that two snapshots
are compared as bytes and what changed is known before any JSON is parsed.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from operator import lt
from typing import Any, NamedTuple

from . import model, objects
from .errors import GuardError, ObjectError, SnapshotError

SCHEMA = 1
# Written once, read by every node: the best ratio is worth less than a fast read.
COMPRESSION = 5

_SERVICE = b'{"kind":"Service",'
_HEAD = re.compile(
    rb'\{"kind":"(Namespace|Node|Pod|Service|ServiceCIDR)","metadata":\{(?:"namespace":"([a-z0-9-]+)",)?"name":"([a-z0-9.-]+)"'
)
# What json.loads comes down to: it looks for the encoding and for white space first, which is a third of its time here.
_read_json = json.JSONDecoder().raw_decode
_NO_HEAD = "A line of the snapshot does not begin with the kind and name of an object."


class Snapshot(NamedTuple):
    """``lines`` are sorted, without line ends; ``counts`` has services, endpoints, ready_endpoints, nodes, namespaces,
    pods and service_cidrs; ``refused`` are the objects that were left out, with the reason."""

    lines: tuple[bytes, ...]
    counts: dict[str, int]
    digest: str
    refused: tuple[ObjectError, ...] = ()

    def services(self) -> tuple[list[model.Service], list[ObjectError]]:
        """All Services in the order of the lines, and those that are refused."""
        return read_services(self.service_lines())

    def service_lines(self) -> Sequence[bytes]:
        """The lines of all Services."""
        return _of_kind(self.lines, "Service")

    def node(self, name: str) -> model.Node | None:
        """The Node of that name."""
        line = self.node_line(name)
        return None if line is None else model.read_node(json.loads(line))

    def node_line(self, name: str) -> bytes | None:
        """The line of the Node of that name: what a node's rules depend on besides the Services."""
        return line_with(self.lines, f'{{"kind":"Node","metadata":{{"name":"{name}"'.encode())

    def of_kind(self, kind: str) -> Iterator[Any]:
        """The objects of kind Node, Namespace (names), Pod or ServiceCIDR."""
        readers: dict[str, Callable[[object], Any]] = {
            "Node": model.read_node,
            "Namespace": model.read_namespace,
            "Pod": model.read_pod,
            "ServiceCIDR": model.read_service_cidr,
        }
        return (readers[kind](json.loads(line)) for line in _of_kind(self.lines, kind))


class Differences(NamedTuple):
    """Service names (namespace/name), sorted, and whether a line of another kind differs."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    others: bool


def read_services(
    lines: Iterable[bytes],
) -> tuple[list[model.Service], list[ObjectError]]:
    """Reads Service lines."""
    services, refused = [], []
    for line in lines:
        try:
            services.append(model.read_service(parsed(line)))
        except ObjectError as wrong:
            refused.append(wrong)
    return services, refused


def parsed(line: bytes) -> Any:
    """The JSON of a Service's line; raises ``ObjectError``: loading a snapshot proves its digest and how each line
    begins, and nothing more."""
    try:
        text = line.decode()
        found, end = _read_json(text)
        if end == len(text):
            return found
        raise ValueError(f"there is more behind it: {text[end : end + 20]!r}")
    except (ValueError, RecursionError) as wrong:
        namespace, _slash, name = name_of(line).partition("/")
        key = objects.object_key({"metadata": {"namespace": namespace, "name": name}})
        raise ObjectError("Service", key, f"its line of the snapshot is no JSON ({wrong})") from None


def is_service(line: bytes) -> bool:
    """Is this the line of a Service?"""
    return line.startswith(_SERVICE)


def line_with(lines: Sequence[bytes], head: bytes) -> bytes | None:
    """The first of sorted lines that begins so."""
    index = bisect_left(lines, head)
    return lines[index] if index < len(lines) and lines[index].startswith(head) else None


def service_head(name: str) -> bytes:
    """How the line of the Service namespace/name begins."""
    namespace, _slash, own = name.partition("/")
    return f'{{"kind":"Service","metadata":{{"namespace":"{namespace}","name":"{own}"'.encode()


def name_of(line: bytes) -> str:
    """namespace/name (or name) of the object of a line, without parsing it."""
    head = _HEAD.match(line)
    if head is None:
        raise SnapshotError(_NO_HEAD)
    return "/".join(part.decode() for part in head.groups()[1:] if part is not None)


# ---------------------------------------------------------------------------------------------------------- lines


def of_lines(lines: Iterable[bytes], refused: tuple[ObjectError, ...]) -> Snapshot:
    """The snapshot of these lines, in any order."""
    ordered = sorted(lines)
    return _snapshot(ordered, _digest(ordered), refused)


def _snapshot(lines: Sequence[bytes], digest: str, refused: tuple[ObjectError, ...]) -> Snapshot:
    services = _of_kind(lines, "Service")
    text = b"\n".join(services)
    endpoints = text.count(b'{"addresses":')
    counts = {
        "services": len(services),
        "endpoints": endpoints,
        "ready_endpoints": endpoints - text.count(b'"conditions":{"ready":false'),
        "nodes": len(_of_kind(lines, "Node")),
        "namespaces": len(_of_kind(lines, "Namespace")),
        "pods": len(_of_kind(lines, "Pod")),
        "service_cidrs": len(_of_kind(lines, "ServiceCIDR")),
    }
    return Snapshot(tuple(lines), counts, digest, refused)


def _of_kind(lines: Sequence[bytes], kind: str) -> Sequence[bytes]:
    """The lines of a kind: they are sorted, so these stand together."""
    head = f'{{"kind":"{kind}",'.encode()
    return lines[bisect_left(lines, head) : bisect_left(lines, head[:-1] + b"-")]


def _digest(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\n".join([*lines, b""])).hexdigest()


# ---------------------------------------------------------------------------------------------------- file format


def dump(snapshot: Snapshot) -> bytes:
    """The file: the same snapshot always gives the same bytes."""
    header = json.dumps(
        {"schema": SCHEMA, "counts": snapshot.counts, "digest": snapshot.digest},
        separators=(",", ":"),
    )
    return gzip.compress(b"\n".join([header.encode(), *snapshot.lines, b""]), COMPRESSION, mtime=0)


@lru_cache(maxsize=1)  # a run first asks whether it is the right one, then works with it
def load(data: bytes) -> Snapshot:
    """Reads a file; raises ``SnapshotError`` for one that is cut off, altered, or of a later schema."""
    try:
        text = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as wrong:
        raise SnapshotError(f"The snapshot is not a whole gzip file: {wrong}.") from None
    first, _newline, rest = text.partition(b"\n")
    header = _header(first)
    lines = rest.split(b"\n")
    if lines.pop() != b"":
        raise SnapshotError("The snapshot is cut off: its last line has no end.")
    if _digest(lines) != header["digest"]:
        raise SnapshotError("The snapshot was altered: its digest does not match its lines. Fetch it again.")
    if not all(map(lt, lines, islice(lines, 1, None))):
        raise SnapshotError("The snapshot was not written by this collection: its lines are not sorted.")
    if not all(map(_HEAD.match, lines)):
        raise SnapshotError(_NO_HEAD)
    return _snapshot(lines, header["digest"], ())


def _header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        schema, digest = header["schema"], header["digest"]
    except (ValueError, KeyError, TypeError):
        raise SnapshotError("The file is not a snapshot: it has no header.") from None
    if not isinstance(schema, int) or not isinstance(digest, str):
        raise SnapshotError("The file is not a snapshot: its header is broken.")
    if schema > SCHEMA:
        raise SnapshotError(
            f"The snapshot has schema {schema}, and this collection reads up to {SCHEMA}: upgrade it first."
        )
    return {"schema": schema, "digest": digest}


# ------------------------------------------------------------------------------------------------------ comparing


def differences(old: Snapshot, new: Snapshot) -> Differences:
    """What differs, by name."""
    before, after = set(old.lines), set(new.lines)
    gone, come = before - after, after - before
    lost = {name_of(line) for line in gone if is_service(line)}
    won = {name_of(line) for line in come if is_service(line)}
    return Differences(
        tuple(sorted(won - lost)),
        tuple(sorted(lost - won)),
        tuple(sorted(lost & won)),
        not all(map(is_service, gone | come)),
    )


def guard(old: Snapshot, new: Snapshot, max_removed_percent: int) -> None:
    """Raises ``GuardError`` if the new snapshot lost more than that share of the Services, or of the ready endpoints:
    an empty or half answer of an API server must not take the rules away."""
    removed = len(differences(old, new).removed)
    fewer = old.counts["ready_endpoints"] - new.counts["ready_endpoints"]
    for what, lost, had in (
        ("Services", removed, old.counts["services"]),
        ("ready endpoints", fewer, old.counts["ready_endpoints"]),
    ):
        if had and lost * 100 > max_removed_percent * had:
            raise GuardError(
                f"The new snapshot lacks {lost} of {had} {what}, more than {max_removed_percent} %: it is refused and"
                " the old one stays. If this is meant, allow it with max_removed_percent."
            )

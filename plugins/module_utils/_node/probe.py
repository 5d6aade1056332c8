# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real connections and DNS queries: who answers, how often, how fast. Nothing on the node is changed by it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import http.client
import socket
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .._core.errors import NoAnswer
from . import dns_client

# How long a server that accepted a TCP connection may take to speak first. Most wait for the client.
GREETING_SECONDS = 0.2
# Probes wait, they don't work: so many at a time cost nothing.
THREADS = 16
NAME_LENGTH = 120
MAX_ANSWER = 4096
DEFAULT_PORTS = {"http": 80, "dns": 53}
RESOLVER_FILE = "/etc/resolv.conf"

_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
}


class ProbeTarget(NamedTuple):
    """What to ask, and how often.

    :param name: what the target is called in results.
    :param host: an address or a name; for ``dns`` the server, "" is the node's own resolver.
    :param port: 0 is the protocol's own, where it has one.
    :param protocol: tcp, udp, http or dns.
    :param timeout: seconds for each attempt.
    :param path: of the URL (http).
    :param query: the name to look up (dns).
    :param record_type: A, AAAA, SRV, PTR, TXT or CNAME (dns).
    """

    name: str
    host: str
    port: int
    protocol: str = "tcp"
    attempts: int = 3
    timeout: float = 2.0
    path: str = "/"
    query: str = ""
    record_type: str = "A"


class ProbeResult(NamedTuple):
    """``answers`` counts by who answered, ``failures`` by reason; ``latencies`` of answers in milliseconds, sorted.

    ``host`` and ``port`` are what was really asked.
    """

    target: ProbeTarget
    host: str
    port: int
    answers: dict[str, int]
    failures: dict[str, int]
    latencies: list[float]

    @property
    def answered(self) -> int:
        """How many attempts were answered."""
        return sum(self.answers.values())

    def as_dict(self) -> dict[str, object]:
        """What a module returns of it."""
        latency = {}
        if self.latencies:
            latency = {
                "min": round(self.latencies[0], 3),
                "median": round(statistics.median(self.latencies), 3),
                "max": round(self.latencies[-1], 3),
            }
        return {
            "name": self.target.name,
            "host": self.host,
            "port": self.port,
            "protocol": self.target.protocol,
            "attempts": self.target.attempts,
            "answered": self.answered,
            "answers": dict(sorted(self.answers.items())),
            "failures": dict(sorted(self.failures.items())),
            "latency_ms": latency,
        }


class Failure(Exception):
    """An attempt was not answered; the message is a word or two for the table of reasons."""


def probe_all(targets: Iterable[ProbeTarget]) -> list[ProbeResult]:
    """Probes all targets, several at a time; the results are in the order of the targets."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(probe, targets))


def probe(target: ProbeTarget) -> ProbeResult:
    """All attempts for one target, one after the other."""
    host = target.host
    if not host and target.protocol == "dns":
        host = own_resolver()
    port = target.port or DEFAULT_PORTS.get(target.protocol, 0)
    result = ProbeResult(target, host, port, {}, {}, [])
    attempt = ATTEMPTS[target.protocol]
    for _attempt in range(target.attempts):
        try:
            who, seconds = attempt(target, host, port)
        except Failure as failure:
            result.failures[str(failure)] = result.failures.get(str(failure), 0) + 1
        else:
            result.answers[who] = result.answers.get(who, 0) + 1
            result.latencies.append(seconds * 1000)
    result.latencies.sort()
    return result


def own_resolver(path: str = RESOLVER_FILE) -> str:
    """The first name server that this node's resolver asks; the C library takes loopback where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            words = [line.split() for line in stream]
    except OSError:
        words = []
    return next((line[1] for line in words if len(line) > 1 and line[0] == "nameserver"), "127.0.0.1")


# -------------------------------------------------------------------------------------------------------- one attempt


def _tcp(target: ProbeTarget, host: str, port: int) -> tuple[str, float]:
    """Connects; who answered is what the server says first, or else the address that was reached."""
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), target.timeout) as sock:
            seconds = time.monotonic() - began
            sock.settimeout(min(target.timeout, GREETING_SECONDS))
            try:
                said = sock.recv(MAX_ANSWER)
            except socket.timeout:
                said = b""
            return _first_line(said) or _peer(sock), seconds
    except (OSError, UnicodeError) as error:
        raise Failure(_reason(error)) from error


def _udp(target: ProbeTarget, host: str, port: int) -> tuple[str, float]:
    """Sends an empty line and waits for any datagram."""
    began = time.monotonic()
    try:
        family, kind, protocol, _canonical, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(target.timeout)
            # Connected, so that a closed port is an error at once.
            sock.connect(address)
            sock.send(b"\n")
            said = sock.recv(MAX_ANSWER)
            return _first_line(said) or _peer(sock), time.monotonic() - began
    except (OSError, UnicodeError) as error:
        raise Failure(_reason(error)) from error


def _http(target: ProbeTarget, host: str, port: int) -> tuple[str, float]:
    """A GET; who answered is the first line of the body. Any status is an answer, but for those of a broken server."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=target.timeout)
    try:
        connection.request("GET", target.path, headers={"Connection": "close", "User-Agent": "servicenet"})
        answer = connection.getresponse()
        said = answer.read(MAX_ANSWER)
        seconds = time.monotonic() - began
        if answer.status >= 500:
            raise Failure(f"HTTP {answer.status}")
        return _first_line(said) or f"HTTP {answer.status}", seconds
    except (OSError, UnicodeError) as error:
        raise Failure(_reason(error)) from error
    except http.client.HTTPException as error:
        raise Failure("no HTTP") from error
    finally:
        connection.close()


def _dns(target: ProbeTarget, host: str, port: int) -> tuple[str, float]:
    """One question; who answered is what the records say, sorted."""
    began = time.monotonic()
    try:
        answer = dns_client.ask(host, port, target.query, target.record_type, target.timeout)
    except NoAnswer as error:
        cause = error.__cause__
        raise Failure(_reason(cause) if isinstance(cause, OSError) else "no DNS") from None
    seconds = time.monotonic() - began
    if answer.rcode != "NOERROR":
        raise Failure(answer.rcode)
    found = sorted(record.data for record in answer.answer if record.type == target.record_type)
    if not found:
        raise Failure("no record")
    return ", ".join(found)[:NAME_LENGTH], seconds


ATTEMPTS: dict[str, Callable[[ProbeTarget, str, int], tuple[str, float]]] = {
    "tcp": _tcp,
    "udp": _udp,
    "http": _http,
    "dns": _dns,
}


def _first_line(said: bytes) -> str:
    """The first line in printable characters: a stranger's bytes must not reach a terminal as they are."""
    line = said.decode("utf-8", "replace").strip().split("\n", 1)[0][:NAME_LENGTH]
    return "".join(c if c.isprintable() else "?" for c in line.strip())


def _peer(sock: socket.socket) -> str:
    address, port = sock.getpeername()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.timeout):
        return "timed out"
    if isinstance(error, (socket.gaierror, UnicodeError)):  # the latter of what can be no name at all
        return "name not found"
    return _REASONS.get(error.errno or 0, error.strerror or "failed")

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes of hosts from the controller: does a port accept a connection, does a web server answer well?

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

_WORKERS = 32
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_LONGEST_LINE = 1024


class Probe(NamedTuple):
    """What is asked of a host.

    :param kind: tcp, http, https, or none (always ready).
    :param path: of an HTTP request; any status from 200 to 399 is an answer that counts.
    :param timeout: seconds for the connection, and for the answer.
    """

    kind: str
    address: str
    port: int
    path: str = "/"
    timeout: float = 2.0


def probe_all(probes: Sequence[Probe]) -> list[bool]:
    """Ask all hosts, some at a time; the answers are in the order of the probes."""
    if not probes:
        return []
    with ThreadPoolExecutor(max_workers=min(len(probes), _WORKERS)) as threads:
        return list(threads.map(answers, probes))


def answers(probe: Probe) -> bool:
    """Whether a host answers."""
    if probe.kind == "none":
        return True
    try:
        if probe.kind == "tcp":
            with socket.create_connection((probe.address, probe.port), timeout=probe.timeout):
                return True
        return _http_status(probe) in range(200, 400)
    except (OSError, ValueError):
        return False


def _http_status(probe: Probe) -> int:
    """The status of a GET request. A certificate is not checked: kubelet's probes do not either.

    Only the first line is read, and within the time as a whole: a host that says a letter now and then is not ready.
    """
    if not probe.path.isprintable() or " " in probe.path:
        raise ValueError("the path is none")
    host = f"[{probe.address}]" if ":" in probe.address else probe.address
    request = f"GET {probe.path} HTTP/1.1\r\nHost: {host}:{probe.port}\r\nConnection: close\r\n\r\n"
    with contextlib.ExitStack() as opened:
        sock = opened.enter_context(socket.create_connection((probe.address, probe.port), timeout=probe.timeout))
        if probe.kind == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = opened.enter_context(context.wrap_socket(sock))
        sock.sendall(request.encode("ascii"))
        line, until = b"", time.monotonic() + probe.timeout
        while b"\n" not in line and len(line) < _LONGEST_LINE:
            sock.settimeout(max(until - time.monotonic(), 0.001))
            piece = sock.recv(_LONGEST_LINE)
            if not piece:
                break
            line += piece
    found = _STATUS.match(line)
    return int(found.group(1)) if found else 0

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes of hosts from the controller: does a port accept a connection, does a web server answer well?

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

_WORKERS = 32


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
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _http_status(probe: Probe) -> int:
    """The status of a GET request. A certificate is not checked: kubelet's probes do not either."""
    connection: http.client.HTTPConnection
    if probe.kind == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(probe.address, probe.port, timeout=probe.timeout, context=context)
    else:
        connection = http.client.HTTPConnection(probe.address, probe.port, timeout=probe.timeout)
    try:
        connection.request("GET", probe.path, headers={"Connection": "close"})
        # The library waits that long for each piece of an answer, and a host may say a letter now and then.
        late = threading.Timer(probe.timeout, _hang_up, [connection.sock])
        late.start()
        try:
            return connection.getresponse().status
        finally:
            late.cancel()
    finally:
        connection.close()


def _hang_up(sock: socket.socket) -> None:
    """Ends what another thread waits for; not by the method of a TLS socket, which would take its state away."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small server of a node, as kube-proxy has it: health checks of load balancers, /healthz, /livez and /metrics.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import functools
import json
import selectors
import socket
import socketserver
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, NamedTuple

from .._core.errors import ServicenetError
from .._core.table import HealthCheck
from . import applied, outcome
from .config import Config, address

POLL_SECONDS = 0.5
REQUEST_SECONDS = 10
# Addresses come and go without any run.
ADDRESSES_SECONDS = 5.0


class Reply(NamedTuple):
    """An answer to GET."""

    status: int
    text: str
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


# The path, and the family of the address that was asked -> the answer.
Replies = Callable[[str, int], Reply]


class State:
    """What the answers are made of; ``refresh`` reads it again where it changed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.applied = applied.Applied()
        self.asked: Counter[tuple[str, int]] = Counter()
        self._stamp: Any = None

    def refresh(self) -> None:
        """Reads the state in force again, if there is another."""
        stamp = applied.stamp(self.config.state_dir)
        if stamp != self._stamp:
            self.applied, self._stamp = applied.load(self.config.state_dir), stamp

    def healthy(self) -> bool:
        """Is no update waiting for longer than two intervals? An API server that is down leaves none waiting."""
        since = outcome.read(self.config.outcome_path).get("failing_since") or 0
        return bool(self.applied.mode) and (not since or time.time() - since < 2 * self.config.interval)

    def health_check(self, check: HealthCheck, _path: str, family: int) -> Reply:
        """What a load balancer is told of a Service: of the endpoints that its own packets would come to."""
        endpoints = check.local_endpoints.get(family, next(iter(check.local_endpoints.values())))
        healthy = self.healthy()
        namespace, _slash, name = check.service.partition("/")
        body = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": endpoints,
            "serviceProxyHealthy": healthy,
        }
        weight = ("X-Load-Balancing-Endpoint-Weight", str(endpoints))
        ready = healthy and endpoints > 0
        return Reply(200 if ready else 503, json.dumps(body, indent="\t"), headers=(weight,))

    def of_node(self, path: str, _family: int) -> Reply:
        """/healthz and /livez."""
        if path not in ("/healthz", "/livez"):
            return Reply(404, "404 page not found\n", "text/plain; charset=utf-8")
        eligible = not self.applied.leaving
        good = self.healthy() and (eligible or path == "/livez")
        updated = outcome.read(self.config.outcome_path).get("last_success") or 0
        body: dict[str, Any] = {"lastUpdated": _text(updated), "currentTime": _text(time.time())}
        if path == "/healthz":
            body["nodeEligible"] = eligible
        self.asked[path[1:], 200 if good else 503] += 1
        return Reply(200 if good else 503, json.dumps(body))

    def of_metrics(self, path: str, _family: int) -> Reply:
        """/metrics."""
        if path != "/metrics":
            return Reply(404, "404 page not found\n", "text/plain; charset=utf-8")
        lines: list[str] = []
        for name in ("healthz", "livez"):
            seen = {f'{{code="{code}"}}': self.asked[name, code] for code in (200, 503)}
            lines += outcome.metric(f"{name}_total", "counter", f"Answers to /{name}.", seen)
        held = self.applied
        lost = {
            '{traffic_policy="internal"}': held.internal_undeliverable,
            '{traffic_policy="external"}': held.external_undeliverable,
        }
        lines += outcome.metric(
            "no_local_endpoints", "gauge", "Service ports that drop for want of a local endpoint.", lost
        )
        lines += outcome.metric("health_check_ports", "gauge", "Ports of health checks.", {"": len(held.health_checks)})
        text = outcome.metrics(outcome.read(self.config.outcome_path)) + "".join(f"{line}\n" for line in lines)
        return Reply(200, text, "text/plain; version=0.0.4; charset=utf-8")


def _text(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    timeout = 0

    def __init__(self, host: str, port: int, replies: Replies) -> None:
        self.replies = replies
        self.both = not host and socket.has_ipv6
        self.address_family = socket.AF_INET6 if ":" in host or self.both else socket.AF_INET
        try:
            super().__init__((host or ("::" if self.both else "0.0.0.0"), port), _Handler)
        except OSError:
            if not self.both:
                raise
            # A kernel without IPv6.
            self.both, self.address_family = False, socket.AF_INET
            super().__init__(("0.0.0.0", port), _Handler)

    def server_bind(self) -> None:
        """One socket for both families where no address is given."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if self.both else 1)
        # Not HTTPServer's, which asks the DNS for the name of the host.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our errors."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _Server
    server_version = "servicenet-agent"
    sys_version = ""

    def do_GET(self) -> None:
        here = self.connection.getsockname()[0]
        family = 6 if ":" in here and not here.startswith("::ffff:") else 4
        reply = self.server.replies(self.path.partition("?")[0], family)
        data = reply.text.encode()
        self.send_response(reply.status)
        for name, value in (*reply.headers, ("Content-Type", reply.kind), ("X-Content-Type-Options", "nosniff")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815 - the name that the class above calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the class above
        """Load balancers ask every few seconds."""


class Servers:
    """The sockets: opened and closed as the state in force wants."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self.state, self._say = State(config), say
        self._config = config
        self._open: dict[tuple[str, int], _Server] = {}
        self._failed: set[tuple[str, int]] = set()
        self._unread = ""
        self._selector = selectors.DefaultSelector()
        self._looked = 0.0
        self._hosts: tuple[str, ...] = ("",)

    def wanted(self) -> dict[tuple[str, int], Replies]:
        """What is to be answered where."""
        state = self.state
        found: dict[tuple[str, int], Replies] = {}
        if self._config.healthz_address:
            found[address(self._config.healthz_address)] = state.of_node
        if self._config.metrics_address:
            found[address(self._config.metrics_address)] = state.of_metrics
        for check in state.applied.health_checks:
            for host in self._hosts:
                found[host, check.port] = functools.partial(state.health_check, check)
        return found

    def refresh(self) -> None:
        """Reads the state, and opens and closes sockets."""
        held = self.state.applied
        self.state.refresh()
        if self.state.applied is not held or time.monotonic() - self._looked > ADDRESSES_SECONDS:
            self._hosts, self._looked = applied.hosts(self.state.applied.cidrs), time.monotonic()
        wanted = self.wanted()
        for place in set(self._open) - set(wanted):
            self._selector.unregister(self._open[place])
            self._open.pop(place).server_close()
        for place, replies in wanted.items():
            if place in self._open:
                self._open[place].replies = replies
                continue
            try:
                server = _Server(*place, replies)
            except OSError as error:
                if place not in self._failed:
                    self._say(f"Port {place[1]} of {place[0] or 'all addresses'} can't be served: {error.strerror}.")
                self._failed.add(place)
                continue
            self._failed.discard(place)
            self._open[place] = server
            self._selector.register(server, selectors.EVENT_READ, server)

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Answers until ``stopped`` says so."""
        while not stopped():
            try:
                self.refresh()
                self._unread = ""
            except ServicenetError as error:
                # What was read before is answered until it can be read again.
                if str(error) != self._unread:
                    self._say(f"The state of this node can't be read: {error}")
                self._unread = str(error)
            for key, _events in self._selector.select(POLL_SECONDS):
                key.data.handle_request()
        for server in self._open.values():
            server.server_close()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes against real servers on loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.probes import Probe, answers, probe_all

# For a server of this process, on a busy machine.
PATIENCE = 60.0


class Handler(BaseHTTPRequestHandler):
    """Answers /NUMBER with that status."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


@contextmanager
def web_server(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_server(says: bytes = b"") -> Iterator[int]:
    """Accepts connections; says one thing, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def accept() -> None:
            while True:
                try:
                    connection, _peer = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if says:
                    connection.sendall(says)
                    connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in kept:
            each.close()


@contextmanager
def crowded_server(size: int) -> Iterator[int]:
    """Answers nobody before so many are connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            crowd = [server.accept()[0] for _each in range(size)]
            for connection in crowd:
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_tcp() -> None:
    with silent_server() as port:
        assert answers(Probe("tcp", "127.0.0.1", port))
    assert not answers(Probe("tcp", "127.0.0.1", closed_port()))


@pytest.mark.parametrize(("status", "ready"), [(200, True), (204, True), (302, True), (404, False), (503, False)])
def test_http(status: int, ready: bool) -> None:
    with web_server() as port:
        assert answers(Probe("http", "127.0.0.1", port, f"/{status}", PATIENCE)) is ready


def test_https_with_a_certificate_of_nobody(tmp_path: Path) -> None:
    files = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=x",
            "-days",
            "1",
            "-keyout",
            str(files[0]),
            "-out",
            str(files[1]),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    with web_server(context) as port:
        assert answers(Probe("https", "127.0.0.1", port, "/200", PATIENCE))
        assert not answers(Probe("http", "127.0.0.1", port, "/200", timeout=0.5))


def test_a_server_that_is_silent_or_talks_nonsense_is_not_ready() -> None:
    with silent_server() as port:
        start = time.monotonic()
        assert not answers(Probe("http", "127.0.0.1", port, timeout=0.2))
        assert time.monotonic() - start < 30  # not for ever
    with silent_server(b"220 mail ready\r\n") as port:
        assert not answers(Probe("http", "127.0.0.1", port, timeout=0.5))


def test_a_server_that_says_a_letter_now_and_then_is_not_waited_for() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _peer = server.accept()
            with connection, contextlib.suppress(OSError):
                for letter in b"HTTP/1.1 " + b"2" * 600:
                    connection.sendall(bytes([letter]))
                    if over.wait(0.1):
                        return

        thread = threading.Thread(target=speak)
        thread.start()
        start = time.monotonic()
        assert not answers(Probe("http", "127.0.0.1", server.getsockname()[1], timeout=0.3))
        took = time.monotonic() - start
        over.set()
        thread.join()
    assert took < 20  # with 0.3 seconds for each letter it takes a minute


@pytest.mark.parametrize("path", ["/200\r\nX: y", "/200 HTTP/1.0", "/\u00e4"])
def test_a_path_that_is_none_is_no_answer(path: str) -> None:
    with web_server() as port:
        assert not answers(Probe("http", "127.0.0.1", port, path))


def test_many_are_asked_side_by_side_and_answer_in_order() -> None:
    """Nobody is answered before the last of eighteen has come."""
    with crowded_server(18) as port:
        probes = [Probe("http", "127.0.0.1", port, timeout=PATIENCE) for _each in range(20)]
        probes[3] = Probe("tcp", "127.0.0.1", closed_port())
        probes[5] = Probe("none", "127.0.0.1", 0)
        assert [number for number, ready in enumerate(probe_all(probes)) if not ready] == [3]
    assert probe_all([]) == []

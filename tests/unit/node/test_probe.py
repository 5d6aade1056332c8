# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probes against real servers on loopback, and what is chosen from a snapshot."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns_message, snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import probe as probes
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.probe import ProbeTarget, probe, probe_all
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.probe_report import failing, table
from ansible_collections.kubenode.servicenet.plugins.module_utils._probing import (
    given_targets,
    snapshot_targets,
)

PATIENCE = 60.0
TARGET = {
    "host": "198.18.0.1",
    "port": 80,
    "protocol": "tcp",
    "attempts": 1,
    "timeout": 1.0,
    "path": "/",
    "query": "",
    "record_type": "A",
}
OPTIONS = {
    "node_name": "node-a",
    "zone": None,
    "ip_families": ["ipv4", "ipv6"],
    "service_proxy_name": "",
    "services": [],
    "limit": 50,
    "attempts": 2,
    "timeout": 1.0,
}


class TcpServer:
    """Greets each client with the next of `greetings` (None: closes at once, "": says nothing)."""

    def __init__(self, greetings: list[str | None]) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.serve, args=(greetings,), daemon=True).start()

    def serve(self, greetings: list[str | None]) -> None:
        for greeting in greetings:
            try:
                client, _address = self.sock.accept()
            except OSError:
                return
            if greeting == "":
                client.recv(1)  # until the other side hangs up
            elif greeting:
                client.sendall(greeting.encode())
            client.close()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may be late with its greeting, where the machine is busy."""
    monkeypatch.setattr(probes, "GREETING_SECONDS", PATIENCE)


def answer_datagrams(sock: socket.socket, answers: list[bytes]) -> None:
    def serve() -> None:
        for answer in answers:
            data, peer = sock.recvfrom(2048)
            # A DNS answer carries the identity of its question.
            sock.sendto(data[:2] + answer[2:] if answer.startswith(b"\0\0") else answer, peer)

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.usefixtures("patient")
def test_tcp_counts_who_said_what_first() -> None:
    server = TcpServer(["pod-a\nmore", "pod-b", "pod-a"])
    result = probe(ProbeTarget("web", "127.0.0.1", server.port, attempts=3, timeout=PATIENCE))
    assert (result.answers, result.failures, result.answered) == ({"pod-a": 2, "pod-b": 1}, {}, 3)
    assert len(result.latencies) == 3


def test_tcp_server_that_waits_for_the_client_is_known_by_its_address() -> None:
    server = TcpServer(["", None])
    result = probe(ProbeTarget("web", "127.0.0.1", server.port, attempts=2))
    assert result.answers == {f"127.0.0.1:{server.port}": 2}


@pytest.mark.usefixtures("patient")
def test_strange_bytes_do_not_reach_the_terminal() -> None:
    server = TcpServer(["\x1b[31mred" + "x" * 200])
    (who,) = probe(ProbeTarget("web", "127.0.0.1", server.port, attempts=1, timeout=PATIENCE)).answers
    assert who.startswith("?[31mredx")
    assert len(who) == probes.NAME_LENGTH


def test_failures_are_counted_by_reason(closed_port: int, udp: socket.socket) -> None:
    refused = probe(ProbeTarget("a", "127.0.0.1", closed_port, attempts=2))
    assert (refused.failures, refused.answered, refused.as_dict()["latency_ms"]) == ({"refused": 2}, 0, {})
    assert probe(ProbeTarget("b", "127.0.0.1", closed_port, "udp", 1)).failures == {"refused": 1}
    assert probe(ProbeTarget("c", "127.0.0.1", closed_port, "http", 1)).failures == {"refused": 1}
    silent = ProbeTarget("d", "127.0.0.1", udp.getsockname()[1], "udp", 1, timeout=0.05)
    assert probe(silent).failures == {"timed out": 1}
    assert probe(ProbeTarget("e", "no-such-name.invalid", 80, attempts=1)).failures == {"name not found": 1}


def test_udp_counts_answers(udp: socket.socket) -> None:
    answer_datagrams(udp, [b"pod-a\n9000\n", b"pod-b"])
    result = probe(ProbeTarget("u", "127.0.0.1", udp.getsockname()[1], "udp", 2, timeout=PATIENCE))
    assert result.answers == {"pod-a": 1, "pod-b": 1}


class Pages(http.server.BaseHTTPRequestHandler):
    """/who answers with a name, /broken with 503, anything else with an empty 404."""

    def do_GET(self) -> None:
        status, body = {"/who": (200, b"pod-a\n8080\n"), "/broken": (503, b"pod-a")}.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


def test_http_reads_the_body_and_judges_the_status() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        paths = ("/who", "/broken", "/nothing")
        who, broken, nothing = probe_all(
            ProbeTarget(path, "127.0.0.1", server.server_port, "http", 1, PATIENCE, path) for path in paths
        )
    finally:
        server.shutdown()
        server.server_close()
    assert who.answers == {"pod-a": 1}
    assert broken.failures == {"HTTP 503": 1}
    assert nothing.answers == {"HTTP 404": 1}


def test_http_of_a_server_that_speaks_something_else() -> None:
    server = TcpServer(["SSH-2.0-x\r\n"])
    assert probe(ProbeTarget("ssh", "127.0.0.1", server.port, "http", 1, PATIENCE)).failures == {"no HTTP": 1}


def dns_answer(rcode: int, addresses: list[str]) -> bytes:
    question = dns_message.question(0, "web.shop.svc.cluster.local", "A")
    body = question[12:-11]  # without the EDNS record
    records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton(address) for address in addresses)
    return b"\0\0\x84" + bytes([rcode]) + b"\0\1\0" + bytes([len(addresses)]) + b"\0\0\0\0" + body + records


def test_dns_tells_the_records_or_the_refusal(udp: socket.socket) -> None:
    answer_datagrams(udp, [dns_answer(0, ["10.96.0.11", "10.96.0.10"]), dns_answer(3, []), dns_answer(0, [])])
    port, query = udp.getsockname()[1], "web.shop.svc.cluster.local"
    target = ProbeTarget("name", "127.0.0.1", port, "dns", 3, PATIENCE, query=query)
    result = probe(target)
    assert result.answers == {"10.96.0.10, 10.96.0.11": 1}
    assert result.failures == {"NXDOMAIN": 1, "no record": 1}


def test_own_resolver_is_the_first_name_server(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("search x\nnameserver 198.18.0.53\nnameserver 198.18.0.54\n")
    assert probes.own_resolver(str(resolver)) == "198.18.0.53"
    assert probes.own_resolver(str(tmp_path / "none")) == "127.0.0.1"


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"host": ""}, "a host"),
        ({"port": None}, "a port"),
        ({"protocol": "dns"}, "a query"),
        ({"port": 70000}, "a port from 1 to 65535"),
        ({"port": -1}, "a port from 1 to 65535"),
        ({"timeout": 0.0}, "a timeout above 0"),
        ({"protocol": "http", "path": "/\u00fc"}, "a path as it stands in a URL"),
        ({"protocol": "http", "path": "/a b"}, "a path as it stands in a URL"),
    ],
)
def test_target_that_lacks_something_is_refused_by_name(change: dict[str, object], lacks: str) -> None:
    with pytest.raises(OptionError, match=f"The target web needs {lacks}"):
        given_targets([{"name": "web", **TARGET, **change}])


@pytest.mark.parametrize("protocol", ["tcp", "udp", "http"])
@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_host_that_can_be_no_name_is_not_found(protocol: str, host: str) -> None:
    assert probe(ProbeTarget("t", host, 80, protocol, 1)).failures == {"name not found": 1}


def test_a_time_that_is_none_is_refused_for_a_snapshot_as_well() -> None:
    with pytest.raises(OptionError, match="timeout has to be above 0"):
        snapshot_targets({**OPTIONS, "snapshot": "/dev/null", "timeout": -1.0})


def service(name: str, address: str, **spec: object) -> list[dict]:
    """A Service with a TCP and a UDP port, and one ready endpoint on node-b."""
    ports = [{"name": p.lower(), "protocol": p, "port": 80} for p in ("TCP", "UDP")]
    metadata = {"namespace": "shop", "name": name}
    labels = {"kubernetes.io/service-name": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": ports, **spec},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": ["10.128.2.11"], "conditions": {"ready": True}, "nodeName": "node-b"}],
        },
    ]


@pytest.fixture
def snapshot_path(tmp_path: Path) -> str:
    objects = [o for i in range(10) for o in service(f"s{i}", f"10.96.0.{10 + i}")]
    objects += service("local", "10.96.0.30", internalTrafficPolicy="Local")
    objects += service("none", "10.96.0.31")[:1]
    path = tmp_path / "snapshot.jsonl.gz"
    path.write_bytes(snapshot.dump(build_snapshot(objects)))
    return str(path)


def test_targets_are_the_tcp_ports_with_endpoints_for_this_node(snapshot_path: str) -> None:
    targets = snapshot_targets({**OPTIONS, "snapshot": snapshot_path})
    assert [target.name for target in targets] == [f"shop/s{i}:tcp" for i in range(10)]
    assert targets[0] == ProbeTarget("shop/s0:tcp", "10.96.0.10", 80, "tcp", 2, 1.0)
    on_b = snapshot_targets({**OPTIONS, "snapshot": snapshot_path, "node_name": "node-b"})
    assert "shop/local:tcp" in [target.name for target in on_b]


def test_sample_is_spread_over_the_cluster(snapshot_path: str) -> None:
    targets = snapshot_targets({**OPTIONS, "snapshot": snapshot_path, "limit": 3})
    assert [target.name for target in targets] == ["shop/s0:tcp", "shop/s3:tcp", "shop/s6:tcp"]


def test_named_services_are_all_probed_or_refused(snapshot_path: str) -> None:
    named = {**OPTIONS, "snapshot": snapshot_path, "limit": 1, "services": ["shop/s1", "shop/s2"]}
    assert [target.name for target in snapshot_targets(named)] == ["shop/s1:tcp", "shop/s2:tcp"]
    with pytest.raises(OptionError, match="nothing to probe in shop/none"):
        snapshot_targets({**named, "services": ["shop/s1", "shop/none"]})


def test_snapshot_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="There is no snapshot"):
        snapshot_targets({**OPTIONS, "snapshot": str(tmp_path / "none")})


@pytest.mark.usefixtures("patient")
def test_table_begins_with_what_failed(closed_port: int) -> None:
    server = TcpServer(["pod-a", "pod-b"])
    results = probe_all(
        [
            ProbeTarget("good", "127.0.0.1", server.port, attempts=2, timeout=PATIENCE),
            ProbeTarget("shop/bad:http", "127.0.0.1", closed_port, attempts=1),
        ]
    )
    lines = table(results)
    assert lines[1].split() == ["shop/bad:http", f"127.0.0.1:{closed_port}/tcp", "0", "of", "1", "refused", "x", "1"]
    assert lines[2].split("  ")[-1] == "pod-a x 1, pod-b x 1"
    assert len({line.index(word) for line, word in zip(lines, ("answered", "0 of 1", "2 of 2"), strict=True)}) == 1
    assert failing(results) == ["shop/bad:http"]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One process of a lab: it lives in one network namespace, answers as a server and probes as a client.

Started by ground.py as `python3 worker.py NAME PORTS`. PORTS is JSON, the ports of each kind of server:

- `plain`: TCP, UDP and SCTP. A TCP client gets the answer at once and the connection is closed; a UDP datagram is
  answered from the address that it was sent to.
- `http`: HTTP, every path gives 200 and the answer as its body.
- `stream`: TCP, every line is echoed behind the server's name, until the client closes.

The answer is three lines: the server's name, its port, the address of the client that it saw.

Commands come in as one JSON object a line on stdin, answers go out the same way on stdout: `ping`, `probe` (new flows,
how often each outcome was seen), `http` (one GET), `open`, `say` and `hang_up` (one long connection), `serve` and
`quit_serving` (more plain ports, and fewer), `stay` (outlive the end of stdin).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import json
import os
import random
import socket
import struct
import sys
import urllib.parse
from typing import Any

import sctp
from patience import within

IP_PKTINFO = sctp.IP_PKTINFO
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50
IPV6_RECVERR = 25
LINGER_RESET = struct.pack("ii", 1, 0)


# --------------------------------------------------------------------------------------------------------- server


def answer(name: str, port: int, peer: str) -> bytes:
    """Who answers, on which port, and whom it saw."""
    return f"{name}\n{port}\n{peer.removeprefix('::ffff:')}\n".encode()


class Server:
    """All servers of this process. `name` is what they call themselves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.plain: dict[int, list[Any]] = {}
        self.stays = False

    async def start(self, ports: dict[str, list[int]]) -> None:
        """Opens every port, both families, bound to the wildcard address."""
        for port in ports.get("plain", []):
            await self.open_plain(port)
        for port in ports.get("http", []):
            await self.listen(port, self.say_http)
        for port in ports.get("stream", []):
            await self.listen(port, self.echo)
        if ports.get("plain"):
            sctp.Server(self.loop, ports["plain"], lambda port, peer: answer(self.name, port, peer))

    async def open_plain(self, port: int) -> None:
        """TCP and UDP on one port."""
        held: list[Any] = list(await self.listen(port, self.say_plain))
        held += [self.serve_udp(family, port) for family in (socket.AF_INET, socket.AF_INET6)]
        self.plain[port] = held

    async def close_plain(self, port: int) -> None:
        """From now on the port refuses."""
        for held in self.plain.pop(port, []):
            if isinstance(held, socket.socket):
                self.loop.remove_reader(held)
            held.close()

    async def listen(self, port: int, handler: Any) -> list[asyncio.Server]:
        """TCP on one port; `handler(reader, writer)` speaks."""
        servers = []
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((any_address, port))
            sock.setblocking(False)
            servers.append(await asyncio.start_server(handler, sock=sock, backlog=512))
        return servers

    def answer_to(self, writer: asyncio.StreamWriter) -> bytes:
        """The answer to the client of this connection."""
        peer, local = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        return answer(self.name, local[1], peer[0])

    async def say_plain(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speaks first and closes."""
        writer.write(self.answer_to(writer))
        writer.close()

    async def say_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one response."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = self.answer_to(writer)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Holds the connection and repeats every line behind its name."""
        try:
            while line := await reader.readline():
                writer.write(self.name.encode() + b" " + line)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    def serve_udp(self, family: int, port: int) -> socket.socket:
        """A wildcard UDP socket that replies from the very address that the datagram was sent to."""
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            sock.bind(("::", port))
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", port))

        def readable() -> None:
            try:
                _data, ancillary, _flags, peer = sock.recvmsg(2048, 256)
            except OSError:
                return
            reply_from = []
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                    # struct in_pktinfo {ifindex, spec_dst, addr}; interface 0 lets routing choose the way back
                    reply_from = [(level, kind, struct.pack("=I4s4s", 0, data[8:12], b"\0" * 4))]
                elif level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
                    reply_from = [(level, kind, data[:16] + struct.pack("=I", 0))]
            with contextlib.suppress(OSError):
                sock.sendmsg([answer(self.name, port, peer[0])], reply_from, 0, peer)

        self.loop.add_reader(sock, readable)
        return sock


# --------------------------------------------------------------------------------------------------------- client


def family_of(address: str) -> socket.AddressFamily:
    """By the look of it."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# Who accepted a connection is there, and may be as slow as a busy machine makes it.
SERVERS_PATIENCE = 30.0


async def connect(address: str, port: int, source: str, timeout: float) -> socket.socket:
    """A connected TCP socket that closes with a reset: thousands of probes must not leave TIME_WAIT sockets behind."""
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        if sock.family == socket.AF_INET6:
            # An ICMPv6 error that arrives while connect() still holds the socket is kept back until the SYN is sent
            # again, a second later; with this option it counts at once.
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        if source:
            sock.bind((source, 0))
        await within(timeout, asyncio.get_running_loop().sock_connect(sock, (address, port)))
    except BaseException:
        sock.close()
        raise
    return sock


async def probe_tcp(address: str, port: int, source: str, timeout: float) -> bytes:
    """One connection -> everything that the server says until it closes."""
    loop = asyncio.get_running_loop()
    with await connect(address, port, source, timeout) as sock:
        data = b""
        while True:
            part = await within(SERVERS_PATIENCE, loop.sock_recv(sock, 2048))
            if not part:
                return data
            data += part


async def probe_udp(address: str, port: int, source: str, timeout: float) -> bytes:
    """One datagram from a new port -> the answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        sock.connect((address, port))
        # A rule that drops or rejects a packet of this very host makes send fail; only a reject is followed by an ICMP
        # error on the socket, so it is left to the receive below to tell them apart.
        with contextlib.suppress(PermissionError):
            sock.send(b"?")
        return await within(timeout, loop.sock_recv(sock, 2048))


PROBES = {"TCP": probe_tcp, "UDP": probe_udp, "SCTP": sctp.probe}
# How many times longer a try waits that decides whether a single silence meant anything.
PATIENCE = 5
# So many tries for each backend expected miss one by chance once in a hundred million probes, or less.
TRIES_EACH = 24
# More flows at a time keep a slow machine so busy, the servers of this process among it, that answers come too late.
AT_ONCE = asyncio.Semaphore(32)
# What an errno says about the fate of the packet.
REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOPROTOOPT}


async def one(proto: str, address: str, port: int, source: str, timeout: float) -> str:
    """One new flow -> `NAME:PORT|PEER`, `reject`, `drop`, `closed` (accepted, no answer) or `error ERRNO`."""
    try:
        async with AT_ONCE:
            data = await PROBES[proto](address, port, source, timeout)
        if not data:
            return "closed"
        name, served, peer = data.decode().split()
        return f"{name}:{served}|{peer}"
    except TimeoutError:
        return "drop"
    except OSError as error:
        return "reject" if error.errno in REFUSED else f"error {errno.errorcode.get(error.errno or 0, error.errno)}"
    except ValueError:
        return "error GARBLED"


async def probe(spec: dict[str, Any]) -> dict[str, dict[str, int]]:
    """All tries of one probe -> {source address or "": {outcome: times}}.

    `until`, if given, lists the backends expected: the tries go on past `count`, to at most TRIES_EACH for each of
    them, until each was seen, since a random choice may miss one. A run of rejects or time-outs stops early. "drop"
    among them: a time-out is one of what may be chosen.
    """
    sources = spec.get("sources") or [""]
    return dict(zip(sources, await asyncio.gather(*(tries_from(spec, source) for source in sources)), strict=True))


async def tries_from(spec: dict[str, Any], source: str) -> dict[str, int]:
    """The tries from one source address -> {outcome: times}."""
    count, until, timeout = spec["count"], set(spec.get("until") or ()), spec.get("timeout", 0.6)
    flow = spec["proto"], spec["address"], spec["port"], source
    outcomes: dict[str, int] = {}
    seen: set[str] = set()
    tries = 0
    while tries < count or (until - seen and tries < TRIES_EACH * len(until)):
        if tries >= count:
            # Two clients that take turns at a round robin would each meet the same backend again and again.
            await asyncio.sleep(random.uniform(0, 0.05))
        got = await one(*flow, timeout)
        tries += 1
        if got == "drop" and (until or seen - {"drop"}):
            # On a busy machine a single time-out, where there are or should be answers, proves nothing: ask patiently.
            got = await one(*flow, PATIENCE * timeout)
        outcomes[got] = outcomes.get(got, 0) + 1
        seen.add(got.split("|")[0])
        too_many = (2 if seen == {"drop"} else 3) * (4 if "drop" in until else 1)
        if outcomes.get("drop", 0) >= too_many or (tries >= 4 and seen == {"reject"}):
            break
    if outcomes.get("drop") == 1 and len(outcomes) > 1 and "drop" not in until:
        # The same, where the time-out came first.
        del outcomes["drop"]
        got = await one(*flow, PATIENCE * timeout)
        outcomes[got] = outcomes.get(got, 0) + 1
    return outcomes


def http_get(url: str, timeout: float) -> tuple[int, str]:
    """Status and body of a plain HTTP GET; status 0 means no answer.

    :param timeout: seconds for the connection; who accepts it has SERVERS_PATIENCE.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or http.client.HTTP_PORT, timeout=timeout)
    try:
        connection.connect()
        connection.sock.settimeout(SERVERS_PATIENCE)
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


class Connections:
    """Long connections to a `stream` port, by a number that `open` gives out."""

    def __init__(self) -> None:
        self.open_ones: dict[int, socket.socket] = {}

    async def open(self, msg: dict[str, Any]) -> int:
        """Connects; -1 if that fails."""
        try:
            sock = await connect(msg["address"], msg["port"], msg.get("source", ""), msg.get("timeout", 2.0))
        except OSError:
            return -1
        self.open_ones[sock.fileno()] = sock
        return sock.fileno()

    async def say(self, msg: dict[str, Any]) -> str:
        """Sends a line and returns the one that comes back; "" if the connection is broken."""
        loop, sock = asyncio.get_running_loop(), self.open_ones[msg["connection"]]
        try:
            await loop.sock_sendall(sock, msg["line"].encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = await within(msg.get("timeout", 60.0), loop.sock_recv(sock, 2048))
                if not part:
                    return ""
                data += part
            return data.decode().strip()
        except OSError:
            return ""

    def hang_up(self, msg: dict[str, Any]) -> str:
        """Ends a connection."""
        self.open_ones.pop(msg["connection"]).close()
        return "closed"


async def command(msg: dict[str, Any], server: Server, connections: Connections) -> Any:
    """One command -> its answer."""
    op = msg["op"]
    if op == "probe":
        return await asyncio.gather(*(probe(spec) for spec in msg["probes"]))
    if op == "http":
        return await asyncio.to_thread(http_get, msg["url"], msg.get("timeout", 1.0))
    if op == "open":
        return await connections.open(msg)
    if op == "say":
        return await connections.say(msg)
    if op == "hang_up":
        return connections.hang_up(msg)
    if op == "serve":
        return await server.open_plain(msg["port"])
    if op == "quit_serving":
        return await server.close_plain(msg["port"])
    if op == "stay":
        server.stays = True
    return "ready"


async def main() -> None:
    """Serves, and obeys until stdin ends; goes on serving then, if it was told to stay."""
    name, ports = sys.argv[1], json.loads(sys.argv[2])
    server, connections = Server(name), Connections()
    await server.start(ports)
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb"))
    while line := await reader.readline():
        reply = json.dumps(await command(json.loads(line), server, connections)) + "\n"
        sys.stdout.write(reply)
        sys.stdout.flush()
    if server.stays:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A steady load on Services while something happens to the rules: new TCP and UDP flows, TCP connections that stay.

Started by test_services_load.py as `ip netns exec NAMESPACE python3 traffic.py PAUSE SPEC`. PAUSE is how many seconds
are between two flows to one address. SPEC is JSON, lists of [address, port] for `tcp`, `udp` (each datagram from a new
port) and `streams` (a connection that says a line again and again, to a server that repeats it). It goes on until stdin
ends and then prints, for each kind: `tries`, `who` answered how often, and `failed`, a list of sentences, and `again`,
how many datagrams were sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from patience import within

# A lost packet is sent again after 1 and 3 s, by TCP itself and here as clients of UDP do; a flow that fails even so
# was led nowhere. A datagram is lost where a busy endpoint that is gone answers after its flow was forgotten.
PATIENCE = 6.0
AGAIN = (1.0, 2.0)
PAUSE = float(sys.argv[1])
LINGER_RESET = struct.pack("ii", 1, 0)


class Tally:
    """What came of the flows of one kind."""

    def __init__(self) -> None:
        self.tries = self.again = 0
        self.who: Counter[str] = Counter()
        self.failed: list[str] = []

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return {"tries": self.tries, "who": self.who, "failed": self.failed, "again": self.again}


def family_of(address: str) -> socket.AddressFamily:
    """By the look of it."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def tcp(address: str, port: int, _tally: Tally) -> str:
    """One connection -> who spoke, as NAME:PORT."""
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        await loop.sock_connect(sock, (address, port))
        data = b""
        while part := await loop.sock_recv(sock, 2048):
            data += part
    return speaker(data)


async def udp(address: str, port: int, tally: Tally) -> str:
    """One datagram, sent again if nobody answers -> who answered."""
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((address, port))
        for pause in AGAIN:
            sock.send(b"?")
            with contextlib.suppress(TimeoutError):
                return speaker(await within(pause, loop.sock_recv(sock, 2048)))
            tally.again += 1
        sock.send(b"?")
        return speaker(await loop.sock_recv(sock, 2048))


def speaker(data: bytes) -> str:
    """NAME:PORT of an answer of worker.py."""
    name, port, _peer = data.decode().split()
    return f"{name}:{port}"


async def again_and_again(flow: Any, address: str, port: int, tally: Tally, done: asyncio.Event) -> None:
    """New flows, one after the other."""
    while not done.is_set():
        tally.tries += 1
        try:
            tally.who[await within(PATIENCE, flow(address, port, tally))] += 1
        except (OSError, ValueError) as error:
            tally.failed.append(f"try {tally.tries} to {address} port {port}: {error!r}")
        await asyncio.sleep(PAUSE)


async def stream(address: str, port: int, tally: Tally, done: asyncio.Event, opened: asyncio.Barrier) -> None:
    """One connection that must outlive everything."""
    try:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
        finally:
            await opened.wait()
        name, number = "", 0
        while not done.is_set():
            number += 1
            tally.tries += 1
            writer.write(b"%d\n" % number)
            line = await asyncio.wait_for(reader.readline(), 3 * PATIENCE)
            said = line.decode().split()
            if len(said) != 2 or said[1] != str(number) or (name and said[0] != name):
                raise ValueError(f"line {number} came back as {line!r}")
            name = said[0]
            await asyncio.sleep(10 * PAUSE)
        tally.who[name] += 1
        writer.close()
    except (OSError, ValueError) as error:
        tally.failed.append(f"a stream to {address} port {port}: {error!r}")


async def main() -> None:
    """Everything at once, until stdin ends; says when all streams are open."""
    spec = json.loads(sys.argv[2])
    tallies = {kind: Tally() for kind in spec}
    done = asyncio.Event()
    opened = asyncio.Barrier(1 + len(spec.get("streams", [])))
    tasks = []
    for kind, targets in spec.items():
        for address, port in targets:
            if kind == "streams":
                tasks.append(stream(address, port, tallies[kind], done, opened))
            else:
                flow = {"tcp": tcp, "udp": udp}[kind]
                tasks.append(again_and_again(flow, address, port, tallies[kind], done))
    asyncio.get_running_loop().add_reader(0, lambda: os.read(0, 1) or done.set())
    everything = asyncio.gather(*tasks)
    await opened.wait()
    print("open", flush=True)
    await everything
    print(json.dumps({kind: tally.report() for kind, tally in tallies.items()}))


if __name__ == "__main__":
    asyncio.run(main())

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Opens TCP connections in one namespace and says how long they took.

Started by bed.py as `python3 prober.py`. Commands come in as one JSON object a line on stdin, answers go out the same
way on stdout: `latency` (rounds over some addresses), `answers` and `silent` (wait until an address does or does not).
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from typing import Any

# Closing with a reset leaves no TIME_WAIT behind.
LINGER_RESET = struct.pack("ii", 1, 0)
PAUSE = 0.02
TIMEOUT = 2.0


def connect(address: str, port: int, timeout: float) -> float | None:
    """-> seconds from the first packet to an open connection, None without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        sock.settimeout(timeout)
        began = time.perf_counter()
        try:
            sock.connect((address, port))
        except OSError:
            return None
        return time.perf_counter() - began


def latency(addresses: list[str], port: int, count: int) -> list[list[float]]:
    """The seconds of ``count`` connections to each address, taken in turns so that noise hits all alike."""
    found: list[list[float]] = [[] for _address in addresses]
    for number in range(count):
        # After a pause the first connection is slow, whatever its address.
        time.sleep(0.001)
        connect(addresses[0], port, TIMEOUT)
        for step in range(len(addresses)):
            index = (number + step) % len(addresses)
            seconds = connect(addresses[index], port, TIMEOUT)
            if seconds is not None:
                found[index].append(seconds)
    return found


def until(address: str, port: int, seconds: float, answers: bool) -> bool:
    """Waits until an address answers, or until it does not any more; False after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (connect(address, port, 0.5) is not None) == answers:
            return True
        time.sleep(PAUSE)
    return False


def obey(message: dict[str, Any]) -> Any:
    """One command -> its answer."""
    if message["op"] == "latency":
        return latency(message["addresses"], message["port"], message["count"])
    return until(message["address"], message["port"], message["seconds"], message["op"] == "answers")


def main() -> None:
    """Obeys until stdin ends."""
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of nginx's stream module that the userspace mode writes: a head, and the blocks of each proxy.

Every value in it was rebuilt from a parsed one: addresses, numbers, and names of Services, which hold nothing that
nginx would take for more than a comment.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .passes import Program
from .table import Target

PROXY = "proxy/"
RESERVED = "reserved/"
HEAD = "nginx/head"
LIVE = "nginx/live"

_MARKER = "# proxy "
_END = "}\n"
_PORT = re.compile(r"^    listen \S*:(\d+)", re.MULTILINE)
# What nginx says of a line, and of a port that it does not get.
_AT_LINE = re.compile(r" in \S+\.conf:(\d+)")
_AT_PORT = re.compile(r"bind\(\) to \S+:(\d+) failed")
# Listening sockets take a slot each in every worker; in steps, so that the head seldom changes.
_STEP = 512
# A TCP connection lives until one of its ends closes it, or nothing was said for as long as connection tracking waits.
_TCP_IDLE = "1d"


class ProxyOptions(NamedTuple):
    """``connect_timeout`` in milliseconds; ``udp_timeout`` and ``drain`` in seconds; ``connections``: how many a worker
    relays at most; ``ports``: the first and the last port of proxies; ``accept_without_endpoints``: accept and close
    instead of refusing."""

    connect_timeout: int = 250
    udp_timeout: int = 10
    drain: int = 3600
    connections: int = 8192
    workers: int = 1
    ports: tuple[int, int] = (12000, 29999)
    accept_without_endpoints: bool = False


class Build(NamedTuple):
    """What the node's nginx needs and knows. ``module``: the file of the stream module, "" if it is built in."""

    module: str = ""
    half_close: bool = True
    user: str = "nobody"


def proxy(key: str, family: int, protocol: str, port: int, target: Target, sticky: bool, options: ProxyOptions) -> str:
    """The blocks of one proxy."""
    listen = f"{'[::]' if family == 6 else '0.0.0.0'}:{port}"
    listen += " ipv6only=on" if family == 6 else ""
    udp = protocol == "UDP"
    if udp:
        # A datagram of a known client must reach the worker that knows it.
        listen += " udp reuseport" if options.workers > 1 else " udp"
    else:
        listen += " backlog=4096 so_keepalive=on"
    lines = [f"{_MARKER}{key}"]
    if not target.backends:
        return "\n".join([*lines, "server {", f"    listen {listen};", '    return "";', "}", ""])
    lines.append(f"upstream p{port} {{")
    if sticky:
        lines.append("    hash $remote_addr consistent;")
    lines += [
        f"    server {f'[{b.address}]' if family == 6 else b.address}:{b.port} max_fails=1 fail_timeout=1s;"
        for b in target.backends
    ]
    lines += ["}", "server {", f"    listen {listen};", f"    proxy_pass p{port};"]
    if udp:
        lines += [f"    proxy_timeout {options.udp_timeout}s;", "    proxy_buffer_size 64k;"]
    return "\n".join([*lines, "}", ""])


def limits(count: int, options: ProxyOptions) -> tuple[int, int]:
    """-> (connections a worker, open files a process) for so many proxies."""
    listening = (count // _STEP + 1) * _STEP
    slots = listening + 2 * options.connections + 64
    return slots, slots + listening * options.workers + 128


def head(count: int, options: ProxyOptions, build: Build, log: str) -> str:
    """What stands before the proxies."""
    slots, files = limits(count, options)
    lines = [f"load_module {build.module};"] if build.module else []
    lines += [
        f"user {build.user};",
        f"worker_processes {options.workers};",
        f"worker_rlimit_nofile {files};",
        f"worker_shutdown_timeout {options.drain}s;",
        f"error_log {log} crit;",
        "events {",
        f"    worker_connections {slots};",
        "}",
        "stream {",
        "access_log off;",
        f"proxy_connect_timeout {options.connect_timeout}ms;",
        f"proxy_timeout {_TCP_IDLE};",
        "proxy_next_upstream on;",
        "proxy_socket_keepalive on;",
    ]
    lines += ["proxy_half_close on;"] if build.half_close else []
    return "\n".join([*lines, ""])


def configuration(program: Mapping[str, str]) -> str:
    """The file, "" if there is no proxy."""
    keys = sorted(name for name in program if name.startswith(PROXY))
    return program[HEAD] + "".join(program[key] for key in keys) + _END if keys else ""


def parse(configuration_text: str) -> Program:
    """The containers of a file."""
    if not configuration_text:
        return {}
    body = configuration_text[: -len(_END)] if configuration_text.endswith(_END) else configuration_text
    first, *blocks = body.split(_MARKER)
    found: Program = {HEAD: first}
    for block in blocks:
        found[PROXY + block.partition("\n")[0]] = _MARKER + block
    return found


def ports(configuration_text: str) -> dict[str, int]:
    """The port of every proxy of a file, by the key of its backend set."""
    blocks = {name: block for name, block in parse(configuration_text).items() if name.startswith(PROXY)}
    return {name[len(PROXY) :]: port_of(block) for name, block in blocks.items()}


def port_of(block: str) -> int:
    """The port that a proxy's blocks listen on, 0 if they say none."""
    match = _PORT.search(block)
    return int(match.group(1)) if match else 0


def blamed(configuration_text: str, message: str) -> str:
    """The blocks of the proxy that nginx complains of, by the line or by the port; "" if it names none."""
    blocks = [block for name, block in parse(configuration_text).items() if name.startswith(PROXY)]
    line, port = _AT_LINE.search(message), _AT_PORT.search(message)
    if line:
        above = "".join(configuration_text.splitlines(keepends=True)[: int(line.group(1))])
        started = above.rpartition(_MARKER)
        key = started[2].partition("\n")[0] if started[1] else ""
        return next((block for block in blocks if block.startswith(f"{_MARKER}{key}\n")), "") if key else ""
    return next((block for block in blocks if port and port_of(block) == int(port.group(1))), "")


def backends_of(block: str) -> list[tuple[str, int]]:
    """The endpoints of a proxy's blocks."""
    found = re.findall(r"^    server \[?([0-9a-f.:]+?)\]?:(\d+) max_fails", block, re.MULTILINE)
    return [(address, int(port)) for address, port in found]

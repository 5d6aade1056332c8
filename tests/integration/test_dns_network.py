# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a node's CoreDNS: on a dummy device where the kernel has them, as User Mode Linux does (see
test_in_uml.py), else on the loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.in_namespace import namespace, run, sh

__all__ = ["namespace"]

FOUR, SIX = "169.254.20.10", "fd00:10:96::a"
COUNTER = f"""\
table inet counted {{
    chain c {{
        type filter hook output priority 0;
        ip daddr {FOUR} udp dport 53 ct state untracked counter
        ip daddr 127.0.0.1 udp dport 53 ct state new counter
    }}
}}
"""
# Stands for nft, and keeps one table.
NO_RULES = """#!/bin/sh
case "$*" in
"list table "*) cat /run/held 2>/dev/null ;;
"delete table "*) rm /run/held ;;
*) cat >/run/held ;;
esac
"""
Program = Callable[..., list[str]]


@pytest.fixture
def device() -> str:
    """Where the addresses belong on this kernel."""
    if run(["ip", "link", "add", "tried", "type", "dummy"])[0] != 0:
        return "lo"
    sh("ip link del tried")
    return "servicenet0"


@pytest.fixture
def program(checkout: Path, tmp_path: Path) -> Program:
    """Runs dns_network.py with a /run of its own -> what it says that it did."""
    (tmp_path / "run").mkdir()
    path = checkout / "roles/cluster_dns/files/dns_network.py"

    def call(deed: str, addresses: tuple[str, ...] = (FOUR, SIX)) -> list[str]:
        settings = json.dumps({"device": "servicenet0", "addresses": addresses, "port": 53})
        enter = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /run && exec "$@"', str(tmp_path / "run")]
        argv = [*enter, sys.executable, str(path), deed, "/proc/self/fd/0"]
        done = subprocess.run(argv, input=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return call


def held(device: str) -> set[str]:
    """The addresses on a device, but for those that the kernel gives it."""
    links = json.loads(run(["ip", "-json", "address", "show", "dev", device])[1] or "[]")
    found = {entry["local"] for link in links for entry in link["addr_info"] if entry["scope"] == "global"}
    return found - {"127.0.0.1", "::1"}


def seen() -> list[int]:
    """How many packets each rule of COUNTER has seen."""
    listed = json.loads(sh("nft --json list table inet counted"))["nftables"]
    return [
        part["counter"]["packets"]
        for one in listed
        if "rule" in one
        for part in one["rule"]["expr"]
        if "counter" in part
    ]


def test_addresses_come_and_go(device: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any rules: User Mode Linux has no tables of the family inet."""
    nft = tmp_path / "run" / "nft"
    nft.write_text(NO_RULES)
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", "/run", prepend=os.pathsep)  # where the program sees it
    made = ["add servicenet0"] if device == "servicenet0" else []
    rules = "the table inet servicenet_dns"
    assert program("check")
    assert held(device) == set()
    assert program("up") == [*made, f"add {FOUR} to {device}", f"add {SIX} to {device}", f"load {rules}"]
    assert held(device) == {FOUR, SIX}
    assert program("up") == program("check") == []
    assert "local" in sh(f"ip route get {FOUR}")

    # What is no longer wanted goes, what somebody else has put there stays.
    assert program("up", (FOUR,)) == [f"remove {SIX} from {device}", f"load {rules}"]
    assert held(device) == {FOUR}
    sh(f"ip address add 198.18.7.7/32 dev {device}")
    assert program("down", (FOUR,)) == [f"remove {FOUR} from {device}", f"remove {rules}"]
    assert held(device) == {"198.18.7.7"}
    sh(f"ip address del 198.18.7.7/32 dev {device}")
    assert program("down", (FOUR,)) == (["remove servicenet0"] if device == "servicenet0" else [])
    assert run(["ip", "link", "show", "servicenet0"])[0] != 0
    assert program("down", (FOUR,)) == []


def test_the_kernel_keeps_no_record_of_queries(program: Program) -> None:
    program("up", (FOUR,))
    sh("nft -f -", COUNTER)
    for address in (FOUR, "127.0.0.1"):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            server.bind((address, 53))
            server.settimeout(10)
            client.settimeout(10)
            client.sendto(b"?", (address, 53))
            server.sendto(b"!", server.recvfrom(10)[1])
            assert client.recv(10) == b"!"
    assert seen() == [1, 1]
    program("down", (FOUR,))
    assert "servicenet_dns" not in sh("nft list tables")

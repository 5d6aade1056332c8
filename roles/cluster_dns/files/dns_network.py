# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses for the node's CoreDNS, and rules that keep its packets out of connection tracking.

dns_network.py up FILE      sets up what is missing
dns_network.py check FILE   says what `up` would do
dns_network.py down FILE    takes everything away

FILE is JSON: {"device": "servicenet0", "addresses": ["169.254.20.10"], "port": 53}. Each deed is one line of output;
nothing to do is no output. This is a program of its own, so that the addresses are there at boot before anything else
runs, and a crash of CoreDNS moves none.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

LOOPBACK = "lo"
TABLE = "servicenet_dns"
LOADED = "/run/servicenet/dns_network.loaded"
SETS = """\
    set addresses4 {{ type ipv4_addr; {four} }}
    set addresses6 {{ type ipv6_addr; {six} }}
"""
# What is not tracked is not translated either, so a packet to the DNS Service's address stays on the node.
CHAINS = """\
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        ip daddr @addresses4 meta l4proto {{ tcp, udp }} th dport {port} notrack
        ip6 daddr @addresses6 meta l4proto {{ tcp, udp }} th dport {port} notrack
    }}
    chain output {{
        type filter hook output priority raw; policy accept;
        ip daddr @addresses4 meta l4proto {{ tcp, udp }} th dport {port} notrack
        ip6 daddr @addresses6 meta l4proto {{ tcp, udp }} th dport {port} notrack
        ip saddr @addresses4 meta l4proto {{ tcp, udp }} th sport {port} notrack
        ip6 saddr @addresses6 meta l4proto {{ tcp, udp }} th sport {port} notrack
    }}
"""


class Failed(Exception):
    """A tool failed; the message says which and why."""


class Node:
    """What is to be done on this node. With ``dry`` nothing is done, only said."""

    def __init__(self, settings: dict, dry: bool) -> None:
        self.device = settings["device"]
        self.addresses = list(settings["addresses"])
        self.port = int(settings["port"])
        self.dry = dry

    def up(self) -> None:
        """Sets up what is missing."""
        device = self._device()
        held = self._held(device)
        for address in self.addresses:
            if address not in held:
                self._do(
                    f"add {address} to {device}", ["ip", "address", "add", *self._as_argument(address), "dev", device]
                )
        for address in self._left_behind(held):
            self._do(
                f"remove {address} from {device}",
                ["ip", "address", "del", *self._as_argument(address)[:1], "dev", device],
            )
        self._load(device)

    def down(self) -> None:
        """Takes everything away; the device goes if nobody else has addresses on it."""
        for device in (self.device, LOOPBACK):
            for address in self._held(device) & {*self.addresses, *self._recorded().get("addresses", [])}:
                self._do(
                    f"remove {address} from {device}",
                    ["ip", "address", "del", *self._as_argument(address)[:1], "dev", device],
                )
        if self._exists(self.device) and not self._held(self.device):
            self._do(f"remove {self.device}", ["ip", "link", "del", self.device])
        if run(["nft", "list", "table", "inet", TABLE], check=False)[0] == 0:
            self._do(f"remove the table inet {TABLE}", ["nft", "delete", "table", "inet", TABLE])
        if os.path.exists(LOADED) and not self.dry:
            os.unlink(LOADED)

    # ---------------------------------------------------------------------------------------------------- addresses

    def _device(self) -> str:
        """The device for the addresses; the loopback where the kernel has no dummy devices."""
        if not self._exists(self.device):
            if self.dry:
                return LOOPBACK if self._held(LOOPBACK) & set(self.addresses) else self.device
            if run(["ip", "link", "add", self.device, "type", "dummy"], check=False)[0] != 0:
                return LOOPBACK
            say(f"add {self.device}")
        if not self.dry:
            run(["ip", "link", "set", self.device, "up"])
        return self.device

    @staticmethod
    def _exists(device: str) -> bool:
        return os.path.exists(f"/sys/class/net/{device}") or run(["ip", "link", "show", device], check=False)[0] == 0

    def _held(self, device: str) -> set:
        """The addresses on a device, without those that the kernel gives it."""
        code, text = run(["ip", "-json", "address", "show", "dev", device], check=False)
        if code != 0:
            return set()
        return {
            entry["local"]
            for link in json.loads(text or "[]")
            for entry in link.get("addr_info", [])
            if "local" in entry and not entry["local"].startswith("fe80:")
        } - {"127.0.0.1", "::1"}

    def _left_behind(self, held: set) -> set:
        """Addresses that an earlier run of ours set up and that are no longer wanted."""
        return (held & set(self._recorded().get("addresses", []))) - set(self.addresses)

    @staticmethod
    def _as_argument(address: str) -> list:
        return [f"{address}/128", "nodad"] if ":" in address else [f"{address}/32"]

    # -------------------------------------------------------------------------------------------------------- rules

    def _load(self, device: str) -> None:
        text = self._table()
        listing = run(["nft", "list", "table", "inet", TABLE], check=False)[1]
        record = {"addresses": self.addresses, "device": device, "rules": digest(text)}
        if {**record, "listing": digest(listing)} == self._recorded():
            return
        replace = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
        self._do(f"load the table inet {TABLE}", ["nft", "-f", "-"], replace + text)
        if not self.dry:
            listing = run(["nft", "list", "table", "inet", TABLE])[1]
            os.makedirs(os.path.dirname(LOADED), exist_ok=True)
            with open(f"{LOADED}.new", "w", encoding="utf-8") as stream:
                json.dump({**record, "listing": digest(listing)}, stream)
            os.replace(f"{LOADED}.new", LOADED)

    def _table(self) -> str:
        elements = [
            f"elements = {{ {', '.join(chosen)} }}" if chosen else ""
            for chosen in ([a for a in self.addresses if ":" not in a], [a for a in self.addresses if ":" in a])
        ]
        return (
            f"table inet {TABLE} {{\n"
            + SETS.format(four=elements[0], six=elements[1])
            + CHAINS.format(port=self.port)
            + "}\n"
        )

    @staticmethod
    def _recorded() -> dict:
        try:
            with open(LOADED, encoding="utf-8") as stream:
                value = json.load(stream)
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _do(self, what: str, command: list, text: str = "") -> None:
        if not self.dry:
            run(command, text)
        say(what)


def say(what: str) -> None:
    """One line of output."""
    sys.stdout.write(f"{what}\n")


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def run(command: list, text: str = "", check: bool = True) -> tuple:
    """-> (exit status, output)"""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        if check:
            raise Failed(f"{command[0]} is not installed on this node.") from None
        return 127, ""
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.returncode, done.stdout


def main() -> None:
    """The command line."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("up", "check", "down"):
        sys.exit(__doc__)
    try:
        with open(sys.argv[2], encoding="utf-8") as stream:
            node = Node(json.load(stream), sys.argv[1] == "check")
        if sys.argv[1] == "down":
            node.down()
        else:
            node.up()
    except (Failed, OSError, ValueError, KeyError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

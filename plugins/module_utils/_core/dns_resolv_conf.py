# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The texts that tell a node's resolver whom to ask.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable

NOTE = (
    "# Written by kubenode.servicenet. The role cluster_dns puts the former content back (cluster_dns_state: absent).\n"
)
# glibc looks at no more.
MAX_SERVERS = 3


def nameservers(text: str) -> list[str]:
    """The addresses in a resolv.conf, in their order."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append(words[1])
    return found


def managed(original: str, servers: Iterable[str]) -> str:
    """A resolv.conf that asks our servers alone, and keeps what else the original says (search, options, comments).

    No other server stays beside ours: some resolvers ask all of them at once and believe the first that denies a name.
    """
    others = [line for line in original.splitlines() if line.split()[:1] != ["nameserver"]]
    own = [f"nameserver {server}" for server in list(servers)[:MAX_SERVERS]]
    return NOTE + "\n".join([*own, *others]) + "\n"


def resolved(servers: Iterable[str], zones: Iterable[str]) -> str:
    """A drop-in for systemd-resolved: our servers, for our zones. A ``~`` routes names and adds no search domain."""
    routes = " ".join(f"~{zone.rstrip('.')}" for zone in zones)
    return f"{NOTE}[Resolve]\nDNS={' '.join(servers)}\nDomains={routes}\n"


def link_commands(device: str, servers: Iterable[str], zones: Iterable[str]) -> list[list[str]]:
    """What tells systemd-resolved that our servers are behind a device, for our zones alone."""
    routes = [f"~{zone.rstrip('.')}" for zone in zones]
    return [
        ["resolvectl", "dns", device, *servers],
        ["resolvectl", "domain", device, *routes],
        ["resolvectl", "default-route", device, "false"],
    ]


def link_unit(commands: Iterable[list[str]]) -> str:
    """A drop-in for the unit that sets the device up, so that the same is told after a boot."""
    lines = "".join(f"ExecStartPost=-{' '.join(command)}\n" for command in commands)
    return f"{NOTE}[Unit]\nAfter=systemd-resolved.service\n\n[Service]\n{lines}"


def network_manager(servers: Iterable[str]) -> str:
    """A drop-in for NetworkManager, which then writes our servers into resolv.conf itself."""
    return f"{NOTE}[global-dns]\n\n[global-dns-domain-*]\nservers={','.join(servers)}\n"

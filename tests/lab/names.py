# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names in the lab: Pods get the resolver file that a kubelet would write, programs in them ask by it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lab.claim import BASE, docker_command
from lab.cluster import RESOLVER, Lab

DOMAIN = "cluster.local"


def give_pods_a_resolver(lab: Lab, address: str, namespace: str) -> None:
    """From now on what `enter_place` starts in a Pod asks this address, with the search path of this namespace."""
    search = f"{namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}"
    lab.set_resolver_of_pods(f"nameserver {address}\nsearch {search}\noptions ndots:5\n")


def enter_place(prefix: str, place: str) -> list[str]:
    """The beginning of a command line that runs in a Pod or at the client of a lab."""
    docker = docker_command(prefix)
    if docker:
        return [*docker, "exec", "--interactive", f"{prefix}-{place}"]
    command = ["ip", "netns", "exec", f"{prefix}-{place}"]
    resolver = BASE / prefix / RESOLVER
    if place == "client" or not resolver.exists():
        return command
    # `ip netns exec` has made a mount namespace of its own: the machine's file stays what it is.
    return [*command, "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolver)]


def run_at(lab: Lab, place: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs a program at a place of the lab, with the resolver of that place."""
    if place in lab.nodes:
        return lab.node(place).run(command, check=False)
    argv = [*enter_place(lab.prefix, place), *command]
    return subprocess.run(argv, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def curl(lab: Lab, place: str, url: str) -> tuple[bool, str]:
    """One GET with a name looked up for it: whether it was answered, and the body or what curl complained of."""
    done = run_at(lab, place, ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", url])
    return done.returncode == 0, done.stdout if done.returncode == 0 else done.stderr.strip()


def dig(lab: Lab, place: str, name: str, kind: str) -> list[str]:
    """The records of an answer, sorted; empty if there is none. `name` may be an IP address if `kind` is PTR."""
    question = ["-x", name] if kind == "PTR" else [name, kind]
    done = run_at(lab, place, ["dig", "+short", "+time=20", "+tries=2", *question])
    return sorted(done.stdout.splitlines()) if done.returncode == 0 else []

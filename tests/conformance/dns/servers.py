# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DNS servers on loopback: CoreDNS from a Corefile, BIND from zone files."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lab.claim import Claim, LabError
from lab.control_plane import free_port, peer
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, dns_zonefile
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns import Zones
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NoAnswer
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.dns_client import ask
from conformance.dns.queries import DOMAIN, Query

LOOPBACK = "127.0.0.1"
# The root zone of the world outside of the cluster.
OUTSIDE = """\
. 3600 IN SOA ns.outside.example. root.outside.example. 1 7200 1800 86400 60
. 3600 IN NS ns.outside.example.
ns.outside.example. 60 IN A 198.18.0.53
www.outside.example. 60 IN A 198.18.0.80
www.outside.example. 60 IN A 198.18.0.81
www.outside.example. 60 IN AAAA fd00:198::80
"""


class Answer(NamedTuple):
    """What an answer says: rcode, and its records in lower case and any order (owner, type, data, TTL)."""

    rcode: str
    records: tuple[tuple[str, str, str, int], ...]

    def __str__(self) -> str:
        return " | ".join([self.rcode, *(" ".join(map(str, record)) for record in self.records)])


class Servers(Claim):
    """Any number of DNS servers, each on a port of its own."""

    def build(self) -> None:
        """Nothing stands before it is asked for."""
        self.pids: dict[str, int] = {}

    def coredns(self, name: str, text: str, port: int, ready: Query) -> int:
        """Starts CoreDNS with the Corefile `text` and waits until `ready` is answered with a record."""
        path = self.directory / f"{name}.corefile"
        path.write_text(text)
        process = self.spawn(name, peer("COREDNS", "coredns"), "-conf", path)
        self.pids[name] = process.pid
        self._wait(name, process, port, ready)
        return port

    def outside(self) -> int:
        """A server for the names outside of the cluster."""
        zone, port = self.directory / "outside.zone", free_port()
        zone.write_text(OUTSIDE)
        text = f".:{port} {{\n    bind {LOOPBACK}\n    file {zone} .\n}}\n"
        return self.coredns("outside", text, port, Query("www.outside.example.", "A"))

    def zone_files(self, made: Zones, serial: int = 1) -> tuple[corefile.ZoneSource, ...]:
        """Writes the zones as they stand on a node."""
        sources = []
        for zone in made.zones:
            path = self.directory / "zones" / zone.origin.rstrip(".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(dns_zonefile.render(zone, serial))
            sources.append(corefile.ZoneSource(zone.origin, str(path)))
        return tuple(sources)

    def bind(self, sources: tuple[corefile.ZoneSource, ...], ready: Query, forward_to: int) -> int:
        """Starts BIND with the same zone files."""
        program = shutil.which("named")
        if program is None:
            raise LabError("There is no BIND on this machine; install the package bind9.")
        port, work = free_port(), self.directory / "bind"
        work.mkdir()
        lines = [
            f'options {{ directory "{work}"; pid-file none; allow-query {{ any; }};',
            f"  listen-on port {port} {{ {LOOPBACK}; }}; listen-on-v6 {{ none; }};",
            "  max-records-per-type 0; max-cache-size 16m; dnssec-validation no; empty-zones-enable no;",
            f"  recursion yes; forward only; forwarders {{ {LOOPBACK} port {forward_to}; }}; }};",
            "controls { };",
        ]
        lines += [f'zone "{s.origin}" {{ type primary; file "{s.path}"; }};' for s in sources]
        (work / "named.conf").write_text("\n".join(lines) + "\n")
        process = self.spawn("named", program, "-g", "-c", work / "named.conf")
        self._wait("named", process, port, ready)
        return port

    def _wait(self, name: str, process: subprocess.Popen[bytes], port: int, ready: Query) -> None:
        def answers() -> bool:
            with contextlib.suppress(NoAnswer):
                return bool(ask(LOOPBACK, port, *ready, timeout=0.5).answer)
            return False

        wait_until(lambda: answers() or process.poll() is not None, f"{name} to answer {ready}")
        if process.poll() is not None:
            raise LabError(f"{name} ended: {(self.directory / f'{name}.log').read_text()[-1000:]}")


def ask_all(port: int, queries: list[Query]) -> dict[Query, Answer]:
    """The answers to all queries. The serial of a zone is the server's own matter and left out."""

    def one(query: Query) -> Answer:
        message = ask(LOOPBACK, port, query.name, query.kind, timeout=60)
        records = []
        for record in message.answer:
            data = record.data.lower()
            if record.type == "SOA":
                parts = data.split()
                data = " ".join([*parts[:2], "SERIAL", *parts[3:]])
            records.append((record.owner.lower(), record.type, data, record.ttl))
        return Answer(message.rcode, tuple(sorted(records)))

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(queries, pool.map(one, queries), strict=True))


def corefile_for(mode: str, port: int, upstream: int, **options: object) -> str:
    """The Corefile that the collection writes, for a server on loopback without a cache."""
    made = corefile.CorefileOptions(
        mode=mode,
        domain=DOMAIN,
        listen_addresses=(LOOPBACK,),
        port=port,
        zones=(),
        upstreams=(f"{LOOPBACK}:{upstream}",),
        cache_seconds=0,
        health_port=0,
        ready_port=0,
        metrics_port=0,
    )
    return corefile.render(corefile.build(made._replace(**options)))


def check_zone(source: corefile.ZoneSource) -> str:
    """What named-checkzone says against a zone file; empty if it passes."""
    done = subprocess.run(
        ["named-checkzone", "-i", "local", source.origin, source.path], capture_output=True, text=True, check=False
    )
    problems = [line for line in done.stdout.splitlines() if "loaded serial" not in line and line != "OK"]
    return "\n".join(problems) if done.returncode or problems else ""

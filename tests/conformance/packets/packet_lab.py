# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packet lab: namespaces, routes and probe workers of one cluster in miniature.

            ext (outside client)
             | 198.18.1.20, fd98:1::20 (+ 80 more client addresses)
             |
    198.18.1.1, fd98:1::1   = InternalIP of node-a
      node-a  --- pod-a1, pod-a2, pod-a3 (the pure client, + 80 more addresses)
    198.18.2.1, fd98:2::1   = a second address of node-a
             |
    198.18.2.2, fd98:2::2   = InternalIP of node-b
      node-b  --- pod-b1, pod-b2, pod-c1 (of "node-c"), pod-b3 (a pure client)

node-a is the node under test; its rules decide everything. All links are point to point, every packet between two
hosts passes node-a (also between two remote pods), so no reply can take another way than its request. node-b drops
what comes from node-a for an address that it does not know: a VIP that node-a failed to translate ends there, silently.

Every namespace runs a worker of tests/lab (server and client). node-a's own servers stand in for host ports: seen
behind a VIP that has no such endpoint, they are a leak.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any

from lab.claim import sh
from lab.ground import Ground

# Ports that every namespace serves, TCP, UDP and SCTP.
PORTS = [53, 80, 443, 5353, 8080, 8081, 8443, 9090, 9999]

# name -> (IPv4, IPv6, where it hangs)
PODS = {
    "pod-a1": ("10.128.0.11", "fd80:0:0:a::11", "node-a"),
    "pod-a2": ("10.128.0.12", "fd80:0:0:a::12", "node-a"),
    "pod-a3": ("10.128.0.13", "fd80:0:0:a::13", "node-a"),
    "pod-b1": ("10.129.0.11", "fd80:0:0:b::11", "node-b"),
    "pod-b2": ("10.129.0.12", "fd80:0:0:b::12", "node-b"),
    "pod-b3": ("10.129.0.13", "fd80:0:0:b::13", "node-b"),
    "pod-c1": ("10.130.0.11", "fd80:0:0:c::11", "node-b"),
}
NODE_IPS = ["198.18.1.1", "fd98:1::1"]
NODE_SECOND_IPS = ["198.18.2.1", "fd98:2::1"]
NODE_B_IPS = ["198.18.2.2", "fd98:2::2"]
# What a node calls itself on the links to its pods.
GATEWAYS = {"node-a": ("10.128.0.1", "fd80:0:0:a::1"), "node-b": ("10.129.0.1", "fd80:0:0:b::1")}
EXT = ("198.18.1.20", "fd98:1::20")
# Further addresses of pod-a3 and ext, for session affinity by client address. Each kind of VIP is asked from sixteen of
# its own, since kube-proxy remembers a client per Service port, through whichever VIP it came; and in iptables mode
# (xt_recent) it remembers no more than 100 clients per endpoint, so there must not be many of them.
ALIASES = 16
ALIAS_BLOCKS = ("ClusterIP", "NodePort", "NodePort, second node address", "load balancer IP", "externalIP")
POD_ALIASES = {
    4: [f"10.128.0.{128 + i}" for i in range(ALIASES * len(ALIAS_BLOCKS))],
    6: [f"fd80:0:0:a::1:{i + 1:x}" for i in range(ALIASES * len(ALIAS_BLOCKS))],
}
EXT_ALIASES = {
    4: [f"198.18.1.{64 + i}" for i in range(ALIASES * len(ALIAS_BLOCKS))],
    6: [f"fd98:1::1:{i + 1:x}" for i in range(ALIASES * len(ALIAS_BLOCKS))],
}

# Everything that counts as "the node's own address" when a backend tells whom it saw.
NODE_ADDRESSES = {*NODE_IPS, *NODE_SECOND_IPS, *GATEWAYS["node-a"], "127.0.0.1", "::1"}

# client word of a probe -> worker that sends it, and the addresses that count as its own
CLIENTS: dict[str, tuple[str, set[str]]] = {
    "pod": ("pod-a3", set(PODS["pod-a3"][:2]) | set(POD_ALIASES[4]) | set(POD_ALIASES[6])),
    "pod-self": ("pod-a1", set(PODS["pod-a1"][:2])),
    "remote-pod": ("pod-b3", set(PODS["pod-b3"][:2])),
    "host": ("node-a", set()),
    "ext": ("ext", set(EXT) | set(EXT_ALIASES[4]) | set(EXT_ALIASES[6])),
}


# Takes everything away that a mode or a test left, in one process: those of User Mode Linux are slow to start. Of
# iptables-legacy only tables that exist: to name another one would make it, in a node that is to have none of it.
EMPTY = """
conntrack -F; nft flush ruleset; ipvsadm -C; ip link delete servicenet0
for tool in ip ip6; do
    for table in $(cat /proc/net/${tool}_tables_names); do
        ${tool}tables-legacy -t $table -F; ${tool}tables-legacy -t $table -X
    done
done
ipset destroy  # no rule names a set any more
echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet
"""


def family(address: str) -> int:
    """4 or 6, by the look of it."""
    return 6 if ":" in address else 4


class PacketLab(Ground):
    """The lab of the recorded cases; `node` is the namespace whose rules are under test."""

    @property
    def node(self) -> str:
        """The namespace of node-a."""
        return self.ns("node-a")

    # ---- building

    def build(self) -> None:
        """Everything in the picture above."""
        names = ["node-a", "node-b", "ext", *PODS]
        for name in names:
            # Replies of node-b to its own pods come back to it from node-a, with node-b's address as their source.
            self.add(name, router=name.startswith("node-"), accept_local=name == "node-b")
        self._plug_in_ext()
        self._plug_in_node_b()
        for number, name in enumerate(PODS):
            self._plug_in_pod(name, f"pod{number}")
        self.start_workers(names, {"plain": PORTS})

    def _plug_in_ext(self) -> None:
        self.wire("ext", "eth0", "node-a", "ext0")
        self.ip("node-a", "addr add 198.18.1.1/24 dev ext0", "addr add fd98:1::1/64 dev ext0")
        self.ip(
            "ext",
            *[f"addr add {a}/24 dev eth0" for a in [EXT[0], *EXT_ALIASES[4]]],
            *[
                f"addr add {a}/64 dev eth0 preferred_lft {'forever' if a == EXT[1] else 0}"
                for a in [EXT[1], *EXT_ALIASES[6]]
            ],
            "route add default via 198.18.1.1",
            "route add default via fd98:1::1",
        )

    def _plug_in_node_b(self) -> None:
        self.wire("node-b", "uplink", "node-a", "nb0")
        self.ip(
            "node-a",
            "addr add 198.18.2.1/24 dev nb0",
            "addr add fd98:2::1/64 dev nb0",
            "route add default via 198.18.2.2",
            "route add default via fd98:2::2",
            "route add 10.129.0.0/16 via 198.18.2.2",
            "route add 10.130.0.0/16 via 198.18.2.2",
            "route add fd80:0:0:b::/64 via fd98:2::2",
            "route add fd80:0:0:c::/64 via fd98:2::2",
        )
        self.ip(
            "node-b",
            "addr add 198.18.2.2/24 dev uplink",
            "addr add fd98:2::2/64 dev uplink",
            "route add default via 198.18.2.1",
            "route add default via fd98:2::1",
        )
        # From node-a: to the pods (table 100). From the pods, or node-b itself: to node-a, even from pod to pod.
        for v, node_a in ((4, NODE_SECOND_IPS[0]), (6, NODE_SECOND_IPS[1])):
            self.ip(
                "node-b",
                "route add blackhole default table 100",
                "rule add iif uplink lookup 100 pref 100",
                f"route add default via {node_a} table 101",
                family=v,
            )

    def _plug_in_pod(self, name: str, dev: str) -> None:
        v4, v6, node = PODS[name]
        self.wire(name, "eth0", node, dev)
        table = " table 100" if node == "node-b" else ""
        for v, address, gateway, bits in zip((4, 6), (v4, v6), GATEWAYS[node], (32, 128), strict=True):
            self.ip(node, f"addr add {gateway}/{bits} dev {dev}", family=v)
            self.ip(
                name,
                f"addr add {address}/{bits} dev eth0",
                f"route add {gateway} dev eth0",
                f"route add default via {gateway} dev eth0 onlink",
                family=v,
            )
            self.ip(node, f"route add {address} dev {dev}{table}", family=v)
            if node == "node-b":
                self.ip(node, f"rule add iif {dev} lookup 101 pref 101", family=v)
        if name == "pod-a3":
            self.ip(
                name,
                *[f"addr add {a}/32 dev eth0" for a in POD_ALIASES[4]],
                *[f"addr add {a}/128 dev eth0 preferred_lft 0" for a in POD_ALIASES[6]],
            )
            self.ip(node, f"route add 10.128.0.128/25 dev {dev}", family=4)
            self.ip(node, f"route add fd80:0:0:a::1:0/112 dev {dev}", family=6)

    # ---- using

    def reset(self) -> None:
        """Takes all rules and flows of node-a away, so that cases do not see each other."""
        self.in_node("sh", "-c", EMPTY)

    def in_node(self, *command: str) -> str:
        """What a command says in node-a, "" if it fails or does not exist."""
        return sh("ip", "netns", "exec", self.node, *command, check=False).stdout

    def probe(self, probes: list[dict[str, Any]]) -> list[dict[str, dict[str, int]]]:
        """Runs probes (see README) and returns the raw outcomes, in the same order; clients work at the same time."""
        by_worker: dict[str, list[int]] = {}
        for i, p in enumerate(probes):
            by_worker.setdefault(CLIENTS[p["client"]][0], []).append(i)
        results: list[Any] = [None] * len(probes)

        def ask(worker: str, indices: list[int]) -> None:
            answers = self.workers[worker].ask(op="probe", probes=[request(probes[i]) for i in indices])
            for i, got in zip(indices, answers, strict=True):
                results[i] = got

        with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
            for done in [pool.submit(ask, *item) for item in by_worker.items()]:
                done.result()
        return results

    def http(self, client: str, url: str) -> tuple[int, str]:
        """Status and body of a GET from a client."""
        status, body = self.workers[CLIENTS[client][0]].ask(op="http", url=url)
        return status, body


def request(p: dict[str, Any]) -> dict[str, Any]:
    """What the worker must know of a probe."""
    sources = None
    if p.get("affinity") and p["client"] in ("pod", "ext"):
        block = ALIAS_BLOCKS.index(p["target"].split(" ", 1)[1])
        sources = (POD_ALIASES if p["client"] == "pod" else EXT_ALIASES)[family(p["address"])]
        sources = sources[ALIASES * block : ALIASES * (block + 1)]
    return {
        "proto": p["proto"],
        "address": p["address"],
        "port": p["port"],
        "count": p["count"],
        "sources": sources,
        "until": p.get("until"),
        "timeout": p.get("timeout", 0.6),
    }

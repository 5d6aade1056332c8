# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no single recorded case can show: what changes with time, and packets of a special make, beside kube-proxy."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab.claim import sh
from lab.control_plane import has_peers

from conformance.packets.outcome import text
from conformance.packets.packet_lab import EXT, NODE_IPS, PacketLab
from conformance.random import by_hand
from conformance.random.clusters import probe
from conformance.random.twins import Twins

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not has_peers("kube-apiserver", "kube-proxy"), reason="the real programs are not built"),
    pytest.mark.parametrize("variant", ["nftables", "iptables-nft"]),
]

WEB, NODE_PORT = {"port": by_hand.PORT, "protocol": "TCP"}, {"port": by_hand.NODE_PORT, "protocol": "TCP"}
# One datagram from a port of one's own choice -> who answered.
DATAGRAM = """
import socket, sys
address, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", own))
    sock.settimeout(60)
    sock.connect((address, port))
    try:
        sock.send(b"?")
        print(sock.recv(2048).decode().split()[0])
    except TimeoutError:
        print("drop")
    except OSError:
        print("reject")
"""


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    """Both labs and the API server."""
    with Twins() as made:
        yield made


def start(twins: Twins, variant: str, *objects: dict[str, Any]) -> None:
    """Both proxies on a new cluster of these objects."""
    if variant.startswith("iptables") and not shutil.which(variant):
        pytest.skip(f"there is no {variant} on this machine")
    twins.program(variant, by_hand.OPTIONS, [twins.fill([*by_hand.NODES, *objects])])


def same(twins: Twins, *probes: dict[str, Any]) -> list[str]:
    """Asks both, fails where they differ, and returns what they did, in words."""
    answers = twins.compare(list(probes))
    wrong = [f"{a.label}: kube-proxy {text(a.theirs)}, ours {text(a.ours)}" for a in answers if a.wrong]
    assert not wrong, "\n".join(["", *wrong])
    return [text(a.ours) for a in answers]


def on_both(twins: Twins, do: Callable[[PacketLab], Any]) -> tuple[Any, Any]:
    """The same on kube-proxy's lab and on ours, at the same time -> what each returned."""
    theirs, ours = [twins.pool.submit(do, lab) for lab in (twins.theirs, twins.ours)]
    return theirs.result(), ours.result()


def move(twins: Twins, variant: str, endpoints: list[dict[str, Any]]) -> None:
    """Gives the Service other endpoints, and both proxies the time to follow."""
    changed = time.time()
    twins.api.patch("EndpointSlice", "shop", "web", {"endpoints": endpoints})
    twins.follow(variant, by_hand.OPTIONS, changed)


def test_affinity_is_refreshed_and_expires(twins: Twins, variant: str) -> None:
    """A client that keeps coming stays with its backend past the timeout; one that stays away is forgotten."""
    timeout = 6
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}}}
    start(twins, variant, by_hand.service(**sticky), by_hand.endpoint_slice("pod-a1", "pod-a2", "pod-b1"))
    asked = probe("shop/web ClusterIP", "pod", by_hand.VIP, WEB, sticky=True) | {"count": 1}

    def met(lab: PacketLab) -> dict[str, set[str]]:
        """Client address -> the backends that it met."""
        return {source: {o.split("|")[0] for o in seen} for source, seen in lab.probe([asked])[0].items()}

    def story(lab: PacketLab) -> dict[str, bool]:
        first, kept = met(lab), True
        began = last = time.monotonic()
        while last < began + timeout + 3:
            time.sleep(1.5)
            coming = time.monotonic()
            seen = met(lab)
            if time.monotonic() - last >= timeout:
                # On a machine so busy a client was away for too long: from here on, anew.
                first, began, kept = seen, coming, True
            kept = kept and seen == first
            last = coming
        time.sleep(timeout + 1.5)
        return {"spread": len(set(map(str, first.values()))) > 1, "kept": kept, "forgotten": met(lab) != first}

    theirs, ours = on_both(twins, story)
    assert ours == theirs == {"spread": True, "kept": True, "forgotten": True}


def test_udp_flow_follows_its_endpoints(twins: Twins, variant: str) -> None:
    """A flow whose endpoint goes away meets the next one, though the kernel still remembers the old one."""
    start(twins, variant, by_hand.service(protocol="UDP"), by_hand.endpoint_slice("pod-a1", protocol="UDP"))

    def answer(lab: PacketLab) -> str:
        command = (sys.executable, "-c", DATAGRAM, by_hand.VIP, str(by_hand.PORT), "20053")
        return sh("ip", "netns", "exec", lab.ns("pod-a3"), *command).stdout.strip()

    seen = [on_both(twins, answer)]
    for pods in (["pod-b1"], [], ["pod-a2"]):
        move(twins, variant, by_hand.endpoints(*pods))
        seen.append(on_both(twins, answer))
    assert [ours for _theirs, ours in seen] == ["pod-a1", "pod-b1", "reject", "pod-a2"]
    # kube-proxy 1.36 leaves the flow of a Service that has lost its last endpoint alone (docs/conformance.md).
    assert [theirs for theirs, _ours in seen] == ["pod-a1", "pod-b1", "pod-b1", "pod-a2"]


def test_endpoints_come_and_go(twins: Twins, variant: str) -> None:
    """At every step of a Service's life both do the same, to the last one, where it is gone."""
    start(twins, variant, by_hand.service(type="NodePort"), by_hand.endpoint_slice())
    asked = [probe("shop/web ClusterIP", client, by_hand.VIP, WEB) for client in ("pod", "pod-self", "host", "ext")]
    asked += [probe("shop/web NodePort", client, NODE_IPS[0], NODE_PORT) for client in ("pod", "host", "ext")]
    answered = [set(same(twins, *asked))]
    for pods, leaving in (
        (["pod-a1"], False),
        (["pod-a1", "pod-b1", "pod-c1"], False),
        (["pod-b1"], False),
        (["pod-b1"], True),
        ([], False),
        (["pod-a2"], False),
    ):
        move(twins, variant, by_hand.endpoints(*pods, leaving=leaving))
        answered.append({word.split(":")[0] for outcome in same(twins, *asked) for word in outcome.split()})
    assert answered == [
        {"reject"},
        {"pod-a1"},
        {"pod-a1", "pod-b1", "pod-c1"},
        {"pod-b1"},
        {"pod-b1"},
        {"reject"},
        {"pod-a2"},
    ]
    twins.api.delete("EndpointSlice", "shop", "web")
    twins.api.delete("Service", "shop", "web")
    twins.follow(variant, by_hand.OPTIONS)
    assert not any("pod" in outcome for outcome in same(twins, *asked))


def test_unallocated_service_address(twins: Twins, variant: str) -> None:
    """nftables: an address of the ServiceCIDR that no Service has goes nowhere, even if there is a route to it."""
    start(twins, variant, by_hand.service(), by_hand.endpoint_slice("pod-a1"))
    address = "10.96.200.7"

    def route(lab: PacketLab) -> None:
        lab.ip("ext", f"addr replace {address}/32 dev lo")
        lab.ip("node-a", f"route replace {address}/32 via {EXT[0]}")

    on_both(twins, route)
    seen = same(twins, *[probe("nobody/nothing ClusterIP", client, address, WEB) for client in ("pod", "host")])
    if variant == "nftables":
        assert seen == ["drop", "drop"]
    else:
        assert all("ext:80" in outcome for outcome in seen)


def test_loopback_is_guarded(twins: Twins, variant: str) -> None:
    """Nobody outside reaches the node's 127.0.0.1, though its node ports there need route_localnet."""
    start(twins, variant, by_hand.service(type="NodePort"), by_hand.endpoint_slice("pod-a1"))

    def route(lab: PacketLab) -> None:
        lab.sysctl("ext", {"net.ipv4.conf.all.route_localnet": 1, "net.ipv4.conf.all.accept_local": 1})
        sh("ip", "-n", lab.ns("ext"), "route", "del", "local", "127.0.0.0/8", "table", "local", check=False)
        sh("ip", "-n", lab.ns("ext"), "route", "del", "local", "127.0.0.1", "table", "local", check=False)
        lab.ip("ext", f"route replace 127.0.0.1/32 via {NODE_IPS[0]} src {EXT[0]}")

    on_both(twins, route)
    asked = [probe("nobody/host port", "ext", "127.0.0.1", {"port": 9090, "protocol": p}) for p in ("TCP", "UDP")]
    asked.append(probe("shop/web NodePort, loopback", "ext", "127.0.0.1", NODE_PORT))
    assert same(twins, *asked)[:2] == ["drop", "drop"]
    assert same(twins, probe("shop/web NodePort", "ext", NODE_IPS[0], NODE_PORT)) == ["pod-a1:8080(node)"]
    if variant != "nftables":
        # Without a guard the packets do arrive.
        twins.stop_kube_proxy()

        def unguard(lab: PacketLab) -> None:
            lab.reset()
            lab.sysctl("node-a", {"net.ipv4.conf.all.route_localnet": 1})

        on_both(twins, unguard)
        assert same(twins, asked[0]) == ["node-a:9090(client)"]


def test_two_services_with_one_address(twins: Twins, variant: str) -> None:
    """One of two Services that claim an address and port has it: kube-proxy's choice is chance, ours the first name."""
    shared = "198.19.2.77"
    start(
        twins,
        variant,
        by_hand.service("first", "10.96.2.1", externalIPs=[shared]),
        by_hand.endpoint_slice("pod-a1", name="first"),
        by_hand.service("second", "10.96.2.2", externalIPs=[shared]),
        by_hand.endpoint_slice("pod-b1", name="second"),
    )
    same(
        twins,
        probe("shop/first ClusterIP", "pod", "10.96.2.1", WEB),
        probe("shop/second ClusterIP", "pod", "10.96.2.2", WEB),
    )
    answer = twins.ask([probe("shop/first externalIP", "ext", shared, WEB)])[0]
    assert text(answer.theirs) in ("pod-a1:8080(node)", "pod-b1:8080(node)")
    assert text(answer.ours) == "pod-a1:8080(node)"

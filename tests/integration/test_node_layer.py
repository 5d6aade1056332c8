# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node layer on a real kernel. Every test runs in a network namespace of its own, which ends with it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest
from integration.in_namespace import enter_new_namespace, namespace, run, sh
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError, ToolError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.stale_flows import Flow, stale
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import (
    conntrack,
    generation,
    reserved_ports,
    service_addresses,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_tool import (
    LEGACY,
    NFT,
    VARIANTS,
    IptablesTool,
    detect,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.netlink import NETLINK_NETFILTER, Netlink

__all__ = ["namespace"]

VIP, VIP6 = "10.96.0.10", "fd00:10:96::10"
BACKEND, BACKEND6 = "198.18.0.5", "fd00:18::5"


# ---- reserved ports


def test_thousands_of_reserved_ports_are_read_back() -> None:
    """The kernel shows no more than what fits into one reading."""
    ports = set(range(10000, 30000, 2))
    reserved_ports.write(ports)
    assert reserved_ports.read() == ports
    reserved_ports.write([])
    assert reserved_ports.read() == set()


# ---- generation


def test_every_commit_of_nftables_moves_the_token() -> None:
    tokens = [generation.token()]
    for command in (
        "nft add table ip servicenet",
        "nft add chain ip servicenet x",
        "iptables-nft -t nat -N FOREIGN",
        "ip6tables-nft -t nat -N FOREIGN",
        "nft delete table ip servicenet",
    ):
        sh(command)
        tokens.append(generation.token())
    assert all(tokens)
    assert len(set(tokens)) == len(tokens)


def test_looking_and_iptables_legacy_leave_the_token_alone() -> None:
    sh("nft add table ip servicenet")
    before = generation.token()
    for command in (
        "nft list ruleset",
        "iptables-nft-save",
        "iptables-nft -t nat -S",
        "iptables-legacy -t nat -N FOREIGN",
    ):
        sh(command)
        assert generation.token() == before, command


def test_another_namespace_at_the_same_generation_has_another_token() -> None:
    sh("nft add table ip servicenet")
    here = generation.token()
    generation_here = generation.nf_tables_generation()
    enter_new_namespace()
    sh("nft add table ip servicenet")
    assert generation.nf_tables_generation() == generation_here
    there = generation.token()
    # "boot:inode.cookie:generation". The inode alone may be the same again, for a namespace that ended.
    assert there.split(":")[1].split(".")[1] != here.split(":")[1].split(".")[1]


# ---- addresses


def test_an_address_that_goes_during_a_listing_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts its way through the table, so what moves up by one is left out."""
    first, *others = (f"198.18.{number // 250}.{number % 250 + 1}" for number in range(3000))
    service_addresses.add("lo", [first, *others])
    left = [first]

    class Disturbed(Netlink):
        def stream(self, kind: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
            for number, entry in enumerate(super().stream(kind, body)):
                if number == 1000 and left:
                    service_addresses.remove("lo", [left.pop()])
                yield entry

    monkeypatch.setattr(service_addresses.addresses, "Netlink", Disturbed)
    held = service_addresses.held()
    assert not left
    assert [address for address in others if address not in held] == []


# ---- iptables


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_restored_is_saved(variant: str, family: int) -> None:
    tool = IptablesTool(run, family, variant)
    assert tool.available()
    sh(f"{'iptables' if family == 4 else 'ip6tables'}-{variant} -t nat -N FOREIGN")
    text = (
        "*nat\n:SERVICENET - [0:0]\n:SERVICENET-A - [0:0]\n-A SERVICENET -p udp -j SERVICENET-A\n"
        "-A SERVICENET-A -p udp -m udp --dport 53 -j RETURN\nCOMMIT\n"
    )
    tool.test(text)
    assert "SERVICENET" not in tool.save(["nat"])["nat"]
    tool.restore(text)
    saved = tool.read(["nat", "filter"])
    assert saved["nat"].chains["SERVICENET"] == ("-p udp -j SERVICENET-A",)
    assert saved["nat"].chains["SERVICENET-A"] == ("-p udp -m udp --dport 53 -j RETURN",)
    assert saved["nat"].chains["FOREIGN"] == ()
    assert saved["nat"].policies["PREROUTING"] == "ACCEPT"
    assert not any(saved["filter"].chains.values())


def test_a_table_that_another_program_hooks_into_as_well_can_be_used() -> None:
    sh("nft add table ip nat")
    sh("nft add chain ip nat prerouting { type nat hook prerouting priority -100 ; }")
    tool = IptablesTool(run, 4, NFT)
    tool.restore("*nat\n:SERVICENET - [0:0]\n-A PREROUTING -j SERVICENET\nCOMMIT\n")
    assert tool.save(["nat"])["nat"]["PREROUTING"] == ("-j SERVICENET",)
    assert "chain prerouting" in sh("nft list table ip nat")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_refused_restore_changes_nothing(variant: str) -> None:
    tool = IptablesTool(run, 4, variant)
    with pytest.raises(ToolError, match="no-such-option"):
        tool.restore("*nat\n:SERVICENET - [0:0]\n-A SERVICENET --no-such-option NOSUCHOPTION -j RETURN\nCOMMIT\n")
    assert "SERVICENET" not in tool.save(["nat"])["nat"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_extension_that_the_kernel_lacks_is_found_out(variant: str) -> None:
    if os.path.exists("/proc/net/ip_vs"):
        pytest.fail("this test needs an extension that the kernel lacks, and this kernel has ip_vs; name another one")
    tool = IptablesTool(run, 4, variant)
    with pytest.raises(ToolError, match="ipvs"):
        tool.test("*filter\n:SERVICENET-PROBE - [0:0]\n-A SERVICENET-PROBE -m ipvs --ipvs -j RETURN\nCOMMIT\n")


def test_detection_follows_the_rules_in_the_kernel() -> None:
    usual = detect(run).variant
    other = LEGACY if usual == NFT else NFT
    sh(f"iptables-{other} -N EMPTY")
    assert detect(run).variant == usual
    sh(f"iptables-{other} -A INPUT -p icmp -j ACCEPT")
    assert detect(run).variant == other
    sh(f"ip6tables-{usual} -A INPUT -p icmp -j ACCEPT")
    with pytest.raises(OptionError, match="Both variants"):
        detect(run)
    assert detect(run, wanted=usual).variant == usual


def test_rules_of_ours_alone_do_not_decide_the_variant() -> None:
    usual = detect(run).variant
    other = LEGACY if usual == NFT else NFT
    IptablesTool(run, 4, other).restore(
        "*nat\n:SERVICENET - [0:0]\n-A PREROUTING -j SERVICENET\n-A SERVICENET -p udp -j RETURN\nCOMMIT\n"
    )
    assert detect(run)[0:3:2] == (usual, other)


# ---- connection tracking


def client(address: str, port: int) -> socket.socket:
    """A UDP client that has sent one packet."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(3)
    sock.connect((address, port))
    sock.send(b"question")
    return sock


def server(address: str, port: int) -> socket.socket:
    """A UDP server that waits."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(3)
    sock.bind((address, port))
    return sock


@pytest.fixture
def addresses() -> None:
    """VIPs and backends, all on the loopback."""
    for address in (VIP, BACKEND, "198.18.0.6"):
        sh(f"ip addr add {address}/32 dev lo")
    for address in (VIP6, BACKEND6):
        sh(f"ip addr add {address}/128 dev lo nodad")
    # The kernel makes the routes of IPv6 addresses a little later; until then it drops what is sent there.
    wait_until(
        lambda: all(f"local {address} " in sh("ip -6 route show table local") for address in (VIP6, BACKEND6)),
        "routes of the IPv6 addresses",
    )


@pytest.mark.usefixtures("addresses")
@pytest.mark.parametrize(("vip", "backend", "family"), [(VIP, BACKEND, 4), (VIP6, BACKEND6, 6)])
def test_flows_are_listed_and_deleted(vip: str, backend: str, family: int) -> None:
    tool, end = ("iptables", backend) if family == 4 else ("ip6tables", f"[{backend}]")
    sh(f"{tool}-nft -t nat -A OUTPUT -p udp -d {vip} --dport 53 -j DNAT --to-destination {end}:5353")
    with server(backend, 5353), client(vip, 53) as one, client(vip, 53) as two, client(backend, 5353):
        flows = {flow.orig_sport: flow for flow in conntrack.udp_flows(family)}
        first, second = (flows[sock.getsockname()[1]] for sock in (one, two))
        assert first == (vip, first.orig_sport, vip, 53, backend, 5353, 0)
        assert len(flows) == 3
        assert list(conntrack.udp_flows(10 - family)) == []
        assert conntrack.delete([first]) == 1
        assert first not in set(conntrack.udp_flows(family))
        assert second in set(conntrack.udp_flows(family))
        assert conntrack.delete([first]) == 0


@pytest.mark.usefixtures("addresses")
def test_a_client_that_keeps_sending_reaches_the_new_backend_after_the_deletion() -> None:
    rule = f"OUTPUT -p udp -d {VIP} --dport 53 -j DNAT --to-destination"
    sh(f"iptables-nft -t nat -A {rule} {BACKEND}:5353")
    with server(BACKEND, 5353) as old, server("198.18.0.6", 5353) as new, client(VIP, 53) as sock:
        assert old.recv(99) == b"question"
        sh(f"iptables-nft -t nat -R {rule.replace('OUTPUT', 'OUTPUT 1')} 198.18.0.6:5353")
        sock.send(b"again")
        assert old.recv(99) == b"again", "without a deletion the flow keeps its old backend"
        frontends = {(VIP, 53): frozenset({("198.18.0.6", 5353)})}
        found = stale(conntrack.udp_flows(4), frontends, {}, {BACKEND})
        assert [(flow.orig_dst, flow.reply_src) for flow in found] == [(VIP, BACKEND)]
        assert conntrack.delete(found) == 1
        sock.send(b"once more")
        assert new.recv(99) == b"once more"
        assert stale(conntrack.udp_flows(4), frontends, {}, {BACKEND}) == []


@pytest.mark.usefixtures("addresses")
def test_a_flow_in_a_zone_is_deleted_there_and_only_there() -> None:
    sh(f"iptables-nft -t raw -A OUTPUT -p udp -d {VIP} -j CT --zone 9")
    with server(VIP, 53), client(VIP, 53):
        found = [flow for flow in conntrack.udp_flows(4) if flow.zone == 9]
        assert [(flow.orig_dst, flow.orig_dport) for flow in found] == [(VIP, 53)]
        assert conntrack.delete([found[0]._replace(zone=0), found[0]._replace(zone=8)]) == 0
        assert conntrack.delete(found) == 1


@pytest.mark.usefixtures("addresses")
def test_the_kernel_hands_out_udp_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrowing the dump to UDP is what makes it cheap on a node with many TCP connections."""
    sh(f"iptables-nft -t nat -A OUTPUT -p udp -d {VIP} -j DNAT --to-destination {BACKEND}")
    strange = []
    monkeypatch.setattr(conntrack, "_parse", lambda *entry: strange.append(entry))
    with socket.create_server((BACKEND, 80)), socket.create_connection((BACKEND, 80)), client(VIP, 53):
        with Netlink(NETLINK_NETFILTER, "list") as netlink:
            everything = list(netlink.dump(conntrack.IPCTNL_MSG_CT_GET, conntrack.nfgenmsg(socket.AF_INET)))
        assert len(everything) == 2
        assert [flow.orig_dport for flow in conntrack.udp_flows(4)] == [53]
    assert strange == []


def insert(flows: list[Flow]) -> None:
    """Make entries of connection tracking, as `conntrack -I` does."""
    new = 0x100
    flags = 0x0001 | 0x0004 | 0x0400 | 0x0200  # request, acknowledge, create, exclusively
    with Netlink(NETLINK_NETFILTER, "make an entry") as netlink:
        for first in range(0, len(flows), 500):
            bodies = []
            for flow in flows[first : first + 500]:
                entry = conntrack._deletion(flow)
                reply = conntrack._deletion(
                    flow._replace(
                        orig_src=flow.reply_src,
                        orig_sport=flow.reply_sport,
                        orig_dst=flow.orig_src,
                        orig_dport=flow.orig_sport,
                    )
                )[4:]
                timeout = conntrack.attribute(7, (120).to_bytes(4, "big"))
                bodies.append(entry + reply[:2] + b"\x02\x80" + reply[4:] + timeout)
            assert set(netlink.each(new, bodies, flags)) == {0}


@pytest.mark.soak
def test_many_flows_take_little_time(full_figures: bool) -> None:
    """A pass over 100,000 flows, 1,000 of them stale, takes less than a second of one core."""
    count = 100_000 if full_figures else 20_000
    insert(
        [
            Flow(f"10.128.{n >> 8 & 255}.{n & 255}", 1024 + (n >> 16), VIP, 53, "198.18.0.6", 53 if n % 100 else 54, 0)
            for n in range(count)
        ]
    )
    frontends = {(VIP, 53): frozenset({("198.18.0.6", 53)})}
    begin = time.process_time()
    found = stale(conntrack.udp_flows(4), frontends, {}, set())
    deleted = conntrack.delete(found)
    spent = time.process_time() - begin
    print(f"{count} flows: {spent:.3f} s")
    assert deleted == count // 100
    assert spent < 1.0
    assert sum(1 for _flow in conntrack.udp_flows(4)) == count - deleted

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables mode with a real kernel: what packets meet while Services change, and what others' rules meet.

One network namespace holds everything: its loopback device has the addresses of clients and endpoints.
"""

from __future__ import annotations

import collections
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from integration import newest_nft
from integration.in_namespace import namespace, run, sh
from lab.waiting import wait_until
from unit.core import clusters

from ansible_collections.kubenode.servicenet.plugins.module_utils import _runner
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import passes, snapshot, text_nftables
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import PreflightError, ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler, parts
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight_model import Report
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._mode_nftables import NftablesMode
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import nft_tool

__all__ = ["namespace"]

VIEW = NodeView("node-a", "", ("198.18.1.1", "fd98::1"))
VIP = {4: "10.96.0.1", 6: "fd00:10:96::1"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
# An address that is the node's only by a route can be bound to with this.
FREEBIND = {False: (socket.IPPROTO_IP, 15), True: (socket.IPPROTO_IPV6, 78)}
LOCAL = ("10.128.0.0/16", "198.18.0.0/24", "fd80::/64", "fd98:9::/64", *VIEW.node_ips)
VIPS = ("10.96.0.0/12", "fd00:10:96::/108")


def endpoint(family: int, number: int) -> str:
    return f"10.128.0.{number}" if family == 4 else f"fd80::{number:x}"


def client(family: int, number: int) -> str:
    return f"198.18.0.{number}" if family == 4 else f"fd98:9::{number:x}"


def service(name: str, vip: str, numbers: list[int], protocol: str = "TCP", **spec: Any) -> list[dict[str, Any]]:
    """A Service of one port, and its endpoints, none of them on this node."""
    family = 6 if ":" in vip else 4
    return [
        {
            "kind": "Service",
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"clusterIPs": [vip], "ports": [{"name": "http", "port": 80, "protocol": protocol}], **spec},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": f"{name}-0", "labels": {"kubernetes.io/service-name": name}},
            "addressType": f"IPv{family}",
            "ports": [{"name": "http", "port": 8080, "protocol": protocol}],
            "endpoints": [{"addresses": [endpoint(family, number)]} for number in numbers],
        },
    ]


def sticky(seconds: int = 600) -> dict[str, Any]:
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


class Node:
    """Runs of the mode, with a state directory of their own."""

    def __init__(self, directory: Path, nft: list[str]) -> None:
        self.directory = directory
        self.nft = nft
        self.run = self.plain

    def plain(self, argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        """Runs a tool, another nft in place of the installed one."""
        code, out, err = run([*(self.nft or argv[:1]), *argv[1:]], data)
        return code, out, err

    def sh(self, command: str, data: str | None = None) -> str:
        """A command line that must succeed. One nft may crash on what a later one wrote, so all use the same."""
        code, out, err = self.plain(command.split(), data)
        assert code == 0, f"{command}: {err}"
        return out

    def request(self, settings: Settings) -> _runner.Request:
        return _runner.Request(
            "nftables",
            str(self.directory / "snapshot.jsonl.gz"),
            str(self.directory / "state"),
            str(self.directory / "run"),
            lambda _snapshot: settings,
            lambda made: NftablesMode(made, lambda argv, data=None: self.run(argv, data)),
            lambda _mode, _settings, _done: Report((), (), ()),
            {},
            max_removed_percent=100,
        )

    def program(self, *services: list[dict[str, Any]], check: bool = False, **given: Any) -> _runner.Outcome:
        """Makes the node serve these Services."""
        made = build_snapshot([one for objects in services for one in objects])
        (self.directory / "snapshot.jsonl.gz").write_bytes(snapshot.dump(made))
        return self.again(check=check, **given)

    def again(self, check: bool = False, **given: Any) -> _runner.Outcome:
        """The same snapshot once more."""
        return _runner.present(self.request(Settings(VIEW, **given))._replace(check=check))

    def remove(self) -> _runner.Outcome:
        settings = Settings(VIEW)
        return _runner.absent(self.request(settings), NftablesMode(settings, self.run))


VERSIONS = ["installed", pytest.param("newest", marks=pytest.mark.soak)]


@pytest.fixture(scope="session", params=VERSIONS)
def nft(request: pytest.FixtureRequest, cache: Path, full_figures: bool) -> list[str]:
    """What to run in place of nft, [] for nft itself; made before a test leaves the machine's network."""
    return newest_nft.command(cache, full_figures) if request.param == "newest" else []


@pytest.fixture
def node(nft: list[str], tmp_path: Path) -> Node:
    """A node whose loopback device has all addresses of clients and endpoints."""
    for cidr in LOCAL:
        sh(f"ip route add local {cidr} dev lo")
    # Whatever is not translated goes out here and is lost.
    sh("ip link add out0 type veth peer name out1")
    sh("ip link set out0 up")
    sh("ip link set out1 up")
    for cidr in VIPS:
        sh(f"ip route add {cidr} dev out0")
    return Node(tmp_path, nft)


@contextlib.contextmanager
def servers(family: int, protocol: str = "TCP") -> Iterator[None]:
    """Answers on port 8080 of all endpoints: with the address that was reached."""
    stop = threading.Event()
    listener = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, KINDS[protocol])
    with listener:
        serve = _serve_udp
        if protocol == "TCP":
            listener.bind(("", 8080))
            listener.listen(1024)
            serve = _serve_tcp
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(listener, family, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _serve_tcp(listener: socket.socket, _family: int, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            connection, _peer = listener.accept()
            with connection:
                connection.sendall(connection.getsockname()[0].encode())


def _serve_udp(_listener: socket.socket, family: int, stop: threading.Event) -> None:
    """An answer has to come from the address that was asked: one socket for each of a few endpoints."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for number in range(1, 9):
            made = stack.enter_context(
                socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
            )
            made.setsockopt(*FREEBIND[family == 6], 1)
            made.bind((endpoint(family, number), 8080))
            made.setblocking(False)
            sockets.append(made)
        while not stop.is_set():
            for made in sockets:
                with contextlib.suppress(BlockingIOError):
                    _data, peer = made.recvfrom(100)
                    made.sendto(made.getsockname()[0].encode(), peer)
            time.sleep(0.002)


def ask(source: str, vip: str, protocol: str = "TCP", port: int = 80, patience: float = 5) -> str:
    """The endpoint that answers a new flow; raises OSError if none does."""
    with socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, KINDS[protocol]) as one:
        one.settimeout(patience)
        one.setsockopt(*FREEBIND[":" in vip], 1)
        one.bind((source, 0))
        one.connect((vip, port))
        # Who answers runs in this process, and may be late on a busy machine.
        one.settimeout(60)
        if protocol == "UDP":
            one.send(b"?")
        return one.recv(100).decode()


def answers(family: int, count: int = 40) -> set[str]:
    return {ask(client(family, 1), VIP[family]) for _each in range(count)}


# ------------------------------------------------------------------------------------------------------ transactions


@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(objects=clusters.clusters())
def test_any_cluster_is_read_back_as_it_was_written(node: Node, objects: list[dict[str, Any]]) -> None:
    node.program(objects)
    held = NftablesMode(Settings(VIEW), node.run).read()
    wanted = passes.full(build_snapshot(objects), VIEW, NftablesCompiler(Settings(VIEW))).new
    assert {name: content for name, content in held.items() if parts(name)[1] in text_nftables.COLLECTIONS} == wanted
    node.sh("nft add table ip other")
    assert not node.again().changed


@FAMILIES
def test_packets_follow_each_change(node: Node, family: int) -> None:
    with servers(family):
        for numbers in ([1], [1, 2, 3], [2, 4], [5], []):
            outcome = node.program(service("web", VIP[family], numbers))
            assert outcome.changed
            assert not node.again().changed
            if numbers:
                assert answers(family) == {endpoint(family, number) for number in numbers}
            else:
                with pytest.raises(ConnectionRefusedError):
                    ask(client(family, 1), VIP[family])


def test_shrinking_takes_two_transactions_and_growing_or_removing_one(node: Node) -> None:
    node.program(service("web", VIP[4], [1]))
    assert node.program(service("web", VIP[4], [2]), service("other", "10.96.0.9", [1])).facts["transactions"] == 1
    # The first Service with three endpoints: the chain that balances over them comes before it.
    assert node.program(service("web", VIP[4], [1, 2, 3])).facts["transactions"] == 2
    assert node.program(service("web", VIP[4], [2])).facts["transactions"] == 2
    assert node.program(service("web", VIP[4], [2, 3, 4])).facts["transactions"] == 1
    assert node.program(service("other", "10.96.0.9", [1])).facts["transactions"] == 1


@FAMILIES
def test_nothing_is_refused_while_a_table_takes_anothers_place(node: Node, family: int) -> None:
    """A packet under way may have passed the new table before it was in force, and meet the old one after it was. It
    takes half a microsecond to lose a connection in between; here it is as long as the run has one step to go."""
    node_port = {"type": "NodePort", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]}
    address = VIEW.node_ips[family == 6]
    web = service("web", VIP[family], [1], **node_port)
    asked: list[str] = []

    def astray(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        result = node.plain(argv, data)
        if argv[1:] == ["-f", "-"] and not asked:
            word = text_nftables.table(family)
            kept = node.sh(f"nft -s list chain {word} output")
            node.sh(f"nft flush chain {word} output")
            for target, port in ((VIP[family], 80), (address, 30080)):
                with pytest.raises(TimeoutError):
                    ask(client(family, 1), target, port=port, patience=0.5)
                asked.append(target)
            node.sh("nft -f -", kept)
        return result

    with servers(family):
        node.program(web)
        for command in (f"delete table {text_nftables.table(family)}", f"add table {text_nftables.table(family)}"):
            node.sh(f"nft {command}")
        node.run = astray
        assert node.again().changed
        node.run = node.plain
        assert asked == [VIP[family], address]
        assert ask(client(family, 1), VIP[family]) == endpoint(family, 1)
        assert "meanwhile" not in node.sh("nft list ruleset")
        assert not node.again().changed


def test_check_mode_changes_nothing_and_tells_the_same(node: Node) -> None:
    node.program(service("web", VIP[4], [1]))
    before = node.sh("nft list ruleset")
    checked = node.program(service("web", VIP[4], [1, 2]), service("api", "10.96.0.2", [3], **sticky()), check=True)
    assert node.sh("nft list ruleset") == before
    done = node.again()
    assert (checked.changed, checked.before, checked.after) == (done.changed, done.before, done.after)


@pytest.mark.soak
def test_no_connect_fails_while_a_service_flips(node: Node, full_figures: bool) -> None:
    connects, flips = (100_000, 300) if full_figures else (2_000, 9)
    sizes = ([1], [1, 2, 3], list(range(1, 251)))
    results: collections.Counter[str] = collections.Counter()
    stop = threading.Event()

    def connect() -> None:
        while not stop.is_set():
            try:
                results[ask(client(4, 1), VIP[4])] += 1
            except OSError as error:
                results[f"failed: {error}"] += 1

    others = [service(f"other-{i}", f"10.96.1.{i}", [1, 2]) for i in range(20)]
    node.program(service("web", VIP[4], [1]), *others)
    done = 0
    with servers(4):
        thread = threading.Thread(target=connect)
        thread.start()
        while done < flips or results.total() < connects:
            done += 1
            node.program(service("web", VIP[4], sizes[done % 3]), *others)
        stop.set()
        thread.join()
    assert [result for result in results if result.startswith("failed")] == []
    assert len(results) > 3


# ---------------------------------------------------------------------------------------------------------- affinity


@FAMILIES
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_affinity_survives_a_resync_and_loses_what_is_gone(node: Node, family: int, protocol: str) -> None:
    def clients() -> dict[int, str]:
        return {number: ask(client(family, number), VIP[family], protocol) for number in range(1, 25)}

    with servers(family, protocol):
        node.program(service("web", VIP[family], [1, 2, 3], protocol, **sticky()))
        first = clients()
        assert len(set(first.values())) > 1
        assert clients() == first
        node.program(service("web", VIP[family], [1, 2, 3, 4], protocol, **sticky()))
        assert clients() == first
        lost = endpoint(family, 1)
        node.program(service("web", VIP[family], [2, 3, 4], protocol, **sticky()))
        second = clients()
        assert lost not in second.values()
        assert {n: e for n, e in second.items() if first[n] != lost} == {n: e for n, e in first.items() if e != lost}
        # It comes back: those who were sent elsewhere meanwhile stay there.
        node.program(service("web", VIP[family], [1, 2, 3, 4], protocol, **sticky()))
        assert clients() == second


@FAMILIES
def test_each_service_has_its_own_timeout(node: Node, family: int) -> None:
    other = "10.96.0.2" if family == 4 else "fd00:10:96::2"
    node.program(service("web", VIP[family], [1, 2], **sticky(5)), service("api", other, [1, 2], **sticky(600)))
    with servers(family):
        began = time.monotonic()
        for number in range(1, 9):
            ask(client(family, number), VIP[family])
            ask(client(family, number), other)
        # On a busy machine the first of them may be over by now.
        assert len(remembered(node, family)) == 16 or time.monotonic() - began > 5
    wait_until(lambda: len(remembered(node, family)) <= 8)
    assert collections.Counter(key[1] for key in remembered(node, family)) == {other: 8}


def remembered(node: Node, family: int) -> list[list[Any]]:
    """The keys of the memory: client, address, protocol, port."""
    listed = json.loads(node.sh(f"nft -j list map {'ip6' if family == 6 else 'ip'} servicenet affinity"))
    (found,) = (entry["map"] for entry in listed["nftables"] if "map" in entry)
    return [(key["elem"]["val"] if "elem" in key else key)["concat"] for key, _value in found.get("elem", [])]


def test_a_run_that_ends_before_it_forgets_is_healed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_self: NftablesMode, _family: int, _whom: list[Any]) -> int:
        raise KeyboardInterrupt

    with servers(4):
        node.program(service("web", VIP[4], [1, 2], **sticky()))
        for number in range(1, 33):
            ask(client(4, number), VIP[4])
        with monkeypatch.context() as context:
            context.setattr(NftablesMode, "_forget", killed)
            with pytest.raises(KeyboardInterrupt):
                node.program(service("web", VIP[4], [2], **sticky()))
        assert node.again().changed
        assert {ask(client(4, number), VIP[4]) for number in range(1, 33)} == {endpoint(4, 2)}
        assert not node.again().changed


def test_affinity_comes_and_goes(node: Node) -> None:
    with servers(4):
        node.program(service("web", VIP[4], [1, 2], **sticky()))
        assert len(answers(4, 10)) == 1
        node.program(service("web", VIP[4], [1, 2]))
        assert len(answers(4)) == 2
        assert remembered(node, 4) == []


# ------------------------------------------------------------------------------------------------- others, and drift


def test_what_is_not_ours_stays(node: Node) -> None:
    theirs = (
        "table ip other { set s { type ipv4_addr; elements = { 10.0.0.1 }\n }\n chain c { ip saddr @s drop\n }\n}\n"
    )
    node.sh("nft -f -", theirs)
    before = node.sh("nft list table ip other")
    node.program(service("web", VIP[4], [1, 2], **sticky()))
    node.remove()
    assert node.sh("nft list tables").split("\n") == ["table ip other", ""]
    assert node.sh("nft list table ip other") == before


def test_a_move_of_the_generation_by_others_changes_nothing(node: Node) -> None:
    node.program(service("web", VIP[4], [1, 2], **sticky()))
    node.sh("nft add table ip other")
    outcome = node.again()
    assert (outcome.changed, outcome.drift) == (False, [])


@pytest.mark.parametrize(
    "command",
    [
        "delete element ip servicenet service { 10.96.0.1 . 6 . 80 }",
        "delete element ip servicenet endpoint_tcp { 10.96.0.1 . 80 . 0 }",
        "flush map ip servicenet endpoint_tcp",
        "flush chain ip servicenet internal_sticky_2",
        "flush chain ip servicenet recall",
        "flush chain ip servicenet learn_600",
        "flush chain ip servicenet output",
        "insert rule ip servicenet output drop",
        "delete table ip servicenet",
    ],
)
def test_what_others_altered_is_found_told_and_repaired(node: Node, command: str) -> None:
    objects = service("web", VIP[4], [1, 2], **sticky()), service("api", "10.96.0.2", [3])
    node.program(*objects)
    before = [node.sh(f"nft -nn list table {family} servicenet") for family in ("ip", "ip6")]
    node.sh("nft -f -", command + "\n")
    outcome = node.again()
    assert outcome.changed
    assert outcome.drift
    if "10.96.0.1" in command:
        assert outcome.drift == ["shop/web:http"]
    assert [node.sh(f"nft -nn list table {family} servicenet") for family in ("ip", "ip6")] == before
    assert not node.again().changed


def test_a_changed_setting_is_no_drift(node: Node) -> None:
    node.program(service("web", VIP[4], [1, 2], **sticky()))
    outcome = node.again(masquerade_bit=3)
    assert (outcome.changed, outcome.drift) == (True, [])
    assert "0x00000008" in node.sh("nft -nn list chain ip servicenet postrouting")
    assert not node.again(masquerade_bit=3).changed


def test_nothing_is_listed_while_nobody_touched_anything(node: Node) -> None:
    node.program(service("web", VIP[4], [1, 2]))
    commands: list[list[str]] = []

    def recorded(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        commands.append(argv[1:])
        return node.plain(argv, data)

    node.run = recorded
    assert not node.again().changed
    assert commands == []
    node.program(service("web", VIP[4], [1, 2]), service("api", "10.96.0.2", [3, 4]))
    assert commands == [["-f", "-"]]


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_refused_transaction_names_the_service_and_changes_nothing(node: Node) -> None:
    node.program(service("web", VIP[4], [1, 2]))
    taken = "add element ip servicenet service { 10.96.0.2 . 6 . 80 : drop }"

    def meddling(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        if argv[1:] == ["-f", "-"]:
            node.sh("nft -f -", taken + "\n")
        return node.plain(argv, data)

    node.run = meddling
    with pytest.raises(ServicenetError, match=r"Service shop/api:http .*10\.96\.0\.2 \. 6 \. 80"):
        node.program(service("web", VIP[4], [1]), service("api", "10.96.0.2", [3]))
    with servers(4):
        assert answers(4) == {endpoint(4, 1), endpoint(4, 2)}
        node.run = node.plain
        node.again()
        assert answers(4) == {endpoint(4, 1)}
        assert ask(client(4, 1), "10.96.0.2") == endpoint(4, 3)


def test_a_node_that_lacks_something_is_told_in_words(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_tool, "KERNEL_NEEDED", (99, 0))
    with pytest.raises(PreflightError, match=r"needs Linux 99\.0|needs 99\.0"):
        node.program(service("web", VIP[4], [1]))

    def refusing(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
        if "--check" in argv and data and "random mod 2 " in data:
            return 1, "", "/dev/stdin:1:1-9: Error: Could not process rule: No such file or directory"
        return node.plain(argv, data)

    monkeypatch.undo()
    node.run = refusing
    with pytest.raises(PreflightError, match=r"balancing.*No such file"):
        node.program(service("web", VIP[4], [1]))
    assert node.sh("nft list tables") == ""

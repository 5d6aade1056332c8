# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import corefile, dns, snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    GuardError,
    PreflightError,
    SnapshotError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import coredns, files

LISTEN = ("127.0.0.99",)


def service(number: int, **spec: Any) -> dict[str, Any]:
    given = {"clusterIPs": [f"10.96.0.{number}"], "ports": [{"name": "http", "port": 80}], **spec}
    return {"kind": "Service", "metadata": {"namespace": "default", "name": f"s{number}"}, "spec": given}


class Node:
    """A node in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def hand_over(self, *objects: Any) -> None:
        (self.root / "snapshot").write_bytes(snapshot.dump(build_snapshot(objects)))

    def request(self, now: int = 1000, check: bool = False, mode: str = "zones", **served: Any) -> coredns.Request:
        kept = corefile.CorefileOptions(mode, "cluster.local.", LISTEN, 53, (), (), **served)
        cidrs = ["10.96.0.0/16"]
        return coredns.Request(
            str(self.root / "snapshot"),
            dns.options(servers=LISTEN, reverse_cidrs=cidrs) if mode == "zones" else None,
            kept,
            str(self.root / "zones"),
            str(self.root / "Corefile"),
            str(self.root / "state"),
            str(self.root / "run"),
            now,
            check,
        )

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Inode and content of all files, but for the lock."""
        paths = [p for p in self.root.rglob("*") if p.is_file() and "run" not in p.parts]
        return {str(p.relative_to(self.root)): (p.stat().st_ino, p.read_bytes()) for p in paths}

    @property
    def zone(self) -> Path:
        return self.root / "zones/db.cluster.local"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    made.hand_over(service(1), service(2))
    return made


def test_the_first_run_writes_and_the_second_does_not(node: Node) -> None:
    first = coredns.present(node.request())
    assert (first.changed, first.corefile_changed) == (True, True)
    assert first.zones_changed == ["cluster.local.", "96.10.in-addr.arpa."]
    assert "default/s1: s1.default.svc.cluster.local. 5 IN A 10.96.0.1" in first.after
    held = node.files()
    assert node.zone.stat().st_mode & 0o777 == 0o644
    second = coredns.present(node.request(now=2000))
    assert (second.changed, second.before, second.after) == (False, [], [])
    assert (second.facts["zones"], second.facts["records_added"]) == (first.facts["zones"], 0)
    assert node.files() == held


def test_check_mode_says_the_same_and_writes_nothing(node: Node) -> None:
    told = coredns.present(node.request(check=True))
    assert set(node.files()) == {"snapshot"}
    assert told == coredns.present(node.request())


def test_a_lost_state_file_changes_no_zone(node: Node) -> None:
    coredns.present(node.request())
    held = node.zone.stat().st_ino
    (node.root / "state/dns.json").write_text("{")
    assert not coredns.present(node.request(now=5000)).changed
    assert node.zone.stat().st_ino == held


def test_a_deleted_zone_gets_a_serial_that_was_never_served(node: Node) -> None:
    coredns.present(node.request(now=9000))
    node.zone.unlink()
    coredns.present(node.request(now=10))
    assert " 9001 7200" in node.zone.read_text()


def test_another_snapshot_with_the_same_records_writes_no_zone(node: Node) -> None:
    coredns.present(node.request())
    held = node.zone.stat().st_ino
    node.hand_over(service(1, externalIPs=["198.18.0.7"]), service(2))
    assert not coredns.present(node.request()).changed
    assert node.zone.stat().st_ino == held
    assert json.loads((node.root / "state/dns.json").read_text())["facts"]["digest"]


def test_zones_that_are_no_longer_served_go_after_the_corefile(node: Node) -> None:
    coredns.present(node.request())
    stranger = node.root / "zones/db.mine.example"
    stranger.write_text("mine.example. IN SOA a. b. 1 2 3 4 5\n")
    request = node.request()
    narrower = request._replace(zones=dns.options(servers=LISTEN, reverse_cidrs=[]))
    outcome = coredns.present(narrower)
    assert outcome.corefile_changed
    assert sorted(p.name for p in (node.root / "zones").iterdir()) == ["db.cluster.local", "db.mine.example"]
    coredns.absent(narrower)
    assert set(node.files()) == {"snapshot", "zones/db.mine.example"}
    assert not coredns.absent(narrower).changed


def test_a_snapshot_that_is_broken_or_lost_most_leaves_everything(node: Node) -> None:
    coredns.present(node.request())
    held = node.files()
    (node.root / "snapshot").write_bytes(b"rubbish")
    with pytest.raises(SnapshotError):
        coredns.present(node.request())
    node.hand_over()
    with pytest.raises(GuardError):
        coredns.present(node.request())
    (node.root / "snapshot").unlink()
    with pytest.raises(SnapshotError, match="There is no snapshot"):
        coredns.present(node.request())
    now = node.files()
    assert {k: v for k, v in now.items() if k != "snapshot"} == {k: v for k, v in held.items() if k != "snapshot"}


def test_problems_are_repeated_while_they_last(node: Node) -> None:
    node.hand_over(service(1), service(2, type="ExternalName", externalName="10.0.0.1", clusterIPs=[], ports=[]))
    for _run in range(2):
        outcome = coredns.present(node.request())
        assert [warning.split(":")[0] for warning in outcome.warnings] == ["Service default/s2"]


def test_leftovers_of_a_killed_run_go(node: Node) -> None:
    coredns.present(node.request())
    (node.root / "zones/.db.cluster.local.x1").write_text("half")
    node.hand_over(service(1), service(2), service(3))
    coredns.present(node.request())
    assert sorted(p.name for p in (node.root / "zones").iterdir()) == ["db.96.10.in-addr.arpa", "db.cluster.local"]


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


@pytest.mark.parametrize("at", range(1, 13))
def test_copies_are_those_of_what_is_served_after_a_kill_at_any_write(
    node: Node, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """They serve where a file is broken when CoreDNS starts: an old one would bring back what is long gone."""
    coredns.present(node.request())
    node.hand_over(service(1), service(2), service(3))
    wider = node.request(2000)._replace(zones=dns.options(servers=LISTEN, reverse_cidrs=["10.96.0.0/24"]))
    deeds = 0

    def counting(deed: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **more: Any) -> Any:
            nonlocal deeds
            deeds += 1
            if deeds == at:
                raise Killed
            return deed(*arguments, **more)

        return done

    with monkeypatch.context() as during, contextlib.suppress(Killed):
        for name in ("write_atomic", "write_json", "remove"):
            during.setattr(files, name, counting(getattr(files, name)))
        coredns.present(wider)
    coredns.present(wider)
    served = {p.name: p.read_bytes() for p in [*(node.root / "zones").iterdir(), node.root / "Corefile"]}
    assert {p.name: p.read_bytes() for p in (node.root / "state/dns-copies").iterdir()} == served
    assert not coredns.present(wider).changed
    coredns.absent(wider)
    assert set(node.files()) == {"snapshot"}


def test_the_mode_that_asks_the_api_server_needs_no_snapshot(node: Node) -> None:
    (node.root / "snapshot").unlink()
    assert coredns.present(node.request(mode="kubernetes", kubeconfig="/etc/servicenet/coredns.kubeconfig")).changed
    assert set(node.files()) == {"Corefile", "state/dns.json", "state/dns-copies/Corefile"}
    assert not coredns.present(node.request(mode="kubernetes", kubeconfig="/etc/servicenet/coredns.kubeconfig")).changed


def test_a_program_that_has_the_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError, match=rf"\(process \d+\) listens on 127.0.0.1 port {port} \(UDP\)"):
            coredns.refuse_conflicts(["127.0.0.1"], port, "/etc/servicenet/Corefile")
        coredns.refuse_conflicts(["127.0.0.2"], port, "/etc/servicenet/Corefile")

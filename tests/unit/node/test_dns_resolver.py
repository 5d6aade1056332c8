# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from unit.node.fakes import FakeRunner

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns_resolv_conf
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns_message import Message
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns_records import Record
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import (
    NoAnswer,
    PreflightError,
    ServicenetError,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import dns_client, files, resolver

OURS = "169.254.20.10"
ORIGINAL = "# from the installer\nsearch example.org\nnameserver 198.18.0.53\noptions ndots:2"
ANSWERED = Message(1, "NOERROR", False, True, (Record("dns-version.cluster.local.", "TXT", '"1.1.0"', 28800),), (), ())
RESTART = "systemctl restart systemd-resolved.service"


class Answers:
    """Stands in for the network: which servers answer, and who was asked."""

    def __init__(self, *servers: str) -> None:
        self.servers = servers
        self.asked: list[str] = []

    def __call__(self, server: str, port: int, name: str, kind: str) -> Message:
        self.asked.append(f"{server}:{port} {name} {kind}")
        if server not in self.servers:
            raise NoAnswer(f"{server} does not answer")
        return ANSWERED


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Every server answers."""
    made = Answers(OURS, resolver.STUB)
    monkeypatch.setattr(dns_client, "ask", made)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with a plain resolv.conf."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(ORIGINAL)
    return tmp_path


def request(root: Path, check: bool = False, port: int = 53) -> resolver.Request:
    zones = ("cluster.local.", "96.10.in-addr.arpa.")
    return resolver.Request((OURS,), port, "cluster.local.", zones, str(root / "state"), check, str(root))


def runs_resolved(root: Path) -> FakeRunner:
    (root / "etc/resolv.conf").unlink()
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    upstreams = root / resolver.RESOLVED_UPSTREAMS
    upstreams.parent.mkdir(parents=True)
    upstreams.write_text("nameserver 198.18.0.54\nnameserver 127.0.0.53\n")
    return FakeRunner({RESTART: ""})


def test_a_plain_file_names_our_server_alone_and_comes_back_as_it_was(root: Path, answers: Answers) -> None:
    path = root / "etc/resolv.conf"
    run = FakeRunner({})
    assert resolver.present(request(root), run).changed
    assert path.read_text() == dns_resolv_conf.NOTE + (
        f"nameserver {OURS}\n# from the installer\nsearch example.org\noptions ndots:2\n"
    )
    assert answers.asked == [f"{OURS}:53 dns-version.cluster.local. TXT"]
    assert not resolver.present(request(root), run).changed
    assert resolver.absent(request(root), run).changed
    assert path.read_text() == ORIGINAL
    assert not resolver.absent(request(root), run).changed
    assert run.calls == []


def test_nothing_is_touched_before_the_server_has_answered(root: Path, answers: Answers) -> None:
    answers.servers = ()
    with pytest.raises(ServicenetError, match="nothing was changed"):
        resolver.present(request(root), FakeRunner({}))
    assert (root / "etc/resolv.conf").read_text() == ORIGINAL
    assert not (root / "state").exists()


def test_check_mode_asks_nobody_and_writes_nothing(root: Path, answers: Answers) -> None:
    outcome = resolver.present(request(root, check=True), FakeRunner({}))
    assert (outcome.changed, outcome.kind) == (True, resolver.PLAIN)
    assert f"nameserver {OURS}" in outcome.after
    assert answers.asked == []
    assert (root / "etc/resolv.conf").read_text() == ORIGINAL


def test_systemd_resolved_gets_a_drop_in_for_our_zones(root: Path, answers: Answers) -> None:
    run = runs_resolved(root)
    drop_in = root / resolver.RESOLVED_DROP_IN
    assert resolver.present(request(root), run).kind == resolver.RESOLVED
    assert drop_in.read_text() == dns_resolv_conf.NOTE + (
        f"[Resolve]\nDNS={OURS}\nDomains=~cluster.local ~96.10.in-addr.arpa\n"
    )
    assert run.commands == [RESTART]
    assert answers.asked[-1].startswith(resolver.STUB)
    assert (root / "etc/resolv.conf").is_symlink()
    resolver.absent(request(root), run)
    assert not drop_in.exists()
    assert run.commands == [RESTART, RESTART]


def test_a_directory_that_was_made_for_a_drop_in_goes_with_it_if_it_is_empty(root: Path) -> None:
    run = runs_resolved(root)
    directory = (root / resolver.RESOLVED_DROP_IN).parent
    resolver.present(request(root), run)
    resolver.present(request(root)._replace(zones=("cluster.local.",)), run)
    resolver.absent(request(root), run)
    assert not directory.exists()
    resolver.present(request(root), run)
    (directory / "theirs.conf").write_text("")
    resolver.absent(request(root), run)
    assert [path.name for path in directory.iterdir()] == ["theirs.conf"]
    resolver.present(request(root), run)
    (directory / "theirs.conf").unlink()
    resolver.absent(request(root), run)
    assert directory.is_dir()


def test_systemd_resolved_asks_behind_the_device_where_there_is_one(root: Path) -> None:
    (root / "sys/class/net/servicenet0").mkdir(parents=True)
    runs_resolved(root)
    told = [
        f"resolvectl dns servicenet0 {OURS}",
        "resolvectl domain servicenet0 ~cluster.local ~96.10.in-addr.arpa",
        "resolvectl default-route servicenet0 false",
    ]
    taken_back = ["resolvectl revert servicenet0", "systemctl daemon-reload"]
    run = FakeRunner(dict.fromkeys([*told, *taken_back], ""))
    resolver.present(request(root), run)
    drop_in = root / resolver.LINK_DROP_IN
    assert [line for line in drop_in.read_text().splitlines() if "resolvectl" in line] == [
        f"ExecStartPost=-{command}" for command in told
    ]
    assert run.commands == [*told, "systemctl daemon-reload"]
    assert not (root / resolver.RESOLVED_DROP_IN).exists()
    resolver.absent(request(root), run)
    assert run.commands[-2:] == taken_back
    assert not drop_in.exists()


def test_another_program_that_took_over_gets_its_own_settings(root: Path) -> None:
    resolver.present(request(root), FakeRunner({}))
    run = runs_resolved(root)
    resolver.present(request(root), run)
    assert (root / resolver.RESOLVED_DROP_IN).exists()
    resolver.absent(request(root), run)
    assert not (root / resolver.RESOLVED_DROP_IN).exists()
    assert (root / "etc/resolv.conf").is_symlink()


def test_a_resolver_that_does_not_answer_afterwards_is_put_back(root: Path, answers: Answers) -> None:
    run = runs_resolved(root)
    answers.servers = (OURS,)
    with pytest.raises(ServicenetError, match="former settings were put back"):
        resolver.present(request(root), run)
    assert not (root / resolver.RESOLVED_DROP_IN).exists()
    assert run.commands == [RESTART, RESTART]


def test_network_manager_gets_a_drop_in(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("# Generated by NetworkManager\nnameserver 198.18.0.53\n")
    run = FakeRunner({"nmcli general reload": ""})
    resolver.present(request(root), run)
    assert f"[global-dns-domain-*]\nservers={OURS}\n" in (root / resolver.MANAGER_DROP_IN).read_text()
    assert run.commands == ["nmcli general reload"]


@pytest.mark.parametrize("target", ["/run/resolvconf/resolv.conf", "/etc/resolv.conf.static"])
def test_a_link_to_somebody_elses_file_is_refused(root: Path, target: str) -> None:
    (root / "etc/resolv.conf").unlink()
    (root / "etc/resolv.conf").symlink_to(target)
    with pytest.raises(PreflightError, match="is a link to " + target):
        resolver.present(request(root), FakeRunner({}))


def test_what_somebody_else_changed_since_stays(root: Path) -> None:
    path = root / "etc/resolv.conf"
    resolver.present(request(root), FakeRunner({}))
    path.write_text("nameserver 198.18.0.99\n")
    outcome = resolver.absent(request(root), FakeRunner({}))
    assert "changed by somebody else" in outcome.warnings[0]
    assert path.read_text() == "nameserver 198.18.0.99\n"


def test_a_file_that_is_a_mount_is_written_in_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = files.write_atomic

    def busy(path: str, data: bytes, mode: int = 0o600) -> None:
        if path.endswith("resolv.conf"):
            raise ServicenetError(f"{path} can't be written.") from OSError(errno.EBUSY, "busy")
        write(path, data, mode)

    monkeypatch.setattr(files, "write_atomic", busy)
    resolver.present(request(root), FakeRunner({}))
    assert f"nameserver {OURS}" in (root / "etc/resolv.conf").read_text()
    resolver.absent(request(root), FakeRunner({}))
    assert (root / "etc/resolv.conf").read_text() == ORIGINAL
    # Not there any more, nor can it be made.
    (root / "etc/resolv.conf").unlink()
    (root / "etc").rename(root / "gone")
    with pytest.raises(ServicenetError, match=r"resolv.conf can't be written: No such file or directory"):
        resolver.present(request(root), FakeRunner({}))


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def killed(_argv: list[str], _data: str | None = None) -> tuple[int, str, str]:
    raise Killed


def test_a_run_that_was_killed_before_it_told_the_program_is_completed(root: Path) -> None:
    run = runs_resolved(root)
    with pytest.raises(Killed):
        resolver.present(request(root), killed)
    assert (root / resolver.RESOLVED_DROP_IN).exists()
    assert resolver.present(request(root, check=True), run).changed
    assert run.commands == []
    assert resolver.present(request(root), run).changed
    assert run.commands == [RESTART]
    assert not resolver.present(request(root), run).changed
    with pytest.raises(Killed):
        resolver.absent(request(root), killed)
    assert not (root / resolver.RESOLVED_DROP_IN).exists()
    run.calls.clear()
    outcome = resolver.absent(request(root), run)
    assert (outcome.changed, outcome.warnings, run.commands) == (True, [], [RESTART])
    assert not resolver.absent(request(root), run).changed


def test_bytes_of_another_encoding_come_back_as_they_were(root: Path) -> None:
    original = ORIGINAL.encode() + "\n# Büro\n".encode("latin-1")
    path = root / "etc/resolv.conf"
    path.write_bytes(original)
    outcome = resolver.present(request(root), FakeRunner({}))
    assert "# B\N{REPLACEMENT CHARACTER}ro" in outcome.after
    assert f"nameserver {OURS}".encode() in path.read_bytes()
    assert "# Büro".encode("latin-1") in path.read_bytes()
    resolver.absent(request(root), FakeRunner({}))
    assert path.read_bytes() == original


def test_upstreams_are_found_and_remembered(root: Path) -> None:
    def found() -> list[str]:
        return resolver.upstreams(str(root / "state"), (OURS,), str(root))

    assert found() == ["198.18.0.53"]
    resolver.present(request(root), FakeRunner({}))
    assert found() == ["198.18.0.53"]
    runs_resolved(root)
    assert found() == ["198.18.0.54"]


def test_a_node_that_asks_nobody_has_no_upstreams(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    assert resolver.upstreams(str(root / "state"), (OURS,), str(root)) == []


def test_what_a_server_would_not_be_asked_at_is_no_upstream(root: Path) -> None:
    text = "".join(f"nameserver {server}\n" for server in ("0.0.0.0", "x", "fd00::53", "FD00:0::53"))
    (root / "etc/resolv.conf").write_text(text)
    assert resolver.upstreams(str(root / "state"), ("fd00::53",), str(root)) == []


def test_another_port_is_refused_where_none_can_be_named(root: Path) -> None:
    with pytest.raises(PreflightError, match="port 53"):
        resolver.present(request(root, port=5353), FakeRunner({}))

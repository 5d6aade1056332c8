# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kernel settings come back exactly, and what somebody else changed is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import sysctl
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.sysctl import Settings

FORWARD = "net/ipv4/ip_forward"
MAX = "net/netfilter/nf_conntrack_max"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /proc/sys, in the first boot."""
    root = tmp_path / "sys"
    for name, value in {
        FORWARD: "0\n",
        MAX: "100\n",
        "net/ipv4/conf/eth0.5/forwarding": "1\n",
        "net/ipv4/conf/all/forwarding": "0\n",
        "net/ipv4/conf/all/accept_redirects": "0\n",
        "net/ipv4/ip_local_port_range": "32768\t60999\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    monkeypatch.setattr(sysctl, "ROOT", str(root))
    monkeypatch.setattr(sysctl, "boot_id", lambda: "boot-1")
    return root


@pytest.fixture
def state(tmp_path: Path) -> Settings:
    return Settings(str(tmp_path / "state" / "sysctls.json"))


@pytest.mark.usefixtures("kernel")
def test_reading() -> None:
    assert sysctl.read("net/ipv4/ip_local_port_range") == "32768 60999"
    assert sysctl.read("net/ipv4/nothing") is None
    for hostile in ("../x", "net/../../etc", "/etc/passwd", "", "net//ipv4"):
        with pytest.raises(ServicenetError, match="no name of a kernel setting"):
            sysctl.read(hostile)


def test_settings_are_set_once_and_come_back(kernel: Path, state: Settings) -> None:
    wanted = [(FORWARD, "1"), (MAX, "200")]
    assert [(one.name, one.old, one.new) for one in state.apply(wanted)] == [(FORWARD, "0", "1"), (MAX, "100", "200")]
    assert (kernel / MAX).read_text() == "200\n"
    assert state.apply(wanted) == []
    restored, left = state.restore()
    assert {one.name for one in restored} == {FORWARD, MAX}
    assert left == []
    assert sysctl.read(FORWARD) == "0"
    assert sysctl.read(MAX) == "100"
    assert state.restore() == ([], [])


def test_the_first_old_value_counts(state: Settings, kernel: Path) -> None:
    state.apply([(MAX, "200")])
    state.apply([(MAX, "300")])
    state.restore()
    assert (kernel / MAX).read_text() == "100\n"


def test_what_the_kernel_changed_along_comes_back(state: Settings, kernel: Path) -> None:
    state.apply([(FORWARD, "1")])
    (kernel / "net/ipv4/conf/all/accept_redirects").write_text("1")
    (kernel / "net/ipv4/conf/eth0.5/forwarding").write_text("0")
    state.restore()
    assert (kernel / "net/ipv4/conf/all/accept_redirects").read_text() == "0\n"
    assert (kernel / "net/ipv4/conf/eth0.5/forwarding").read_text() == "1\n"


def test_what_somebody_else_changed_later_is_left(state: Settings, kernel: Path) -> None:
    state.apply([(MAX, "200")])
    (kernel / MAX).write_text("999")
    restored, (sentence,) = state.restore()
    assert restored == []
    assert "is 999" in sentence
    assert "was 100 before" in sentence
    assert (kernel / MAX).read_text() == "999"


def test_a_boot_forgets(state: Settings, kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.apply([(MAX, "200")])
    monkeypatch.setattr(sysctl, "boot_id", lambda: "boot-2")
    assert state.restore() == ([], [])
    assert (kernel / MAX).read_text() == "200\n"


def test_a_run_killed_before_the_settings_can_be_undone(
    state: Settings, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old values are on the disk before anything changes."""

    def killed(_name: str, _value: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sysctl, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            state.apply([(MAX, "200"), (FORWARD, "1")])
    (kernel / MAX).write_text("200")
    restored, left = state.restore()
    assert [one.name for one in restored] == [MAX]
    assert left == []
    assert (kernel / MAX).read_text() == "100\n"


@pytest.mark.usefixtures("kernel")
def test_broken_state_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sysctls.json"
    state = Settings(str(path))
    for content in ("{", "[]", '{"boot": "boot-1"}', "7"):
        path.write_text(content)
        assert state.remembered() == []
        assert str(path) in state.warning


def test_a_setting_that_is_refused_is_named(state: Settings, kernel: Path) -> None:
    (kernel / MAX).unlink()
    (kernel / MAX).mkdir()
    with pytest.raises(ServicenetError, match=MAX):
        sysctl.write(MAX, "1")
    assert state.apply([]) == []


def test_a_timeout_of_ipvs_is_a_setting(state: Settings, kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"ipvs/tcp": "900"}
    monkeypatch.setattr(sysctl.ipvs_timeouts, "read", held.get)
    monkeypatch.setattr(sysctl.ipvs_timeouts, "write", held.__setitem__)
    assert sysctl.writable("ipvs/tcp")
    assert [one.old for one in state.apply([("ipvs/tcp", "1800"), (MAX, "200")])] == ["900", "100"]
    assert held == {"ipvs/tcp": "1800"}
    assert state.apply([("ipvs/tcp", "1800")]) == []
    assert [one.name for one in state.restore()[0]] == [MAX, "ipvs/tcp"]
    assert held == {"ipvs/tcp": "900"}
    assert (kernel / MAX).read_text() == "100\n"

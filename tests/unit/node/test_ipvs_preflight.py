# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode finds missing in kernels that are made up; see test_ipvs_node.py for real ones."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from unit.node.fakes import Answer, FakeRunner, found_in

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NetlinkError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import ipvs_preflight
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs_preflight import lacking
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.runner import MissingToolError

TOOLS = ("ipset", "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore")


class Kernel(FakeRunner):
    """A kernel with IPVS or without, and what modprobe, ipset and iptables do to it.

    :param loadable: modules that modprobe finds.
    :param inside: what is loaded or built in.
    """

    def __init__(self, loadable: Sequence[str], inside: Sequence[str]) -> None:
        super().__init__({"/sbin/iptables-legacy -V": "iptables v1.8.9 (legacy)"})
        self.loadable, self.there = set(loadable), set(inside)
        self.sets: set[str] = set()

    def __call__(self, argv: list[str], data: str | None = None) -> Answer:
        if argv[0] == "modprobe":
            self.calls.append((" ".join(argv), data))
            if argv[-1] not in self.loadable | self.there:
                return (1, "", "not found")
            if "--dry-run" not in argv:
                self.there.add(argv[-1])
            return (0, "", "")
        if argv[0] == "/sbin/ipset" or argv[0].endswith("-restore"):
            self.calls.append((" ".join(argv), data))
            return self._ipset(argv, data or "") if argv[0] == "/sbin/ipset" else self._iptables(data or "")
        return super().__call__(argv, data)

    def _ipset(self, argv: list[str], data: str) -> Answer:
        if argv[1] == "destroy":
            self.sets.discard(argv[2])
            return (0, "", "")
        for line in data.splitlines():
            _create, name, kind = line.split(" ")[:3]
            if "ip_set_" + kind.replace(":", "_").replace(",", "") not in self.there:
                return (1, "", "Kernel error received: set type not supported")
            self.sets.add(name)
        return (0, "", "")

    def _iptables(self, data: str) -> Answer:
        assert {word for word in data.split() if word.startswith("SERVICENET-PROBE-")} <= self.sets
        lacks = "xt_set" not in self.there and "-m set" in data
        return (0, "", "Extension set revision 0 not supported, missing kernel module?") if lacks else (0, "", "")

    # ---- IPVS

    def __enter__(self) -> Kernel:
        if "ip_vs" not in self.there:
            raise NetlinkError("change or list virtual servers (IPVS)", errno.ENOENT)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def has_scheduler(self, name: str) -> bool:
        return f"ip_vs_{name}" in self.there


ALL = ["ip_vs", "ip_vs_rr", "ip_vs_wlc", "nf_conntrack", "xt_set", "xt_ipvs", "ip_set"]
ALL += ["ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportnet", "ip_set_hash_netport"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories in the place of /sys/module and /lib/modules."""
    monkeypatch.setattr(ipvs_preflight, "LOADED", str(tmp_path / "loaded"))
    monkeypatch.setattr(ipvs_preflight, "MODULES", str(tmp_path / "modules"))
    (tmp_path / "modules" / os.uname().release).mkdir(parents=True)
    monkeypatch.setattr(ipvs_preflight.sysctl, "read", lambda _name: "0")
    return tmp_path


def asked(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, load: bool = True, tools: Sequence[str] = TOOLS
) -> list[str]:
    """What this kernel lacks for rr and wlc."""
    monkeypatch.setattr(ipvs_preflight, "Ipvs", lambda: kernel)
    return lacking(kernel, ["wlc", "rr", "rr"], (4,), "legacy", load, found_in(*tools))


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("loadable", [ALL, []])
def test_a_fit_kernel_is_tried_and_left_as_it_was(loadable: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Built in, without modprobe knowing anything, or as modules."""
    kernel = Kernel(loadable, [] if loadable else ALL)
    if loadable:
        kernel.there.add("xt_set")  # iptables has it loaded, nobody else has to
    assert asked(kernel, monkeypatch) == []
    assert kernel.sets == set()


@pytest.mark.usefixtures("place")
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(Kernel([], []), monkeypatch)[0] == "ip_vs"
    without = ["ip_vs_wlc", "ip_set_hash_ipportnet"]
    kernel = Kernel([], [name for name in ALL if name not in without])
    assert asked(kernel, monkeypatch) == ["ip_vs_wlc", "ip_set_hash_ipportnet for IPv4"]
    assert kernel.sets == set()
    assert asked(Kernel([], [name for name in ALL if name != "xt_set"]), monkeypatch) == ["xt_set for IPv4"]


@pytest.mark.usefixtures("place")
def test_ipvs_without_connection_tracking_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipvs_preflight.sysctl, "read", lambda _name: None)
    assert asked(Kernel([], ALL), monkeypatch) == [ipvs_preflight.TRACKING]


def test_check_mode_tries_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel([name for name in ALL if name not in ("ip_vs_wlc", "xt_ipvs")], [])
    (place / "loaded" / "xt_ipvs").mkdir(parents=True)
    assert asked(kernel, monkeypatch, load=False, tools=[]) == ["ip_vs_wlc"]
    assert {command.rsplit(" ", 1)[0] for command in kernel.commands} == {"modprobe --dry-run --quiet"}
    assert kernel.there == set()
    # Without a directory of modules nothing can be told, but whether IPVS is there.
    (place / "modules" / os.uname().release).rmdir()
    assert asked(kernel, monkeypatch, load=False) == ["ip_vs"]
    assert asked(Kernel([], ["ip_vs"]), monkeypatch, load=False) == []


@pytest.mark.usefixtures("place")
def test_a_missing_tool_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingToolError, match="ipset is not installed"):
        asked(Kernel([], ALL), monkeypatch, tools=TOOLS[1:])

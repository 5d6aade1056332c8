# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every recorded case, replayed with real packets through the collection's own modules, in every mode."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from lab.modules import ModuleServer
from uml.machine import has_ip_vs

from conformance.packets import deviations
from conformance.packets.adapter_servicenet import Servicenet
from conformance.packets.packet_lab import PacketLab
from conformance.packets.run import CASES, MODES, Replay, case_names, checks_of, load_case, replay
from conformance.random.known import known

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

LABS, FEW = 2, 8
# What is tried -> (mode of the recordings, variant of iptables, a tool that it needs)
VARIANTS = {
    "iptables-nft": ("iptables", "nft", "iptables-nft"),
    "iptables-legacy": ("iptables", "legacy", "iptables-legacy"),
    "nftables": ("nftables", "", "nft"),
    "userspace": ("userspace", "", "nft"),
}
if has_ip_vs():  # elsewhere test_packets_in_uml.py replays them
    VARIANTS["ipvs"] = ("ipvs", "legacy", "ipset")
# More cases may be recorded just before, see test_packets_in_uml.py.
DIRECTORIES = [CASES, *map(Path, filter(None, [os.environ.get("SERVICENET_RECORDED")]))]
WHERE = {name: directory for directory in DIRECTORIES for name in case_names(["*"], directory)}
ITEMS = [pytest.param(variant, name, id=f"{variant}-{name}") for variant in VARIANTS for name in WHERE]


class Replays:
    """Runs the cases of a variant ahead of the tests that ask for them, two labs side by side."""

    def __init__(self, stack: contextlib.ExitStack, wanted: list[tuple[str, str]]) -> None:
        self.wanted = wanted
        self.free: queue.SimpleQueue[tuple[PacketLab, ModuleServer]] = queue.SimpleQueue()
        # To build one takes as long as some cases do.
        for _lab in range(LABS if len(wanted) > FEW else 1):
            lab = stack.enter_context(PacketLab())
            self.free.put((lab, stack.enter_context(ModuleServer(lab.node))))
        self.pool = ThreadPoolExecutor(LABS)
        stack.callback(self.pool.shutdown, cancel_futures=True)
        self.results: dict[tuple[str, str], Future[Replay]] = {}

    def of(self, variant: str, name: str) -> Replay:
        """The replay of a case. Those of other variants are not begun: another process may be at them."""
        if (variant, name) not in self.results:
            self.results |= {item: self.pool.submit(self.one, *item) for item in self.wanted if item[0] == variant}
        return self.results[variant, name].result()

    def one(self, variant: str, name: str) -> Replay:
        """One case in whichever lab is free."""
        mode, of_iptables, _tool = VARIANTS[variant]
        lab, server = self.free.get()
        try:
            proxy = functools.partial(Servicenet, server, mode, of_iptables)
            return replay(name, proxy, mode, lab, with_health=True, known=known(), cases=WHERE[name])
        finally:
            self.free.put((lab, server))


@pytest.fixture(scope="module")
def replays(request: pytest.FixtureRequest) -> Iterator[Replays]:
    """The replays of the cases that were selected."""
    wanted = [
        (item.callspec.params["variant"], item.callspec.params["name"])
        for item in request.session.items
        if item.path == request.path and getattr(item, "callspec", None) and "variant" in item.callspec.params
    ]
    with contextlib.ExitStack() as stack:
        yield Replays(stack, wanted)


@pytest.mark.parametrize(("variant", "name"), ITEMS)
def test_case(replays: Replays, variant: str, name: str) -> None:
    """All packets of a case go where the real kube-proxy lets them go, and a cleanup leaves nothing."""
    if shutil.which(VARIANTS[variant][2]) is None:
        pytest.skip(f"there is no {VARIANTS[variant][2]} on this machine")
    done = replays.of(variant, name)
    assert not done.failures, "\n".join(["", *done.failures])
    assert done.passed


def test_deviations_mean_something() -> None:
    """Every entry of deviations.yaml covers a check in each of its modes, so that none outlives its reason."""
    for deviation in deviations.load():
        assert deviation.reason
        for mode in deviation.modes:
            assert mode in MODES
            assert any(
                deviation.covers(name, check.label, mode, check.probe["expected"])
                for name in case_names([deviation.case])
                for check in checks_of(load_case(name), mode)
            ), (deviation, mode)


def test_deviations_are_documented(checkout: Path) -> None:
    """docs/conformance.md shows the very table of deviations.yaml."""
    page = (checkout / "docs" / "conformance.md").read_text()
    assert deviations.table(deviations.load()) in page

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From each mode to each other one, as the role service_proxy does it (the new mode runs, then the old one ends), while
connections come and go: none fails, and those that were there stay. docs/mode-switch.md has the table."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from integration.services_lab import (
    IPVS,
    STREAM,
    USERSPACE,
    VARIANTS,
    ModuleServer,
    ServicesLab,
    ServicesNode,
    Variant,
    module_server,
    service,
    services_lab,
    vip,
)
from integration.test_services_load import Traffic
from uml.machine import has_ip_vs

__all__ = ["module_server", "services_lab"]

SWITCHES = list(itertools.permutations(("iptables", "nftables", "userspace", "ipvs"), 2))
# Those of iptables on each of its variants. Those of ipvs are in test_ipvs_switch.py.
ALL = [
    (variant, old, new)
    for variant in ("iptables-nft", "iptables-legacy")
    for old, new in SWITCHES
    if variant == "iptables-nft" or "iptables" in (old, new)
]
CASES = [case for case in ALL if "ipvs" not in case]
WEB = service("web", 10, {"pod-a1": "ready", "pod-b1": "ready"}, stream=True, nodePort=30080, type="NodePort")


class Switch:
    """A node, and runs of any mode on it."""

    def __init__(self, node: ServicesNode, modes: dict[str, Variant]) -> None:
        self.node, self.modes = node, modes

    def run(self, mode: str, **options: Any) -> dict[str, Any]:
        """A run of a mode's module that must succeed."""
        arguments = self.node.arguments(**self.modes[mode].options, **options)
        result = self.node.start_module(f"{mode}_services", arguments).wait()
        assert not result.get("failed"), result["msg"]
        return result

    def under_load(self, old: str, new: str, leaving: Mapping[str, Any] = MappingProxyType({})) -> None:
        """From one mode to another while connections come and go: none fails, and those that were there stay.

        :param leaving: with these options, a later run of the old mode takes away what it left for its connections.
        """
        node = self.node
        node.give(WEB)
        self.run(old)
        both = [(vip(10), 80), (vip(10, 6), 80)]
        inside = Traffic(node, "pod-a3", tcp=both, streams=[(vip(10, family), STREAM) for family in (4, 6)] * 3)
        outside = Traffic(node, "ext", tcp=[("198.18.1.1", 30080), ("fd98:1::1", 30080)])
        try:
            assert set(node.probe("host", vip(10), count=32)) == {"pod-a1:8080", "pod-b1:8080"}
            assert self.run(new)["changed"]
            assert self.run(old, state="absent")["changed"]
            assert set(node.probe("host", vip(10), count=32)) == {"pod-a1:8080", "pod-b1:8080"}
        finally:
            reports = {"inside": inside.end(), "outside": outside.end()}
        for place, report in reports.items():
            for kind, tally in report.items():
                assert tally["failed"] == [], (place, kind)
                assert sum(tally["who"].values()) >= (6 if kind == "streams" else 10), (place, kind)
        # Both again, as a resync does it: nothing is left to do.
        assert not self.run(new)["changed"]
        if leaving:
            self.run(old, state="absent", **leaving)
        assert not self.run(old, state="absent")["changed"]


@pytest.fixture
def switch(
    request: pytest.FixtureRequest, services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path
) -> Iterator[Switch]:
    """A node without any rules; in the end it has none again. The parameter is the variant of iptables."""
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} on this machine")
    modes = {"iptables": VARIANTS[request.param], "nftables": VARIANTS["nftables"], "userspace": USERSPACE}
    leaving: dict[str, dict[str, Any]] = {}
    if has_ip_vs():
        modes["ipvs"] = IPVS._replace(options=VARIANTS[request.param].options)
        leaving["ipvs"] = {"ipvs_drain_seconds": 0}
    made = Switch(ServicesNode(services_lab, module_server, VARIANTS["nftables"], tmp_path), modes)
    yield made
    for mode in modes:
        made.run(mode, state="absent", **leaving.get(mode, {}))


def test_every_pair_is_in_the_documentation(checkout: Path) -> None:
    page = (checkout / "docs" / "mode-switch.md").read_text()
    for old, new in SWITCHES:
        assert f"| {old} | {new} |" in page


@pytest.mark.parametrize(("switch", "old", "new"), CASES, indirect=["switch"])
def test_connections_survive_a_switch(switch: Switch, old: str, new: str) -> None:
    switch.under_load(old, new)

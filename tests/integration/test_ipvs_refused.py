# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module ipvs_services on a node whose kernel has no ip_vs and no module for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.services_lab import (
    IPVS,
    ModuleServer,
    ServicesLab,
    ServicesNode,
    module_server,
    service,
    services_lab,
)
from uml.machine import has_ip_vs

__all__ = ["module_server", "services_lab"]
pytestmark = pytest.mark.skipif(has_ip_vs(), reason="this kernel has ip_vs")


@pytest.fixture
def node(services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path) -> ServicesNode:
    """A node without any rules."""
    return ServicesNode(services_lab, module_server, IPVS, tmp_path)


@pytest.mark.parametrize("check", [False, True])
def test_a_kernel_without_ip_vs_is_refused_and_nothing_is_written(node: ServicesNode, check: bool) -> None:
    before = node.sysctls(), node.sh("ipset save"), node.sh("ip -o link")
    node.give(service("web", 10, {"pod-a1": "ready"}))
    said = node.fail(_ansible_check_mode=check)
    assert "lacks ip_vs" in said
    assert "the mode ipvs needs" in said
    assert "choose another mode" in said
    assert (node.sysctls(), node.sh("ipset save"), node.sh("ip -o link")) == before
    assert "servicenet" not in node.rules().lower()
    assert not node.state_dir.exists()


def test_absent_has_nothing_to_do(node: ServicesNode) -> None:
    assert not node.run(state="absent")["changed"]

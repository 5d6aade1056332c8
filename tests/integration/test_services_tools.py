# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node whose tools are not installed yet: check mode tells what a run would do, and a run says what is missing."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.services_lab import VARIANTS, ServicesLab, ServicesNode, module_server, service, services_lab, vip
from lab.modules import ModuleServer

__all__ = ["module_server", "services_lab"]

WEB = service("web", 10, {"pod-a1": "ready", "pod-b1": "ready"})
IPTABLES = ("iptables-nft", "iptables-legacy")
NEEDED = {"iptables-nft": IPTABLES, "iptables-legacy": IPTABLES, "nftables": ("nft",), "userspace": ("nginx",)}


@contextlib.contextmanager
def without(server: ModuleServer, tools: tuple[str, ...]) -> Iterator[None]:
    """Modules find none of these programs."""
    enter = ["nsenter", "-t", str(server.pid), "-m"]
    with contextlib.ExitStack() as stack:
        for tool in tools:
            path = str(Path(shutil.which(tool) or "").resolve(strict=True))
            subprocess.run([*enter, "mount", "--bind", "/dev/null", path], check=True)
            stack.callback(subprocess.run, [*enter, "umount", path], check=True)
        yield


@pytest.fixture(params=VARIANTS)
def tools(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What the variant of ``node`` needs."""
    return NEEDED[request.param]


@pytest.fixture
def node(
    request: pytest.FixtureRequest, services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path
) -> Iterator[ServicesNode]:
    """A node without any rules, whose nginx ends with the test."""
    made = ServicesNode(services_lab, module_server, VARIANTS[request.node.callspec.params["tools"]], tmp_path)
    yield made
    made.run(state="absent")


def test_check_mode_needs_no_tool(node: ServicesNode, tools: tuple[str, ...]) -> None:
    node.give(WEB)
    before = node.rules()
    with without(node.server, tools):
        shown = node.check()
        assert "not installed on this node" in node.fail()
        assert not node.run(state="absent")["changed"]
    assert node.rules() == before
    assert not node.state_dir.exists()
    assert shown["changed"]
    assert any("not installed on this node. Install the package" in warning for warning in shown["warnings"])
    assert f"shop/web:tcp {vip(10)}:80/tcp -> 2 endpoints" in shown["diff"]["after"]
    assert node.run(_ansible_diff=True)["diff"] == shown["diff"]


def test_a_change_for_a_tool_that_is_gone_waits_until_it_is_back(node: ServicesNode, tools: tuple[str, ...]) -> None:
    node.give(WEB)
    node.run()
    before = node.tables()
    node.give(service("web", 10, {"pod-a2": "ready"}))
    with without(node.server, tools):
        assert "not installed on this node" in node.fail()
        assert "nginx" in tools or "not installed on this node" in node.fail(state="absent")
    assert node.tables() == before
    assert node.run()["changed"]
    assert node.probe("pod", vip(10)) == {"pod-a2:8080": 4}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules that the real kube-proxy left: an error, or removed when asked, with everything else left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.packets.reference import KubeProxy
from integration.services_lab import NODE_IPS, ServicesNode, module_server, node, service, services_lab, vip
from lab.control_plane import ControlPlane, has_peers

__all__ = ["module_server", "node", "services_lab"]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not has_peers("kube-apiserver", "kube-proxy"), reason="the real programs are not built"),
]

WEB = service("web", 10, {"pod-b1": "ready"}, ipFamilyPolicy="RequireDualStack")
# Chains that look like kube-proxy's and are not, and a jump to one, beside what kube-proxy has.
FOREIGN = """*nat
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-SVC-MINE - [0:0]
-A PREROUTING -d 203.0.113.9/32 -j KUBE-SVC-MINE
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -s 203.0.113.9/32 -j KUBE-FIREWALL
COMMIT
"""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """An API server that knows the node and the Service."""
    with ControlPlane() as made:
        addresses = [{"type": "InternalIP", "address": address} for address in NODE_IPS]
        made.api.create_all(
            [
                {"kind": "Namespace", "metadata": {"name": "shop"}},
                {"kind": "Node", "metadata": {"name": "node-a"}, "status": {"addresses": addresses}},
            ]
        )
        made.api.create_all(WEB)
        yield made


@contextlib.contextmanager
def kube_proxy(node: ServicesNode, plane: ControlPlane) -> Iterator[None]:
    """The real one, on the node, until it is killed; its rules stay."""
    mode = "nftables" if node.variant.mode == "nftables" else "iptables"
    proxy = KubeProxy(node.lab.node, node.directory / "kube-proxy", str(plane.socket))
    try:
        proxy.start(mode, {"node_name": "node-a", "cluster_cidrs": ["10.128.0.0/9", "fd80::/16"]})
        yield
    finally:
        for process in proxy.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def theirs(node: ServicesNode) -> list[str]:
    """What the node has of kube-proxy, whose name stands in each line of it."""
    return [line for line in node.rules().splitlines() if "KUBE-" in line or "kube-proxy" in line]


def reached(node: ServicesNode) -> Counter[str]:
    """Who answers, by both families."""
    return node.probe("pod", vip(10)) + node.probe("pod", vip(10, 6))


def name_plainly(variant: str, directory: Path) -> None:
    """Makes a variant of iptables the one that programs find by its plain names."""
    directory.mkdir()
    for prefix in ("iptables", "ip6tables"):
        for part in ("", "-save", "-restore"):
            (directory / f"{prefix}{part}").symlink_to(shutil.which(f"{prefix}-{variant}{part}") or "")


def test_what_kube_proxy_left_is_removed_when_asked(
    node: ServicesNode, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = node.variant.options.get("variant", "nft")
    tool = f"iptables-{variant}"
    name_plainly(variant, node.directory / "plain")
    monkeypatch.setenv("PATH", f"{node.directory / 'plain'}{os.pathsep}{os.environ['PATH']}")
    node.give(WEB)
    with kube_proxy(node, plane):
        served = reached(node)
        assert set(served) == {"pod-b1:8080"}
        if node.variant.mode == "iptables":
            assert "-N KUBE-SERVICES" in node.sh(f"{tool} -t nat -S")
        while_it_ran = theirs(node)
        assert "kube-proxy is at work" in node.fail(remove_kube_proxy=True)
        assert theirs(node) == while_it_ran
    node.sh(f"{tool}-restore --noflush", text=FOREIGN)
    left = node.rules()
    assert "remove_kube_proxy" in node.fail()
    assert node.rules() == left

    told = node.run(remove_kube_proxy=True, _ansible_check_mode=True, _ansible_diff=True)
    assert told["changed"]
    assert node.rules() == left
    done = node.run(remove_kube_proxy=True, _ansible_diff=True)
    assert done["diff"] == told["diff"]
    assert "left by kube-proxy: " in done["diff"]["before"]
    assert reached(node) == served
    node.run(remove_kube_proxy=True)  # what another program wrote moved the generation, which is noted once
    assert not node.run(remove_kube_proxy=True)["changed"]

    assert node.run(state="absent")["changed"]
    rest = node.rules()
    assert "kube-proxy" not in rest
    saved = node.sh(f"{tool}-save")
    mine = {line.split()[0] for line in saved.splitlines() if line.startswith(":KUBE-")}
    assert mine == {":KUBE-KUBELET-CANARY", ":KUBE-SVC-MINE", ":KUBE-FIREWALL"}
    for rule in (line for line in FOREIGN.splitlines() if line.startswith("-A")):
        assert rule in saved

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probing iptables for its extensions, and what is said of tools that are missing."""

from __future__ import annotations

import pytest
from unit.node.fakes import Answer, FakeRunner, found_in

from ansible_collections.kubenode.servicenet.plugins.module_utils._node import (
    iptables_features,
    others,
    preflight_facts,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_features import FEATURES, probe

TOOLS = ["iptables-nft", "iptables-nft-save", "iptables-nft-restore"]


class PickyRunner(FakeRunner):
    """An iptables-restore whose kernel lacks one extension."""

    def __init__(self, lacks: str) -> None:
        super().__init__({"/sbin/iptables-nft -V": "iptables v1.8.9 (nf_tables)"})
        self.lacks = lacks

    def __call__(self, argv: list[str], data: str | None = None) -> Answer:
        if argv[0].endswith("-restore"):
            self.calls.append((" ".join(argv), data))
            unknown = self.lacks and self.lacks in (data or "")
            return (
                0,
                "",
                f"Extension {self.lacks} revision 0 not supported, missing kernel module?" if unknown else "",
            )
        return super().__call__(argv, data)


def test_all_features_are_asked_for_at_once() -> None:
    run = PickyRunner("")
    assert probe(run, (4,), "nft", list(FEATURES), found_in(*TOOLS)) == ([], [], "")
    assert len(run.calls) == 2
    assert all("--test" in command for command in run.commands[1:])
    assert (run.calls[1][1] or "").count("-A SERVICENET-PROBE ") == len(FEATURES)


def test_a_missing_one_is_named() -> None:
    missing, errors, tool = probe(PickyRunner("recent"), (4,), "nft", ["xt_mark", "xt_recent"], found_in(*TOOLS))
    assert (missing, errors, tool) == (["xt_recent for IPv4"], [], "")


def test_nothing_is_asked_if_nothing_is_needed() -> None:
    run = PickyRunner("")
    assert probe(run, (4,), "nft", [], found_in(*TOOLS)) == ([], [], "")
    assert run.calls == []


def test_a_missing_tool_is_a_sentence_of_its_own() -> None:
    missing, errors, tool = probe(PickyRunner(""), (4,), "nft", ["xt_mark"], found_in())
    assert (missing, errors) == ([], [])
    assert tool.startswith("iptables-nft is not installed")


def test_a_kernel_with_ipv6_needs_the_tool_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables_features, "has_ipv6", lambda: True)
    assert probe(PickyRunner(""), (4, 6), "nft", ["xt_mark"], found_in(*TOOLS))[2].startswith("ip6tables-nft is not")
    monkeypatch.setattr(iptables_features, "has_ipv6", lambda: False)
    assert probe(PickyRunner(""), (4, 6), "nft", ["xt_mark"], found_in(*TOOLS)) == ([], [], "")


def test_a_kube_proxy_of_iptables_legacy_is_recognised_by_its_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "loaded_tables", lambda family: ["nat"] if family == 4 else [])
    monkeypatch.setattr(others, "nft_tables", lambda: [("ip", "kube-proxy"), ("ip", "nat")])
    monkeypatch.setattr(others, "kube_proxy_processes", list)
    find = found_in("iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore")
    run = FakeRunner({"/sbin/iptables-legacy -w 10 -t nat -S KUBE-SERVICES": "-N KUBE-SERVICES\n"})
    assert others.kube_proxy(run, [], [], find) == [
        "nftables table ip kube-proxy",
        "chain KUBE-SERVICES of iptables-legacy",
    ]
    absent: Answer = (1, "", "iptables: No chain/target/match by that name.")
    run.answers["/sbin/iptables-legacy -w 10 -t nat -S KUBE-SERVICES"] = absent
    assert others.kube_proxy(run, [], [], find) == ["nftables table ip kube-proxy"]


def test_modprobe_runs_only_if_connection_tracking_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRunner({"modprobe nf_conntrack": ""})
    monkeypatch.setattr(preflight_facts.sysctl, "read", lambda _name: "1")
    preflight_facts.load_conntrack(run)
    assert run.calls == []
    monkeypatch.setattr(preflight_facts.sysctl, "read", lambda _name: None)
    preflight_facts.load_conntrack(run)
    assert run.commands == ["modprobe nf_conntrack"]


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.1.0-18-amd64", (6, 1)), ("5.10.197", (5, 10)), ("4.18.0-513.el8.x86_64", (4, 18)), ("", (0, 0))],
)
def test_the_version_of_a_kernel(release: str, version: tuple[int, int]) -> None:
    assert preflight_facts.kernel_version(release) == version

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incremental passes end where a full pass would (the contract of the design, section 4.9)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import iptables, passes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.iptables import IptablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.text_nginx import ProxyOptions
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.userspace import UserspaceCompiler

from . import clusters

VIEW = NodeView("node-a", "z1", ("198.18.1.1",))
SETTINGS = Settings(VIEW, Detector(("10.128.0.0/9",)))
COMPILERS: dict[str, passes.Compiler] = {
    "iptables": IptablesCompiler(SETTINGS),
    "nftables": NftablesCompiler(SETTINGS),
    "ipvs": IpvsCompiler(SETTINGS),
    # Any port will do that is the same for the same key; that of two proxies must not be the same.
    "userspace": UserspaceCompiler(SETTINGS, ProxyOptions(), lambda key: zlib.crc32(key.encode())),
}


each_mode = pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)


@each_mode
@settings(max_examples=60)
@given(data=st.data())
def test_incremental_passes_end_where_a_full_pass_would(compiler: passes.Compiler, data: st.DataObject) -> None:
    before = build_snapshot(data.draw(clusters.clusters()))
    program = passes.full(before, VIEW, compiler).new
    for _step in range(data.draw(st.integers(1, 4))):
        after = build_snapshot(data.draw(clusters.clusters()))
        full = passes.full(after, VIEW, compiler).new
        done = passes.incremental(before, after, VIEW, compiler)
        if done is None:
            assert before.node_line("node-a") != after.node_line("node-a")
            program = full
        else:
            for name, (old, new) in done.changes(None).items():
                assert program.get(name) == old
                if new is None:
                    del program[name]
                else:
                    program[name] = new
        assert program == full
        before = after


@each_mode
@settings(max_examples=30)
@given(data=st.data())
def test_parts_make_the_same_pass_as_the_whole(compiler: passes.Compiler, data: st.DataObject) -> None:
    def in_parts(work: Callable[[Sequence[bytes]], Any], lines: Sequence[bytes]) -> list[Any]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=3)))
        return [work(lines[start:end]) for start, end in zip([0, *cuts], [*cuts, len(lines)], strict=True)]

    old, new = (build_snapshot(data.draw(clusters.clusters())) for _side in range(2))

    assert passes.full(new, VIEW, compiler, old, in_parts) == passes.full(new, VIEW, compiler, old)


@settings(max_examples=30)
@given(clusters.clusters())
def test_a_pass_over_no_change_looks_at_nothing(objects: list[dict[str, Any]]) -> None:
    before = build_snapshot(objects)
    done = passes.incremental(before, before, VIEW, COMPILERS["iptables"])
    assert done is not None
    assert (done.changes(None), done.before.rules) == ({}, ())


def cluster_of(count: int) -> list[dict[str, Any]]:
    objects = []
    for i in range(count):
        metadata = {"namespace": "shop", "name": f"svc-{i}"}
        spec = {"clusterIPs": [f"10.96.{i // 250}.{i % 250}"], "ports": [{"port": 80}]}
        objects.append({"kind": "Service", "metadata": metadata, "spec": spec})
    return objects


def test_one_change_among_many_services_compiles_one_leaf() -> None:
    objects = cluster_of(1000)
    before = build_snapshot(objects)
    objects[500]["spec"]["ports"][0]["port"] = 81
    done = passes.incremental(before, build_snapshot(objects), VIEW, COMPILERS["iptables"])
    assert done is not None
    # 10.96.2.0: its leaf holds the addresses that end in .0
    assert set(done.changes(None)) == {iptables.container(4, "filter", "SERVICENET-IP-00")}
    assert {entry.service for entry in done.after.rules} == {f"shop/svc-{i}" for i in (0, 250, 500, 750)}


@each_mode
def test_a_service_that_claims_what_another_has_takes_it_along(compiler: passes.Compiler) -> None:
    """The first by name gets the frontend, and the other one loses it, though its own line did not change."""
    objects = cluster_of(2)
    objects[0]["metadata"]["name"] = "zoo"
    before = build_snapshot(objects)
    objects[1]["spec"]["clusterIPs"] = objects[0]["spec"]["clusterIPs"]
    after = build_snapshot(objects)
    done = passes.incremental(before, after, VIEW, compiler)
    assert done is not None
    assert {entry.service for entry in done.before.rules} == {"shop/svc-1", "shop/zoo"}
    assert {entry.service for entry in done.after.rules} == {"shop/svc-1"}
    assert [warning for warning in done.after.warnings if "shop/zoo" in warning]


def test_a_changed_node_calls_for_a_full_pass() -> None:
    before = build_snapshot([clusters.node(), *cluster_of(2)])
    after = build_snapshot([clusters.node(zone="z2"), *cluster_of(2)])
    assert passes.incremental(before, after, VIEW, COMPILERS["iptables"]) is None


def test_a_thousand_changes_call_for_a_full_pass() -> None:
    assert passes.incremental(build_snapshot([]), build_snapshot(cluster_of(1000)), VIEW, COMPILERS["iptables"]) is None

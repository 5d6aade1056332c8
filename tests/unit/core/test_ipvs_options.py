# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What annotations say to the ipvs mode, and that a wrong one is told by its Service and harms nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import model, passes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_options import (
    SCHEDULER,
    SCHEDULERS,
    WEIGHTS,
    ServiceOptions,
    options_of,
    schedulers_of,
    warnings_of,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import Backend

VIEW = NodeView("node-a")


def asked(default: str = "rr", **annotations: str) -> ServiceOptions:
    """What shop/web asks for, with ``scheduler`` and ``weights``."""
    given_here = {model.OWN_ANNOTATIONS + name: value for name, value in annotations.items()}
    return options_of("shop/web", given_here, default)


def test_without_annotations_the_default_holds() -> None:
    assert asked("wlc") == ServiceOptions("wlc")
    assert asked().weight(Backend("10.128.0.1", 80, True)) == 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_service_names_its_scheduler(scheduler: str) -> None:
    assert asked("rr", scheduler=scheduler) == ServiceOptions(scheduler)


@pytest.mark.parametrize("scheduler", ["", "RR", "rr ", "random", "../../etc", "rr\n"])
def test_a_wrong_scheduler_is_told(scheduler: str) -> None:
    found = asked("sh", scheduler=scheduler)
    assert found.scheduler == "sh"
    (sentence,) = found.warnings
    assert sentence.startswith(f"Service shop/web: annotation {SCHEDULER} {scheduler!r} is none of rr, wrr, ")
    assert sentence.endswith("; sh is used.")


@pytest.mark.parametrize(
    ("address", "local", "weight"),
    [
        ("10.129.0.7", True, 5),
        ("10.129.0.8", True, 2),
        ("10.129.0.8", False, 2),
        ("10.130.0.1", False, 9),
        ("11.0.0.1", True, 3),
        ("11.0.0.1", False, 1),
        ("fd80::1", False, 4),
        ("fd81::1", False, 1),
    ],
)
def test_the_longest_prefix_counts_then_the_node(address: str, local: bool, weight: int) -> None:
    found = asked("wrr", weights="10.0.0.0/8=9, local=3,10.129.0.0/16 = 2, 10.129.0.7=5, fd80::/16=4,")
    assert found.warnings == ()
    assert found.weight(Backend(address, 80, local)) == weight


@pytest.mark.parametrize(
    "part",
    [
        *("10.128.0.1", "10.128.0.1=", "10.128.0.1=0", "10.128.0.1=65536", "10.128.0.1=-1", "10.128.0.1=1.5"),
        *("10.128.0.1=2=3", "10.128.0.1=²", "10.128.0.1/8=2", "node-a=2", "=2", "local=", "local=1e3", "local=1000000"),
    ],
)
def test_a_wrong_weight_is_told_and_the_others_hold(part: str) -> None:
    found = asked("wrr", weights=f"10.128.0.9=7,{part}")
    assert found.weight(Backend("10.128.0.9", 80, False)) == 7
    assert found.weight(Backend("10.128.0.1", 80, True)) == 1
    (sentence,) = found.warnings
    assert sentence.startswith(f"Service shop/web: {part!r} in annotation {WEIGHTS} is not ")


@pytest.mark.parametrize("scheduler", ["rr", "lc", "dh"])
def test_weights_that_have_no_effect_are_told(scheduler: str) -> None:
    (sentence,) = asked(scheduler, weights="local=2").warnings
    assert sentence.startswith(f"Service shop/web: annotation {WEIGHTS} has no effect, since the scheduler {scheduler}")
    assert asked(scheduler, weights="local=2", scheduler="wrr").warnings == ()


@given(st.dictionaries(st.sampled_from([SCHEDULER, WEIGHTS, model.OWN_ANNOTATIONS + "else"]), st.text(max_size=40)))
def test_whatever_stands_there_gives_values_that_the_kernel_takes(annotations: dict[str, str]) -> None:
    found = options_of("shop/web", annotations, "rr")
    assert found.scheduler in SCHEDULERS
    assert 1 <= found.weight(Backend("10.128.0.1", 80, True)) <= 65535
    assert all(sentence.startswith("Service shop/web: ") and sentence.isprintable() for sentence in found.warnings)


def objects(**annotations: str) -> list[dict[str, object]]:
    """A Service with one endpoint here and one elsewhere."""
    labels = {"kubernetes.io/service-name": "web"}
    own = {model.OWN_ANNOTATIONS + name: value for name, value in annotations.items()}
    return [
        {
            "kind": "Service",
            "metadata": {"namespace": "shop", "name": "web", "annotations": {**own, "foreign": "x"}},
            "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"name": "http", "port": 80}, {"name": "b", "port": 81}]},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "web-1", "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "b", "port": 8081}],
            "endpoints": [
                {"addresses": ["10.128.0.1"], "nodeName": "node-a"},
                {"addresses": ["10.129.0.1"], "nodeName": "node-b"},
            ],
        },
    ]


def test_annotations_reach_the_virtual_server() -> None:
    made = build_snapshot(objects(scheduler="wlc", weights="local=3"))
    program = passes.full(made, VIEW, IpvsCompiler(Settings(VIEW))).new
    assert program["4/server/any/tcp/10.96.0.1/80"] == "wlc 0"
    assert program["4/real/any/tcp/10.96.0.1/80/10.128.0.1/8080"] == 3
    assert program["4/real/any/tcp/10.96.0.1/80/10.129.0.1/8080"] == 1


def test_a_changed_annotation_changes_its_own_containers() -> None:
    old, new = (build_snapshot(objects(scheduler="wrr", weights=weights)) for weights in ("local=3", "local=4"))
    done = passes.incremental(old, new, VIEW, IpvsCompiler(Settings(VIEW)))
    assert done is not None
    assert done.changes(None) == {f"4/real/any/tcp/10.96.0.1/{port}/10.128.0.1/80{port}": (3, 4) for port in (80, 81)}


def test_each_warning_is_given_once_and_the_schedulers_are_known() -> None:
    rules = passes.full(build_snapshot(objects(scheduler="fast")), VIEW, IpvsCompiler(Settings(VIEW))).after.rules
    assert len(rules) == 2
    assert len(warnings_of(rules, "rr")) == 1
    assert schedulers_of(rules, "rr") == {"rr"}
    rules = passes.full(build_snapshot(objects(scheduler="mh")), VIEW, IpvsCompiler(Settings(VIEW))).after.rules
    assert schedulers_of(rules, "rr") == {"rr", "mh"}
    assert warnings_of(rules, "rr") == []

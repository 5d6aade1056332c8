# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""States that are kept, going back to one, the hold that follows, and what releases it: real rules, real packets."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from integration.services_lab import ServicesNode, module_server, node, rules_node, service, services_lab, vip

__all__ = ["module_server", "node", "rules_node", "services_lab"]

# What is the same code whatever the mode.
in_one_mode = pytest.mark.parametrize("node", ["nftables"], indirect=True)

# The same Service with another backend in each state.
STATES = {name: service("web", 10, {name: "ready"}) for name in ("pod-a1", "pod-a2", "pod-b1", "pod-b2")}


def who(node: ServicesNode) -> set[str]:
    """Who answers behind the Service, in both families."""
    seen = {*node.probe("pod", vip(10)), *node.probe("ext", vip(10, 6))}
    return {name.partition(":")[0] for name in seen}


def become(node: ServicesNode, state: str, **options: Any) -> dict[str, Any]:
    """Gives the node a state and runs the mode's module."""
    node.give(STATES[state])
    return node.run(**options)


def roll_back(node: ServicesNode, **options: Any) -> dict[str, Any]:
    """A run of service_rollback -> its result."""
    places = {"state_dir": str(node.state_dir), "run_dir": str(node.run_dir)}
    return node.start_module("service_rollback", {**places, "_ansible_diff": True, **options}).wait()


def info(node: ServicesNode) -> dict[str, Any]:
    """What service_rules_info tells."""
    places = {"state_dir": str(node.state_dir), "run_dir": str(node.run_dir)}
    return node.start_module("service_rules_info", places).wait()


def files_of(node: ServicesNode) -> dict[str, tuple[int, int]]:
    """Every file of the state directory: a write makes another inode or another time."""
    found = {path: path.stat() for path in node.state_dir.rglob("*") if path.is_file()}
    return {str(path): (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def test_a_node_goes_back_holds_and_is_released(node: ServicesNode) -> None:
    if node.variant.mode == "ipvs":
        # It would wait for connections that have just ended; test_ipvs_drain.py goes back with one that has not.
        node.variant = node.variant._replace(options={**node.variant.options, "ipvs_drain_seconds": 0})
    for state in STATES:
        become(node, state)
    assert who(node) == {"pod-b2"}
    kept = info(node)["kept"]
    assert [one["mode"] for one in kept] == [node.variant.mode] * 3
    assert all(one["services"] == 1 and one["ready_endpoints"] == 2 for one in kept)
    assert info(node)["held"] == ""

    # Check mode shows what the real run does, and does nothing.
    before = files_of(node), node.rules()
    shown = roll_back(node, _ansible_check_mode=True)
    assert (files_of(node), node.rules()) == before
    done = roll_back(node)
    assert (shown["changed"], done["changed"]) == (True, True)
    assert done["digest"] == kept[0]["digest"]
    for said in (shown["diff"], done["diff"]):
        assert f"shop/web:tcp {vip(10)}:80/tcp" in said["before"]
        assert f"held at the state {kept[0]['digest'][:12]}" in said["after"]
    assert shown["diff"]["before"] == done["diff"]["before"]
    assert who(node) == {"pod-b1"}

    # Again: nothing changes, nothing is written.
    before = files_of(node), node.rules(), node.generation()
    again = roll_back(node)
    assert (again["changed"], again["diff"]["after"]) == (False, "")
    assert (files_of(node), node.rules(), node.generation()) == before

    # Whoever comes with something newer is told, and what somebody altered is repaired.
    held = node.run()
    assert not held["changed"]
    assert done["held"] == held["held"]
    assert "no newer state is programmed until it is released with ansible-playbook" in held["held"]
    assert held["held"] in held["warnings"]
    assert info(node)["held"] == held["held"]
    node.spoil()
    assert who(node) != {"pod-b1"}
    assert node.run()["changed"]
    assert who(node) == {"pod-b1"}

    # Further back, by the beginning of a digest; then released.
    assert roll_back(node, to=kept[2]["digest"][:8])["changed"]
    assert who(node) == {"pod-a1"}
    assert not roll_back(node, to=kept[2]["digest"][:8])["changed"]
    assert roll_back(node, state="released")["changed"]
    assert not roll_back(node, state="released")["changed"]
    assert who(node) == {"pod-a1"}
    result = node.run()
    assert (result["changed"], result["held"]) == (True, "")
    assert who(node) == {"pod-b2"}
    assert not node.run()["changed"]
    node.run(state="absent")
    assert list(node.state_dir.iterdir()) == []


@in_one_mode
def test_a_hold_ends_by_itself(node: ServicesNode) -> None:
    become(node, "pod-a1")
    become(node, "pod-b1")
    done = roll_back(node, hold_seconds=3600)
    assert " UTC, or until it is released with" in done["held"]
    assert not roll_back(node, hold_seconds=3600)["changed"]
    assert not node.run()["changed"]
    assert who(node) == {"pod-a1"}
    # An hour later.
    path = node.state_dir / "hold.json"
    hold = json.loads(path.read_text())
    assert 2000 < hold["until"] - time.time() <= 3600
    path.write_text(json.dumps({**hold, "until": time.time() - 1}))
    assert node.run()["changed"]
    assert who(node) == {"pod-b1"}
    assert not path.exists()


@in_one_mode
def test_only_the_last_states_are_kept_and_none_twice(node: ServicesNode) -> None:
    for state in (*STATES, "pod-a1", "pod-a2"):
        become(node, state, kept_states=3)
    kept = info(node)["kept"]
    assert len({one["digest"] for one in kept}) == len(kept) == 3
    assert len(list((node.state_dir / "kept").iterdir())) == 6
    # A repair is no new state, and an option is one.
    node.sh("nft flush ruleset")
    node.run(kept_states=3)
    assert info(node)["kept"] == kept
    node.run(kept_states=3, ip_families=["ipv4"])
    assert [one["digest"] for one in info(node)["kept"]] == [
        node.run(kept_states=3)["digest"],
        kept[0]["digest"],
        kept[1]["digest"],
    ]
    refused = roll_back(node, to="ffffff")
    assert refused["failed"]
    assert (
        "No state whose digest begins with 'ffffff' is kept on this node; kept are, the newest first: "
        in refused["msg"]
    )
    assert kept[0]["digest"][:12] in refused["msg"]


def test_a_rollback_that_is_refused_leaves_everything(rules_node: ServicesNode) -> None:
    become(rules_node, "pod-a1")
    become(rules_node, "pod-b1")
    rules_node.fault("refuse", 1, "the kernel is out of memory today")
    refused = roll_back(rules_node)
    rules_node.heal()
    assert "the kernel is out of memory today" in refused["msg"]
    assert who(rules_node) == {"pod-b1"}
    assert not rules_node.run()["changed"]
    assert info(rules_node)["held"] == ""


def test_a_rollback_that_is_killed_is_completed_by_the_next_run(rules_node: ServicesNode) -> None:
    become(rules_node, "pod-a1")
    become(rules_node, "pod-b1")
    rules_node.fault("before", 1)
    assert "killed" in roll_back(rules_node)
    rules_node.heal()
    assert who(rules_node) == {"pod-b1"}
    assert rules_node.run()["held"]
    assert who(rules_node) == {"pod-a1"}

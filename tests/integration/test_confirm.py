# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A change that goes back by itself unless it is confirmed, whoever is killed: real rules, real packets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.services_lab import (
    ModuleServer,
    ServicesNode,
    module_server,
    node,
    rules_node,
    service,
    services_lab,
    vip,
)
from integration.test_rollback import become, roll_back, who
from lab.waiting import wait_until

__all__ = ["module_server", "node", "rules_node", "services_lab"]

# Longer than any run takes on a busy machine, for what must not go back while a test looks at it.
LONG = 6000
in_one_mode = pytest.mark.parametrize("node", ["nftables"], indirect=True)


def confirm(node: ServicesNode, token: str) -> dict[str, Any]:
    """A run of service_confirm -> its result."""
    places = {"state_dir": str(node.state_dir), "run_dir": str(node.run_dir)}
    return node.start_module("service_confirm", {"token": token, **places}).wait()


def waits(node: ServicesNode) -> bool:
    """Does a change wait?"""
    return (node.state_dir / "confirm.json").exists()


def watchers(module_server: ModuleServer) -> list[int]:
    """The processes that wait on the node: forks of the server that runs modules, adopted by it (nginx is, too)."""
    server = Path(f"/proc/{module_server.pid}")
    found = []
    for pid in (server / f"task/{module_server.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            # One that has ended and was not asked for yet has no command line.
            if Path(f"/proc/{pid}/cmdline").read_bytes() == (server / "cmdline").read_bytes():
                found.append(int(pid))
    return found


@pytest.fixture(autouse=True)
def nobody_stays(module_server: ModuleServer) -> Iterator[None]:
    """Whoever waits after a test that failed is ended."""
    yield
    for pid in watchers(module_server):
        os.kill(pid, signal.SIGKILL)


def let_time_pass(node: ServicesNode) -> None:
    """The time to confirm is over."""
    path = node.state_dir / "confirm.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "until": time.time()}))


def test_a_change_that_nobody_confirms_goes_back(node: ServicesNode) -> None:
    become(node, "pod-a1")
    result = become(node, "pod-b1", confirm_seconds=LONG)
    assert who(node) == {"pod-b1"}
    # Meanwhile nothing else is done.
    assert "waits for 5" in node.fail()
    let_time_pass(node)
    wait_until(lambda: not waits(node), seconds=300)
    assert who(node) == {"pod-a1"}
    late = confirm(node, result["confirm_token"])
    assert "can't be confirmed any more" in late["msg"]
    assert "a change was not confirmed and went back by itself" in late["msg"]
    # The next run does not cut the node off again, and says for how long.
    held = node.run(confirm_seconds=LONG)
    assert (held["changed"], held["confirm_token"]) == (False, "")
    assert " UTC, or until it is released" in held["held"]
    assert roll_back(node, state="released")["changed"]
    # Confirmed, it stays; a repair and a run that changes nothing wait for nobody.
    token = node.run(confirm_seconds=LONG)["confirm_token"]
    assert confirm(node, token)["changed"]
    wait_until(lambda: not watchers(node.server), seconds=300)
    assert (node.run(confirm_seconds=LONG)["confirm_token"], waits(node)) == ("", False)
    node.spoil()
    repaired = node.run(confirm_seconds=LONG)
    assert (repaired["changed"], repaired["confirm_token"], waits(node)) == (True, "", False)
    assert who(node) == {"pod-b1"}


@in_one_mode
def test_without_any_confirmation_it_goes_back_in_its_time(node: ServicesNode) -> None:
    """Nobody touches the clock: two seconds after the change the node is as before, and the module has long ended."""
    become(node, "pod-a1")
    become(node, "pod-b1", confirm_seconds=2, confirm_hold_seconds=0)
    wait_until(lambda: not waits(node), seconds=300)
    assert who(node) == {"pod-a1"}
    # Nobody has to stay there: the next run tries again.
    assert node.run()["changed"]
    assert who(node) == {"pod-b1"}


def test_a_killed_change_goes_back_at_once(rules_node: ServicesNode) -> None:
    """kill -9 when all rules are in force and the module has neither said so nor written it down."""
    become(rules_node, "pod-a1")
    rules_node.give(service("web", 10, {"pod-b1": "ready"}))
    rules_node.fault("none", 0)
    rules_node.run()
    transactions = rules_node.heal()
    become(rules_node, "pod-a1")
    rules_node.give(service("web", 10, {"pod-b1": "ready"}))
    rules_node.fault("after", transactions)
    assert "killed" in rules_node.start(confirm_seconds=LONG).wait()
    wait_until(lambda: not waits(rules_node), seconds=300)
    rules_node.heal()
    assert who(rules_node) == {"pod-a1"}
    assert rules_node.run()["held"]


@in_one_mode
def test_if_who_waits_is_killed_the_next_run_goes_back(node: ServicesNode) -> None:
    become(node, "pod-a1")
    become(node, "pod-b1", confirm_seconds=LONG)
    for pid in watchers(node.server):
        os.kill(pid, signal.SIGKILL)
    let_time_pass(node)
    shown = node.check()
    assert not shown["changed"]
    assert "goes back by itself" in shown["warnings"][0]
    assert who(node) == {"pod-b1"}
    assert node.run()["held"]
    assert who(node) == {"pod-a1"}


@in_one_mode
def test_the_first_rules_of_a_node_go_back_to_none(node: ServicesNode) -> None:
    become(node, "pod-b1", confirm_seconds=LONG)
    assert who(node) == {"pod-b1"}
    let_time_pass(node)
    wait_until(lambda: not waits(node), seconds=300)
    assert "servicenet" not in node.rules()
    assert "held at no rules" in node.run()["held"]
    assert roll_back(node, state="released")["changed"]
    node.run()
    assert who(node) == {"pod-b1"}


@in_one_mode
def test_another_mode_goes_back_to_the_one_before(node: ServicesNode) -> None:
    options = {**node.arguments(), "confirm_seconds": LONG}
    become(node, "pod-a1")
    refused = node.start_module("userspace_services", options).wait()
    assert "A switch from mode nftables to userspace can't wait for a confirmation" in refused["msg"]
    assert who(node) == {"pod-a1"}
    node.give(service("web", 10, {"pod-b1": "ready"}))
    run = node.start_module("iptables_services", {**options, "variant": "nft"}).wait()
    assert run["confirm_token"]
    let_time_pass(node)
    wait_until(lambda: not waits(node), seconds=300)
    assert who(node) == {"pod-a1"}
    assert "SERVICENET" not in node.rules()
    held = node.start_module("iptables_services", {**options, "variant": "nft"}).wait()
    assert "So the mode iptables is not programmed." in held["msg"]


def test_a_refused_change_waits_for_nobody(rules_node: ServicesNode) -> None:
    become(rules_node, "pod-a1")
    rules_node.give(service("web", 10, {"pod-b1": "ready"}))
    rules_node.fault("refuse", 1, "the kernel is out of memory today")
    assert "out of memory" in rules_node.fail(confirm_seconds=LONG)
    wait_until(lambda: not waits(rules_node), seconds=300)
    rules_node.heal()
    assert who(rules_node) == {"pod-a1"}
    assert rules_node.run()["changed"]
    assert set(rules_node.probe("pod", vip(10))) == {"pod-b1:8080"}

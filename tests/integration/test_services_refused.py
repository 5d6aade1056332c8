# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is refused by a tool, kept from writing, or not alone: it changes nothing, or waits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.old_and_new import NEW, OLD, assert_holds, both, settle
from integration.services_lab import ServicesNode, module_server, node, rules_node, services_lab

__all__ = ["module_server", "node", "rules_node", "services_lab"]


# ---- refused


def test_a_rule_that_is_refused_is_taken_back_and_named(rules_node: ServicesNode) -> None:
    old, _new = both(rules_node)
    # The transaction of IPv6 that sends somebody to the new endpoint of shop/takes-an-address; IPv4 is new by then.
    for number in range(1, 20):
        rules_node.give(*NEW)
        rules_node.fault("spoil", number, "fd80:0:0:b::12[] .:]*9090")
        result = rules_node.start().wait()
        rules_node.heal()
        if result.get("failed"):
            break
        settle(rules_node, OLD)
    assert number > 1 or rules_node.variant.mode == "nftables"  # which commits both families at once
    assert "a rule of Service shop/takes-an-address:" in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert rules_node.tables() == old
    assert_holds(rules_node, 0)
    rules_node.run()
    assert_holds(rules_node, 1)
    assert not rules_node.run()["changed"]


def test_any_transaction_that_is_refused_takes_all_back(node: ServicesNode) -> None:
    old, new = both(node)
    refused = 0
    while True:
        node.give(*NEW)
        node.fault("refuse", refused + 1, "the kernel is out of memory today")
        result = node.start().wait()
        node.heal()
        if not result.get("failed"):
            break
        refused += 1
        assert "the kernel is out of memory today" in result["msg"]
        assert "nothing was changed" in result["msg"]
        assert node.tables() == old
    assert refused >= (4 if node.variant.mode == "iptables" else 1)
    assert node.tables() == new
    assert not node.run()["changed"]


# ---- a full disk


@contextmanager
def small_disk(node: ServicesNode) -> Iterator[Path]:
    """The node's state directory becomes a file system with little room, where its runs see it."""
    node.state_dir.mkdir()
    enter = ["nsenter", "--mount", "--target", str(node.server.pid)]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(node.state_dir)], check=True)
    try:
        yield Path(f"/proc/{node.server.pid}/root{node.state_dir}")
    finally:
        subprocess.run([*enter, "umount", str(node.state_dir)], check=True)


def fill(disk: Path) -> Path:
    """Takes all that is left."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
    return ballast


def test_a_full_disk_changes_nothing_and_says_so(node: ServicesNode) -> None:
    with small_disk(node) as disk:
        old, new = both(node)
        ballast = fill(disk)
        node.give(*NEW)
        message = node.fail()
        assert "No space left on device" in message
        assert str(node.state_dir) in message
        assert node.tables() == old
        assert_holds(node, 0)
        assert not [path for path in disk.iterdir() if path.name.startswith(".")]
        ballast.unlink()
        assert node.run()["changed"]
        assert node.tables() == new
        assert not node.run()["changed"]


def test_where_nothing_can_be_written_a_run_that_finds_nothing_to_do_ends_well(node: ServicesNode) -> None:
    with small_disk(node):
        node.give(*OLD)
        node.run()
        remount = ["nsenter", "--mount", "--target", str(node.server.pid), "mount", "-o"]
        subprocess.run([*remount, "remount,ro", str(node.state_dir)], check=True)
        assert not node.run()["changed"]
        node.give(*NEW)
        assert "Read-only file system" in node.fail()
        assert_holds(node, 0)
        subprocess.run([*remount, "remount,rw", str(node.state_dir)], check=True)
        assert node.run()["changed"]


# ---- two at once


def test_two_runs_at_once_are_one_after_the_other(node: ServicesNode) -> None:
    old, new = both(node)
    node.give(*NEW)
    first, second = node.start(), node.start()
    results = [first.wait(), second.wait()]
    assert all(not result.get("failed") for result in results), results
    assert node.tables() == new
    # Whoever came second found everything done, or the first had not begun.
    assert sorted(result["changed"] for result in results) in ([False, True], [True, True])
    assert not node.run()["changed"]
    assert old != new


def test_removing_and_programming_at_once_leave_all_or_nothing(node: ServicesNode) -> None:
    for _each in range(3):
        settle(node, OLD)
        node.give(*NEW)
        runs = [node.start(), node.start(state="absent")]
        random.shuffle(runs)
        for result in [run.wait() for run in runs]:
            assert not result.get("failed"), result
        if "servicenet" in node.rules().lower():
            assert_holds(node, 1)
            assert not node.run()["changed"]
        else:
            assert list(node.state_dir.iterdir()) == []


def test_a_run_that_waits_too_long_says_for_whom(node: ServicesNode) -> None:
    settle(node, OLD)
    old = node.tables()
    node.give(*NEW)
    lock = node.run_dir / "lock"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"{os.getpid()}\n")
        held.flush()
        begin = time.monotonic()
        message = node.fail(lock_timeout=1)
        assert time.monotonic() - begin >= 1
        assert f"Process {os.getpid()} (" in message
        assert f"held the lock {lock}" in message
        assert node.tables() == old
        assert node.check()["changed"]  # looking takes no lock
        node.give(*OLD)
        assert not node.run(lock_timeout=0)["changed"]  # nor does finding nothing to do
    node.give(*NEW)
    assert node.run(lock_timeout=5)["changed"]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode through the playbook `site`, on two nodes never touched: it tells what the real run then does, and does
nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

NODES = ("node-a", "node-b")
MODES = {
    "iptables": {
        "service_proxy_mode": "iptables",
        "service_proxy_iptables_variant": "{{ 'nft' if inventory_hostname == 'node-a' else 'legacy' }}",
    },
    "nftables": {"service_proxy_mode": "nftables"},
}
# What Ansible shows of the module's diff, up to the line that names the host.
DIFF = re.compile(r"^--- before: service rules.*?^(?:changed|ok): \[(node-.)\]", re.MULTILINE | re.DOTALL)


@pytest.fixture
def untouched() -> Iterator[Lab]:
    """Two nodes that nothing was ever done to."""
    with Lab(pods=2) as lab:
        yield lab


def kernel(lab: Lab, name: str) -> dict[str, str]:
    """Everything of a node's kernel that a run might change."""
    node = lab.node(name)
    commands = {
        "nftables": "nft -s list ruleset",
        "iptables-legacy": "cat /proc/net/ip_tables_names",
        "ip6tables-legacy": "cat /proc/net/ip6_tables_names",
        "devices": "ip -o addr",
        "ipsets": "ipset list -name",
    }
    found = {what: node.run(command.split(), check=False).stdout for what, command in commands.items()}
    settings = node.run(["sysctl", "-a", "--pattern", r"^net\.(ipv4|ipv6|netfilter)"]).stdout.splitlines()
    changing = ("nf_conntrack_count", "stable_secret", "random")
    found["settings"] = "\n".join(line for line in settings if not any(word in line for word in changing))
    return found


def files(lab: Lab, name: str) -> set[str]:
    """Every file that a node has and the machine has not, or not so."""
    node = lab.node(name)
    own = f"{lab.directory}/{name}.files"
    listed = node.run(
        ["find", f"{own}/etc", f"{own}/usr", f"{own}/var", f"{own}/opt", "/run", "-newermt", "1970-01-02"]
    )
    return {line for line in listed.stdout.splitlines() if "/var/cache/" not in line and "xtables.lock" not in line}


def diffs(output: str) -> dict[str, str]:
    """The module's diff of each node."""
    return {match.group(1): match.group(0).rpartition("\n")[0] for match in DIFF.finditer(output)}


@pytest.mark.parametrize("mode", MODES)
def test_check_mode_tells_what_the_run_does_and_does_nothing(
    untouched: Lab, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    variables: dict[str, Any] = MODES[mode]
    kernels = {name: kernel(untouched, name) for name in NODES}
    before = {name: files(untouched, name) for name in NODES}
    inventory = untouched.inventory()
    beside = set(untouched.directory.iterdir())

    shown = untouched.playbook("site", variables, "--check", "--diff", inventory=inventory)
    assert {name: kernel(untouched, name) for name in NODES} == kernels
    assert {name: files(untouched, name) for name in NODES} == before
    assert set(untouched.directory.iterdir()) == beside
    assert list(scratch.iterdir()) == []

    done = untouched.playbook("site", variables, "--diff", inventory=inventory)
    told, did = diffs(shown.output), diffs(done.output)
    assert told.keys() == set(NODES)
    assert told == did
    for name in NODES:
        assert "+shop/web:http 10.96.0.10:80/tcp -> 4 endpoints" in told[name]
        assert kernel(untouched, name) != kernels[name]
    assert {name: count > 0 for name, count in shown.changed.items() if name in NODES} == dict.fromkeys(NODES, True)
    answers = untouched.probe("client", "10.96.0.10", 9000, count=100)
    assert (set(answers.who), answers.failures.total()) == ({"pod-a1", "pod-a2", "pod-b1", "pod-b2"}, 0)

    again = untouched.playbook("site", variables, "--check", "--diff", inventory=inventory)
    assert diffs(again.output) == {}
    assert {name: again.changed[name] for name in NODES} == dict.fromkeys(NODES, 0)
    assert list(scratch.iterdir()) == []

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a playbook says of variables and inventories that it can't work with, before it touches a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures import malformed
from lab.playbooks import PlaybookRun, run_playbook

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot


def run(name: str, directory: Path, groups: dict[str, Any], *options: str, **variables: Any) -> PlaybookRun:
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"children": groups}}))
    return run_playbook(name, inventory, variables, options)


@pytest.mark.parametrize("name", ["resync", "rollback"])
def test_batches_of_no_size_are_told(name: str, tmp_path: Path) -> None:
    """resync has read the cluster by then; Ansible looks at the size of batches when it comes to that play."""
    path = tmp_path / "snapshot.jsonl.gz"
    path.write_bytes(snapshot.dump(build_snapshot(malformed.good())))
    # Nothing is there to connect to: whatever were done on it would be told as well.
    hosts = {"servicenet_nodes": {"hosts": {"node-a": {"ansible_connection": "nothing"}}}}
    cluster = {"cluster_snapshot_source": "file", "cluster_snapshot_path": str(path)}
    done = run(name, tmp_path, hosts, "--check", servicenet_serial=[1, "half"], **cluster)
    assert done.rc == 4, done.output
    assert "servicenet_serial must be a number of nodes, a percentage such as 25%, or a list of them." in done.output
    assert "Traceback" not in done.output
    assert "'nothing'" not in done.output


# Nobody answers there.
HOST = {"ansible_host": "127.0.0.1", "ansible_port": 9}
OTHERS = {"others": {"hosts": {"bastion": HOST}}}


@pytest.mark.parametrize("name", ["site", "verify", "audit", "rollback", "cleanup"])
def test_a_run_without_the_group_of_the_nodes_does_not_end_well(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, OTHERS, "--check")
    assert done.rc == 2, done.output
    assert "None of the hosts of the inventory is one of servicenet_nodes" in done.output


@pytest.mark.parametrize(
    ("groups", "options", "says"),
    [
        ({"servicenet_nodes": {}, **OTHERS}, (), "None of the hosts of the inventory is one of"),
        ({}, (), "None of the hosts of the inventory is one of"),
        (
            {"servicenet_nodes": {"hosts": {"node-a": HOST}}, **OTHERS},
            ("--limit", "bastion"),
            "None of the hosts that --limit leaves is one of",
        ),
    ],
)
def test_a_run_for_no_node_does_not_end_well(
    groups: dict[str, Any], options: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = run("site", tmp_path, groups, "--check", *options)
    assert done.rc == 2, done.output
    assert says in done.output


@pytest.mark.parametrize("nodes", ["node-*,!node-b", ["node-a", "node-c"]])
def test_nodes_by_a_pattern_or_a_list_are_some(nodes: Any, tmp_path: Path) -> None:
    """The run goes on to the nodes that are meant, which can't be reached."""
    hosts = {"others": {"hosts": dict.fromkeys(("bastion", "node-a", "node-b"), HOST)}}
    done = run("verify", tmp_path, hosts, servicenet_hosts=nodes)
    assert done.rc == 4, done.output
    assert {name for name, count in done.failed.items() if count} == {"node-a"}

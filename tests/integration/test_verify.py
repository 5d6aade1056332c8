# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `verify` on two real nodes: it passes where packets arrive, and names what does not answer where not."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from lab import Lab
from lab.cluster import CLUSTER_CIDRS, MANIFESTS

# Its one endpoint answers each time; on a busy machine it may say its name too late to be known by it.
FRONT = r"shop/front:tcp .* 3 of 3 .*\bpod-a3 x [123]"
QUICK = {"service_verify_attempts": 4, "service_verify_timeout": 0.5}


@pytest.fixture(scope="module")
def programmed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Both nodes hold the snapshot and its rules."""
    directory: Path = tmp_path_factory.mktemp("verify")
    snapshot = directory / "snapshot.jsonl.gz"
    module = "kubenode.servicenet"
    tasks = [
        {
            f"{module}.cluster_snapshot": {"source": "manifests", "manifests": [str(MANIFESTS)], "dest": str(snapshot)},
            "delegate_to": "localhost",
            "run_once": True,
        },
        {"ansible.builtin.file": {"path": "/var/lib/servicenet", "state": "directory", "mode": "0755"}},
        {"ansible.builtin.copy": {"src": str(snapshot), "dest": "/var/lib/servicenet/", "mode": "0640"}},
        {
            f"{module}.iptables_services": {
                "node_name": "{{ inventory_hostname }}",
                "pod_cidrs": list(CLUSTER_CIDRS),
                "variant": "nft",
            }
        },
    ]
    playbook = directory / "program.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "servicenet_nodes", "gather_facts": False, "tasks": tasks}]))
    lab.playbook(str(playbook))
    return lab


def test_every_service_with_endpoints_is_probed_and_answers(programmed: Lab) -> None:
    run = programmed.playbook("verify")
    assert run.failed == {"node-a": 0, "node-b": 0}
    assert run.changed == {"node-a": 0, "node-b": 0}
    probed = set(re.findall(r"shop/[a-z]+:[a-z]+", run.output))
    assert probed == {
        "shop/api:stream",
        "shop/api:tcp",
        "shop/cart:tcp",
        "shop/front:tcp",
        "shop/web:http",
        "shop/web:tcp",
    }
    assert "10.96.0.10:9000/tcp" in run.output
    assert "[fd00:10:96::10]:9000/tcp" in run.output
    assert re.search(FRONT, run.output)


def test_check_mode_probes_just_as_well(programmed: Lab) -> None:
    run = programmed.playbook("verify", None, "--check")
    assert re.search(FRONT, run.output)


def test_a_user_who_has_to_become_root(programmed: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but root can read the snapshot. By a Python and a sudo of the test, only who became root is root."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nwhile [ "$1" != root ]; do shift; done\nshift\nBECAME=root exec "$@"\n')
    sudo.chmod(0o755)
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    inventory = json.loads(programmed.inventory(tmp_path / "inventory.yml").read_text())
    for name, host in inventory["all"]["children"]["servicenet_nodes"]["hosts"].items():
        python = tmp_path / f"{name}-python"
        which = f'[ "$BECAME" ] && exec /usr/bin/python3 "$@"; exec {nobody} /usr/bin/python3 "$@"'
        enter = shlex.join([*programmed.node(name).enter(), "sh", "-c", which, "python"])
        python.write_text(f'#!/bin/sh\nexec {enter} "$@"\n')
        python.chmod(0o755)
        host |= {"ansible_python_interpreter": str(python), "ansible_become_exe": str(sudo)}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory))
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "1")
    run = programmed.playbook("verify", inventory=tmp_path / "inventory.yml", check=False)
    assert run.failed == {"node-a": 0, "node-b": 0}, run.output


def test_a_dead_pod_is_named_by_its_services(programmed: Lab) -> None:
    """pod-a3 is the only endpoint of shop/front, and none of shop/web."""
    node = programmed.node("node-a")
    node.run(["ip", "link", "set", "pod3", "down"])
    try:
        run = programmed.playbook(
            "verify", {**QUICK, "service_verify_services": ["shop/front", "shop/web"]}, check=False
        )
    finally:
        node.run(["ip", "link", "set", "pod3", "up"])
        for family, ip in zip("46", programmed.pods["pod-a3"].ips, strict=True):
            node.run(["ip", f"-{family}", "route", "replace", ip, "dev", "pod3"])
    assert run.failed == {"node-a": 1, "node-b": 1}
    assert "These Services do not answer every time on node-b: shop/front:tcp." in run.output
    assert re.search(r"shop/front:tcp .* 0 of 4 ", run.output)


def test_rules_that_are_gone_are_noticed(programmed: Lab) -> None:
    node = programmed.node("node-b")
    saved = node.run(["iptables-nft-save"]).stdout
    node.run(["iptables-nft", "-t", "nat", "-F"])
    try:
        run = programmed.playbook("verify", {**QUICK, "service_verify_services": ["shop/web"]}, check=False)
    finally:
        node.run(["iptables-nft-restore"], text=saved)
    assert run.failed == {"node-a": 0, "node-b": 1}


def test_a_service_with_nothing_to_probe_is_an_error(programmed: Lab) -> None:
    run = programmed.playbook("verify", {"service_verify_services": ["shop/empty"]}, check=False)
    assert run.failed == {"node-a": 1, "node-b": 1}
    assert "There is nothing to probe in shop/empty" in run.output

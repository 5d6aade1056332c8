# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that a role cannot mean to be given are refused before anything is done, with a sentence that names them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from on_localhost import run_play

# A loop that failed has the sentence in one of its results.
SAID = (
    "{{ ansible_failed_result.results | default([ansible_failed_result]) | selectattr('failed', 'defined')"
    " | selectattr('failed') | map(attribute='msg') | join(' ') }}"
)
# A role (and a part of it), its options, and what the refusal says.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown mode": ("service_proxy", {"service_proxy_mode": "ebpf"}, "value of service_proxy_mode must be one of:"),
    "unknown mode of a resync": (
        "service_proxy resync",
        {"service_proxy_mode": "ebpf", "__cluster_snapshot_result": {}},
        "value of mode must be one of: iptables, nftables, ipvs, userspace, got: ebpf",
    ),
    "wrong type": (
        "service_proxy",
        {"service_proxy_max_removed_percent": "most"},
        "service_proxy_max_removed_percent",
    ),
    "wrong element": ("service_proxy", {"service_proxy_ip_families": ["ipv5"]}, "service_proxy_ip_families"),
    "bridge without a name": (
        "service_proxy",
        {"service_proxy_detect_local_mode": "BridgeInterface"},
        "service_proxy_detect_local_mode BridgeInterface needs service_proxy_bridge_interface.",
    ),
    "prefix without a name": (
        "service_proxy",
        {"service_proxy_detect_local_mode": "InterfaceNamePrefix"},
        "service_proxy_detect_local_mode InterfaceNamePrefix needs service_proxy_interface_name_prefix.",
    ),
    "no family": ("service_proxy", {"service_proxy_ip_families": []}, "service_proxy_ip_families is empty"),
    "no such bit": ("service_proxy", {"service_proxy_masquerade_bit": 32}, "a packet mark has the bits 0 to 31."),
    "names on a virtual server": (
        "cluster_dns",
        {"service_proxy_mode": "ipvs", "cluster_dns_service_ip": "10.96.0.53"},
        "cluster_dns_service_ip can't be had with service_proxy_mode ipvs",
    ),
    "names of no cluster": (
        "cluster_dns",
        {"cluster_dns_mode": "kubernetes"},
        "cluster_dns_mode kubernetes needs cluster_dns_kubeconfig.",
    ),
    "pull from nowhere": (
        "service_resync",
        {"service_resync_token": "a token"},
        "service_resync_method pull reads the API server and needs service_resync_server and service_resync_token",
    ),
    "pull without a token": (
        "service_resync",
        {"service_resync_server": "https://198.18.0.1:6443"},
        "service_resync_method pull reads the API server and needs service_resync_server and service_resync_token",
    ),
    "pull from no URL": (
        "service_resync",
        {"service_resync_source": "url"},
        "service_resync_source url needs service_resync_url.",
    ),
    "push without an inventory": (
        "service_resync",
        {"service_resync_method": "push", "service_resync_inventory": "node-a,"},
        "needs service_resync_inventory, a file or a directory on the controller, and not 'node-a,'",
    ),
    "again at once": (
        "service_resync",
        {"service_resync_method": "push", "service_resync_interval": 0},
        "service_resync_interval is 0; it has to be a second at least.",
    ),
    "no such source": ("cluster_snapshot", {"cluster_snapshot_source": "etcd"}, "cluster_snapshot_source must be one"),
    "attempts in words": ("service_verify", {"service_verify_attempts": "many"}, "service_verify_attempts"),
    "no such records": ("service_endpoints", {"service_endpoints_write": "dns"}, "service_endpoints_write must be one"),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each case ended with; all in one run of Ansible, where a role that is not refused goes on in check mode."""
    place = tmp_path_factory.mktemp("contract")
    tasks = []
    for case, (role, options, _said) in CASES.items():
        told = {"messages": {case: SAID}}
        name, _space, part = role.partition(" ")
        included = {"name": f"kubenode.servicenet.{name}", "tasks_from": part or "main"}
        tasks.append(
            {
                "block": [
                    {"ansible.builtin.include_role": included, "vars": options},
                ],
                "rescue": [
                    {"ansible.builtin.set_fact": {"messages": "{{ messages | default({}) | combine(told.messages) }}"}}
                ],
                "vars": {"told": told},
            }
        )
    file = {"path": str(place / "said.json")}
    tasks.append(
        {
            "ansible.builtin.copy": {"dest": file["path"], "mode": "0600", "content": "{{ messages | to_json }}"},
            "check_mode": False,
            "changed_when": False,
        }
    )
    text = run_play(place, "--check", tasks=tasks)
    # Not one of them came as far as a module.
    assert "changed=0" in text, text
    return dict(json.loads((place / "said.json").read_text()))


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name(case: str, refusals: dict[str, Any]) -> None:
    assert CASES[case][2] in refusals.get(case, "nothing"), refusals.get(case)

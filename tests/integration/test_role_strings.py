# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`-e NAME=VALUE` and an inventory in INI give strings: "false" and "15" mean to a role what they mean to a person."""

from __future__ import annotations

import pytest
from lab.cluster import MANIFESTS
from on_localhost import run_play

ABSENT = "/nonexistent/snapshot.jsonl.gz"
# A role, the part of it, its options, and what is said with --check --diff, or not said if it begins with "!".
CASES: dict[str, tuple[str, str, dict[str, str], str]] = {
    "a bit": ("service_proxy", "check", {"service_proxy_masquerade_bit": "15"}, "!FAILED"),
    "packages": (
        "service_proxy",
        "main",
        {"service_proxy_install": "false", "service_proxy_snapshot": ABSENT},
        f"There is no snapshot at {ABSENT}",
    ),
    "a port": ("cluster_dns", "check", {"cluster_dns_port": "53", "cluster_dns_configure_resolver": "true"}, "!FAILED"),
    "a resolver that stays": ("cluster_dns", "resolver", {"cluster_dns_configure_resolver": "false"}, "!changed:"),
    "an address": (
        "cluster_dns",
        "zones",
        {
            "cluster_dns_listen_addresses": "169.254.20.11",
            "cluster_dns_mode": "kubernetes",
            "cluster_dns_kubeconfig": __file__,
            "cluster_dns_upstreams": "198.18.0.1",
        },
        "bind 169.254.20.11",
    ),
    "a boot without cron": (
        "service_resync",
        "cron",
        {"service_resync_on_boot": "false", "service_resync_interval": "90"},
        "!@reboot",
    ),
    "minutes of cron": ("service_resync", "cron", {"service_resync_interval": "90"}, "*/2 * * * *"),
    "hours of cron": ("service_resync", "cron", {"service_resync_interval": "5400"}, "\n+0 */2 * * * root"),
    "a day of cron": ("service_resync", "cron", {"service_resync_interval": "100000"}, "\n+0 0 * * * root"),
    "a time limit": (
        "service_resync",
        "systemd",
        {"service_resync_time_limit": "300", "service_resync_serve": "false"},
        "TimeoutStartSec=330",
    ),
    "names of Pods": (
        "cluster_snapshot",
        "read",
        {
            "cluster_snapshot_pods": "false",
            "cluster_dns_pods": "verified",
            "cluster_snapshot_source": "manifests",
            "cluster_snapshot_manifests": str(MANIFESTS),
            "cluster_snapshot_path": ABSENT,
        },
        '!"pods": 0,',
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Ansible says of each case; all in one run, in check mode."""
    place = tmp_path_factory.mktemp("strings")
    tasks = []
    for case, (role, part, options, _expected) in CASES.items():
        name = {"name": f"kubenode.servicenet.{role}", "tasks_from": part}
        tasks.append(
            {
                "name": f"CASE {case}",
                "block": [
                    {"ansible.builtin.include_role": name, "vars": options},
                    {"ansible.builtin.meta": "flush_handlers"},
                ],
                "rescue": [{"ansible.builtin.debug": {"msg": "{{ ansible_failed_result }}"}}],
            }
        )
        tasks.append({"name": f"END {case}", "ansible.builtin.debug": {"msg": ""}})
    # Nothing comes that would remove the scratch file of check mode.
    text = run_play(place, "--check", "--diff", "-v", variables={"TMPDIR": str(place)}, tasks=tasks)
    found, rest = {}, text
    for case in CASES:
        found[case], _end, rest = rest.partition(f"TASK [END {case}]")
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_string_means_what_it_says(case: str, said: dict[str, str]) -> None:
    expected = CASES[case][3]
    if expected.startswith("!"):
        assert "failed" not in said[case], said[case]
        assert expected[1:] not in said[case]
    else:
        assert expected in said[case], said[case]

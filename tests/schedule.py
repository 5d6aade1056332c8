# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pytest plugin for a run in several processes: which tests stay together in one of them, and which begin first.

The tests of a file share a lab and stay together, but for the files below. What takes longest begins first: whatever
begins last runs alone at the end.
"""

from __future__ import annotations

import re
from enum import Enum

import pytest
from xdist.scheduler import LoadScopeScheduling


class Together(Enum):
    """What of a file stays together."""

    ALL = "all tests"
    MODE = "all tests of one mode or variant"
    NOTHING = "each test stands alone"


# The files that take longest, in the order in which they begin; all others come behind them.
LONGEST = {
    "tests/sanity/test_sanity.py": Together.NOTHING,
    "tests/integration/test_cluster_dns.py": Together.ALL,
    "tests/molecule/test_scenarios.py": Together.ALL,
    "tests/integration/test_guides.py": Together.NOTHING,
    "tests/integration/test_in_uml.py": Together.NOTHING,
    "tests/integration/test_core_versions.py": Together.NOTHING,
    "tests/conformance/test_random_packets.py": Together.ALL,
    "tests/conformance/test_packets.py": Together.MODE,
    "tests/integration/test_agent.py": Together.MODE,
    "tests/integration/test_demo.py": Together.NOTHING,
    "tests/boot/test_dns_resolvers.py": Together.NOTHING,
    "tests/integration/test_cluster_snapshot.py": Together.ALL,
    "tests/integration/test_resync.py": Together.ALL,
    "tests/integration/test_rollback_playbook.py": Together.ALL,
    "tests/integration/test_userspace_keeper.py": Together.ALL,
    "tests/conformance/test_packets_in_uml.py": Together.ALL,
    "tests/integration/test_services_kill.py": Together.MODE,
    "tests/integration/test_services_refused.py": Together.MODE,
    "tests/integration/test_endpoint_slices.py": Together.ALL,
    "tests/conformance/test_endpoint_twins.py": Together.ALL,
    "tests/boot/test_resync_at_boot.py": Together.ALL,
    "tests/boot/test_push_at_work.py": Together.NOTHING,
    "tests/conformance/test_packets_over_time.py": Together.ALL,
    "tests/integration/test_services_check.py": Together.NOTHING,
    "tests/integration/test_services_hostile.py": Together.ALL,
    "tests/integration/test_services_repeat.py": Together.ALL,
    "tests/sanity/test_core_versions.py": Together.NOTHING,
    "tests/integration/test_services_load.py": Together.MODE,
    "tests/integration/test_services_explain.py": Together.ALL,
    "tests/integration/test_audit.py": Together.ALL,
    "tests/integration/test_agent_url.py": Together.ALL,
    "tests/integration/test_nftables.py": Together.ALL,
    "tests/lint/test_lint.py": Together.ALL,
}
ORDER = {file: place for place, file in enumerate(LONGEST)}
_MODE = re.compile(r"\[(?:.*?-)??(iptables-nft|iptables-legacy|iptables|nftables|ipvs|userspace)(?:-.*)?\]$")


def group(test: str) -> str:
    """What a test stays together with, as a name that all of these have in common.

    :param test: pytest's name for it.
    """
    file = test.partition("::")[0]
    together = LONGEST.get(file, Together.ALL)
    if together is Together.NOTHING:
        return test
    mode = _MODE.search(test) if together is Together.MODE else None
    return f"{file} {mode[1]}" if mode else file


class Schedule(LoadScopeScheduling):  # type: ignore[misc] # which has no types
    """Hands groups to the processes in the order of their first tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    """In place of xdist's own."""
    # Which begins with the groups of most tests.
    config.option.loadscopereorder = False
    return Schedule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, the same in every process."""
    items.sort(key=lambda item: ORDER.get(item.nodeid.partition("::")[0], len(ORDER)))

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that adds the hosts of groups."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kubenode.servicenet.plugins.filter.inventory_endpoints import FilterModule

add_hosts = FilterModule().filters()["inventory_endpoints"]


def test_addresses_and_variables_of_hosts() -> None:
    hostvars = {
        "one": {"ansible_host": "198.18.0.1", "service_endpoints_ports": {"http": 81}, "service_endpoints_zone": "a"},
        "two": {"ansible_host": "198.18.0.2", "service_endpoints_address": "198.18.1.2"},
        "198.18.0.3": {},
    }
    entry = {"service": "db", "group": "databases", "ports": {"http": 80, "admin": 90}, "probe": "http"}
    assert add_hosts([entry], {"databases": ["one", "two", "198.18.0.3"]}, hostvars) == [
        {
            "service": "db",
            "probe": "http",
            "hosts": [
                {"name": "one", "address": "198.18.0.1", "ports": {"http": 81, "admin": 90}, "zone": "a"},
                {"name": "two", "address": "198.18.1.2", "ports": {"http": 80, "admin": 90}},
                {"name": "198.18.0.3", "address": "198.18.0.3", "ports": {"http": 80, "admin": 90}},
            ],
        }
    ]


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="no group 'database'"):
        add_hosts([{"service": "db", "group": "database"}], {"databases": []}, {})

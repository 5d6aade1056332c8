# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tables of iptables-legacy this network namespace has: where it has none, nothing has to be asked of that tool.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Sequence

from .files import read_bytes

LEGACY = "legacy"
PREFIXES = {4: "iptables", 6: "ip6tables"}
LOADED_TABLES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}


def loaded_tables(family: int) -> Sequence[str]:
    """The legacy tables that this network namespace has."""
    return (read_bytes(LOADED_TABLES[family]) or b"").decode("ascii", "replace").split()

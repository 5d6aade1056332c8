# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One program runs every mode, so the modules of all modes return the same."""

from __future__ import annotations

from importlib import import_module

import yaml

MODES = ("iptables", "nftables", "ipvs", "userspace")


def returned(mode: str) -> dict[str, str]:
    """What the module of a mode says that it returns, and when."""
    module = import_module(f"ansible_collections.kubenode.servicenet.plugins.modules.{mode}_services")
    return {key: value["returned"] for key, value in yaml.safe_load(module.RETURN).items()}


def test_every_mode_documents_the_same_result() -> None:
    first, *others = map(returned, MODES)
    assert [*others] == [first] * len(others)

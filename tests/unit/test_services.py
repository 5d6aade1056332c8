# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that no role has looked at, as where a module is called by itself."""

from __future__ import annotations

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._options import completed
from ansible_collections.kubenode.servicenet.plugins.module_utils._services import settings


@pytest.mark.parametrize("bit", [-1, 32])
def test_a_mark_has_32_bits(bit: int) -> None:
    with pytest.raises(OptionError, match=f"masquerade_bit is {bit}, and a packet mark has the bits 0 to 31"):
        settings(completed({"masquerade_bit": bit}), build_snapshot([]))


@pytest.mark.parametrize("bit", [0, 31])
def test_each_of_them_can_be_taken(bit: int) -> None:
    assert settings(completed({"masquerade_bit": bit}), build_snapshot([])).masquerade_bit == bit

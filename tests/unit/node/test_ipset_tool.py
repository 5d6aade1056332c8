# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tool ipset where it can't list anything."""

from __future__ import annotations

import pytest
from unit.node.fakes import FakeRunner, found_in

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ToolError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipset_tool import IpsetTool
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.runner import MissingInKernelError


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ipset v7.17: Cannot open session to kernel.", MissingInKernelError),
        ("ipset v7.17: Kernel error received: Invalid argument", MissingInKernelError),
        ("ipset v7.17: Kernel error received: Operation not permitted", ToolError),
    ],
)
def test_a_kernel_without_sets_is_told_apart(said: str, kind: type[ToolError]) -> None:
    with pytest.raises(ToolError) as told:
        IpsetTool(FakeRunner({"/sbin/ipset save": (1, "", said)}), found_in("ipset")).read()
    assert told.value.__class__ is kind

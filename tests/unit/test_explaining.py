# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A packet that can't be is told as such."""

from __future__ import annotations

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._explaining import packet_of


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    asked = {"source": "node", "destination": "127.0.0.1", "port": port, "protocol": "tcp", "interface": ""}
    with pytest.raises(OptionError, match=r"explain.port is -?\d+, and not from 1 to 65535"):
        packet_of(asked, Settings(NodeView("node-a")))

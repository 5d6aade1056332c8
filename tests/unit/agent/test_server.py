# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small server of a node goes on answering, whatever it can't read."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

from lab.control_plane import free_port

from ansible_collections.kubenode.servicenet.plugins.module_utils._agent import server
from ansible_collections.kubenode.servicenet.plugins.module_utils._agent.config import Config


def test_a_state_that_can_not_be_read_at_the_moment_ends_nothing(tmp_path: Path) -> None:
    """As where the system has no more files to open."""
    state, port = tmp_path / "nftables.json", free_port()
    said: list[str] = []
    config = Config(state_dir=str(tmp_path), healthz_address=f"127.0.0.1:{port}", metrics_address="")
    served = server.Servers(config, said.append)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers: list[int] = []

    def rounds() -> Iterator[bool]:
        yield False
        client.request("GET", "/livez")
        state.mkdir()
        yield False
        yield False
        answers.append(client.getresponse().status)
        state.rmdir()
        yield False
        yield True

    ends = rounds()
    served.serve(lambda: next(ends))
    client.close()
    assert answers == [503]
    assert said == [f"The state of this node can't be read: {state} can't be read: Is a directory."]

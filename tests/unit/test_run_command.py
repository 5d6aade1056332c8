# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a module runs a tool: nothing that the tool says is lost, however late it says it."""

from __future__ import annotations

import json
import select
import selectors
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.kubenode.servicenet.plugins.module_utils._module import runner_of


class Late(selectors.PollSelector):
    """Says after the usual second that there is nothing to read; and before it is asked again, the tool has ended."""

    waited = False

    def select(self, timeout: float | None = None) -> Any:
        if not self.waited:
            self.waited = True
            for fileobj in [key.fileobj for key in self.get_map().values()]:
                end = select.poll()
                end.register(fileobj, 0)
                end.poll()
            return []
        return super().select(timeout)


def test_what_a_tool_says_just_before_it_ends_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {}}).encode()
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", arguments)
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    module = basic.AnsibleModule({})
    monkeypatch.setattr(basic.selectors, "PollSelector", Late)
    run = runner_of(module)
    assert run(["sh", "-c", "echo said; echo complained >&2; exit 3"]) == (3, "said\n", "complained\n")
    assert run(["cat"], "given") == (0, "given", "")
    assert run(["true"]) == (0, "", "")

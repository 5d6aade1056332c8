# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a module runs a tool: nothing that the tool says is lost, however late it says it."""

from __future__ import annotations

import json
import select
import selectors
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.kubenode.servicenet.plugins.module_utils._module import runner_of
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import runner


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


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> basic.AnsibleModule:
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {}}).encode()
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", arguments)
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    return basic.AnsibleModule({})


def test_what_a_tool_says_just_before_it_ends_is_read(
    module: basic.AnsibleModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basic.selectors, "PollSelector", Late)
    run = runner_of(module)
    assert run(["sh", "-c", "echo said; echo complained >&2; exit 3"]) == (3, "said\n", "complained\n")
    assert run(["cat"], "given") == (0, "given", "")
    assert run(["true"]) == (0, "", "")


def test_a_tool_that_is_not_there_is_one_that_fails(module: basic.AnsibleModule) -> None:
    """A container has no modprobe, and a run goes on without."""
    rc, out, err = runner_of(module)(["no-such-tool", "--quiet"])
    assert (rc, out) == (127, "")
    assert err == "no-such-tool: No such file or directory"


def test_a_tool_of_the_administrator_is_found_with_the_path_of_a_user(
    module: basic.AnsibleModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So it is with `become_method: su`."""
    tool = tmp_path / "sbin" / "only-for-root"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(runner, "SBIN", (*runner.SBIN, str(tool.parent)))
    assert runner_of(module)(["only-for-root"]) == (0, "found\n", "")


def test_a_tool_that_refuses_before_it_has_read_all_says_why(module: basic.AnsibleModule) -> None:
    """More than a pipe holds. Without what the tool says, the steps before this one would not be taken back."""
    assert runner_of(module)(["sh", "-c", "echo line 1 >&2; exit 2"], "x" * (1 << 20)) == (2, "", "line 1\n")

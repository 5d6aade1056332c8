# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A look at what other programs do waits for none of them for ever, and takes no failure for an empty kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NetlinkError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import others
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.netlink import refused


@pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="iptables-legacy is not installed")
def test_a_lock_that_somebody_keeps_ends_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real iptables-legacy, with a lock of its own that is never given back."""
    monkeypatch.setattr(others, "loaded_tables", lambda _family: ["filter"])
    monkeypatch.setattr(others, "LOCK_SECONDS", "1", raising=False)

    def run(argv: list[str], _data: str | None = None) -> tuple[int, str, str]:
        # In a network namespace of its own: it would load a table here.
        apart = ["unshare", "--net", "--map-root-user", *argv]
        environment = {**os.environ, "XTABLES_LOCKFILE": str(tmp_path / "lock")}
        done = subprocess.run(apart, capture_output=True, text=True, env=environment, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert others.forward_drops(run, [4], []) == []


def test_rules_that_change_all_the_time_are_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        code = errno.EPROTONOSUPPORT

        def __init__(self, _protocol: int, what: str) -> None:
            raise refused(what, Kernel.code)

    monkeypatch.setattr(others, "Netlink", Kernel)
    assert others.nft_tables() == []
    Kernel.code = errno.EINTR
    with pytest.raises(NetlinkError):
        others.nft_tables()

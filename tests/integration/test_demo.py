# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo` does what it says, and its exit status tells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lab.claim import labs
from lab.control_plane import has_peers

DEMO = Path(__file__).resolve().parents[1] / "lab" / "demo.py"


@pytest.mark.parametrize(("mode", "source"), [("iptables", "manifests"), ("nftables", "cluster")])
def test_demo(mode: str, source: str) -> None:
    """Both nodes are programmed, a second run changes nothing, all requests are answered, the machine is clean."""
    if source == "cluster" and not has_peers("kube-apiserver"):
        pytest.skip("kube-apiserver has not been built (`make peers`)")
    variables = {"MODE": mode, "SOURCE": source, "KEEP": ""}
    demo = subprocess.Popen(
        [sys.executable, DEMO],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _nothing = demo.communicate()
    assert demo.returncode == 0, said
    assert re.search(r"The second run: 0 tasks changed something on node-a, node-b", said)
    rows = re.findall(r"^  (\S+) .* http://\S+ +(.+)$", said, re.MULTILINE)
    assert [place for place, _who in rows].count("outside") == 3
    for place, who in rows:
        assert sum(int(times) for times in re.findall(r"pod-[ab][12] x (\d+)", who)) == 10, place
    assert not [prefix for prefix in labs() if prefix.startswith(f"sn{demo.pid}x")]

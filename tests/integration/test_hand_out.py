# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node gets the snapshot as a file that is not for everybody, and the directory stays as it is."""

from __future__ import annotations

from pathlib import Path

from lab.cluster import MANIFESTS
from on_localhost import run_play


def hand_out(place: Path, node_path: Path) -> None:
    """Runs the role with this machine for a node."""
    variables = {
        "cluster_snapshot_source": "manifests",
        "cluster_snapshot_manifests": [str(MANIFESTS)],
        "cluster_snapshot_path": str(place / "kept" / "snapshot.jsonl.gz"),
        "cluster_snapshot_node_path": str(node_path),
    }
    roles = [{"role": "kubenode.servicenet.cluster_snapshot", "vars": variables}]
    run_play(place, roles=roles)


def test_a_directory_of_others_keeps_its_mode(tmp_path: Path) -> None:
    theirs = tmp_path / "tmp"
    theirs.mkdir()
    theirs.chmod(0o1777)
    hand_out(tmp_path, theirs / "snapshot.jsonl.gz")
    assert theirs.stat().st_mode & 0o7777 == 0o1777
    assert (theirs / "snapshot.jsonl.gz").stat().st_mode & 0o777 == 0o640


def test_a_directory_that_is_made_lets_others_through(tmp_path: Path) -> None:
    hand_out(tmp_path, tmp_path / "made" / "snapshot.jsonl.gz")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755

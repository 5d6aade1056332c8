# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A snapshot that was handed to a node takes the place of the one there, whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._options import completed, recorded
from ansible_collections.kubenode.servicenet.plugins.module_utils._services import lacks_snapshot, take_in


def of(*names: str) -> bytes:
    """The snapshot of a cluster with these namespaces."""
    return snapshot.dump(snapshot.build([{"kind": "Namespace", "metadata": {"name": name}} for name in names]))


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    """The options of a node that has no snapshot yet and gets one."""
    (tmp_path / "arrived").write_bytes(of("new"))
    places = {"snapshot": str(tmp_path / "kept/snapshot"), "snapshot_arrived": str(tmp_path / "arrived")}
    return completed({**places, "snapshot_digest": snapshot.load(of("new")).digest})


def test_it_takes_the_place_of_none_and_of_an_old_one(params: dict[str, Any]) -> None:
    place = Path(params["snapshot"])
    assert lacks_snapshot(params)
    for _old in range(2):
        assert take_in(params, False)
        assert place.read_bytes() == of("new")
        assert not lacks_snapshot(params)
        assert [stat.S_IMODE(path.stat().st_mode) for path in (place.parent, place)] == [0o750, 0o640]
        place.write_bytes(of("old"))
    place.write_bytes(of("new"))
    written = place.stat()
    assert not take_in(params, False)
    assert place.stat() == written
    assert list(place.parent.iterdir()) == [place]
    # How it came says nothing about the rules.
    assert "snapshot_arrived" not in recorded(params)


def test_a_damaged_one_is_refused(params: dict[str, Any]) -> None:
    place = Path(params["snapshot"])
    take_in(params, False)
    for data in (b"", of("newer")[:-9]):
        Path(params["snapshot_arrived"]).write_bytes(data)
        with pytest.raises(ServicenetError):
            take_in(params, False)
        assert place.read_bytes() == of("new")


def test_check_mode_looks_at_it_where_it_arrived(params: dict[str, Any]) -> None:
    place = Path(params["snapshot"])
    assert take_in(params, True)
    assert not place.parent.exists()
    assert params["snapshot"] == params["snapshot_arrived"]
    assert not lacks_snapshot(params)


def test_rules_that_go_need_none(params: dict[str, Any]) -> None:
    assert not take_in({**params, "state": "absent"}, False)
    assert not Path(params["snapshot"]).exists()

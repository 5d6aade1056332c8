# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the integration tests share: labs, and control planes where the real programs have been built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import ControlPlane, Lab
from lab.control_plane import has_peers

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there are no namespaces: the tests of this directory are skipped."""
    if os.geteuid() == 0:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="network namespaces need root"))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes with three Pods each and a client outside; one for each file of tests."""
    with Lab() as built:
        yield built


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """A real etcd and kube-apiserver, without controllers; one for each file of tests."""
    if not has_peers("kube-apiserver"):
        pytest.skip("kube-apiserver has not been built (`make peers`)")
    with ControlPlane() as started:
        yield started

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the tests that boot a machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab.machine import Machine, obstacle


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine that has booted, without any network configuration; one for each file of tests."""
    reason = obstacle()
    if reason:
        pytest.skip(reason)
    with Machine() as booted:
        yield booted

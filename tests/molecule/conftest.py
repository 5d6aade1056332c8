# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of this directory share: an engine for containers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from lab import LabError
from lab.containers import obstacle
from lab.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[dict[str, str]]:
    """The environment in which docker finds an engine: one that runs, else our own; without any, nothing of it."""
    with contextlib.ExitStack() as stack:
        variables = {}
        if os.environ.get("SERVICENET_LAB") != "namespaces" and obstacle():
            try:
                variables = {"DOCKER_HOST": stack.enter_context(Engine()).host}
            except LabError as error:
                print(error)
        yield variables

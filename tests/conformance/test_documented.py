# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/conformance.md shows the very deviations that the tests of names and of endpoint records allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.dns import deviations as dns
from conformance.endpoints import deviations as endpoints


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(dns.table(dns.DEVIATIONS), id="dns"),
        pytest.param(dns.table(dns.BIND_DEVIATIONS), id="bind"),
        pytest.param(endpoints.table(endpoints.load()), id="endpoints"),
    ],
)
def test_deviations_are_documented(checkout: Path, table: str) -> None:
    page = (checkout / "docs" / "conformance.md").read_text()
    missing = [line for line in table.splitlines() if line not in page]
    assert table in page, f"docs/conformance.md should have:\n{table}\nand lacks:\n" + "\n".join(missing)

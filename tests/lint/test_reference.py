# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The generated pages are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import reference


def test_reference_is_current(checkout: Path) -> None:
    there = {path.name: path.read_text() for path in (checkout / "docs" / "reference").glob("*.md")}
    made = reference.pages()
    wrong = sorted(name for name in there.keys() | made.keys() if there.get(name) != made.get(name))
    assert not wrong, f"`make docs` has to be run again for {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See M(kubenode.servicenet.service_probe).", "See [kubenode.servicenet.service_probe](service_probe.md)."),
        ("The role P(kubenode.servicenet.service_proxy#role).", "The role [service_proxy](role_service_proxy.md)."),
        ("O(state=present) and V(absent) and C(ip servicenet)", "`state=present` and `absent` and `ip servicenet`"),
        ("A(b) stays, B(this) is stressed.", "A(b) stays, *this* is stressed."),
    ],
)
def test_markup(text: str, shown: str) -> None:
    assert reference.marked(text) == shown

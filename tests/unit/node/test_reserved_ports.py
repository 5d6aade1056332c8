# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The texts that make the kernel reserve ports: ranges, in pieces that it takes at once."""

from __future__ import annotations

from ansible_collections.kubenode.servicenet.plugins.module_utils._node.reserved_ports import PIECE, pieces


def test_neighbours_become_ranges() -> None:
    assert pieces([5, 3, 4, 9]) == ["3-5,9"]
    assert pieces([]) == [""]


def test_a_long_list_is_cut_between_numbers() -> None:
    made = pieces(range(10000, 30000, 2))
    assert all(len(piece) <= PIECE for piece in made)
    assert ",".join(made) == ",".join(map(str, range(10000, 30000, 2)))

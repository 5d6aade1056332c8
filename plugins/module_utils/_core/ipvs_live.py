# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which frontends our virtual servers and sets serve, and where they lead.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Tuple

from .ipvs import STRAY
from .live import LiveFrontend
from .passes import Program
from .table import DROP, REJECT

_REFUSED = {"REJECT": REJECT, "NPREJECT": REJECT, "DROP": DROP}

# family, address, protocol, port
_Key = Tuple[int, str, str, int]


def frontends(program: Program) -> list[LiveFrontend]:
    """What real servers and the entries of sets name."""
    backends: dict[_Key, set[tuple[str, int]]] = {}
    refused: dict[_Key, str] = {}
    for name in program:
        family, kind, *rest = name.split("/")
        if kind == "real" and rest[0] != STRAY:
            _role, protocol, address, port, to_address, to_port = rest
            key = (int(family), "" if address == "-" else address, protocol.upper(), int(port))
            backends.setdefault(key, set()).add((to_address, int(to_port)))
        elif kind == "set" and rest[0] in _REFUSED:
            address, _comma, place = rest[1].rpartition(",")
            protocol, port = place.split(":")
            refused[int(family), address, protocol.upper(), int(port)] = _REFUSED[rest[0]]
    return [
        LiveFrontend(*key, tuple(sorted(backends.get(key, ()))), refused.get(key, ""))
        for key in sorted({*backends, *refused})
    ]

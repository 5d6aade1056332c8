# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which frontends the elements of our nftables tables serve, and where they lead.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Tuple

from . import text_nftables as text
from .live import LiveFrontend
from .nftables import parts
from .passes import Program
from .table import DROP, REJECT

_PROTOCOLS = {number: protocol for protocol, number in text.NUMBERS.items()}
_VERDICTS = ("service", "outside_service", "nodeport", "outside_nodeport")
_REJECTED = ("rejected", "rejected_nodeport")

# family, address, protocol, port
_Key = Tuple[int, str, str, int]


def frontends(program: Program) -> list[LiveFrontend]:
    """What the elements name."""
    backends: dict[_Key, set[tuple[str, int]]] = {}
    refused: dict[_Key, str] = {}
    for name, content in program.items():
        family, kind, key = parts(name)
        words = key.split(" . ")
        if kind in text.ENDPOINTS:
            node_port, protocol = "nodeport" in kind, kind.rpartition("_")[2].upper()
            address, port = ("", words[0]) if node_port else (words[0], words[1])
            to_address, to_port = _value(content).split(" . ")
            backends.setdefault((family, address, protocol, int(port)), set()).add((to_address, int(to_port)))
        elif kind in _REJECTED:
            refused[_frontend(family, words)] = REJECT
        elif kind in _VERDICTS and _value(content) == DROP:
            refused[_frontend(family, words)] = DROP
    return [
        LiveFrontend(*key, tuple(sorted(backends.get(key, ()))), refused.get(key, ""))
        for key in sorted({*backends, *refused})
    ]


def _value(content: Any) -> str:
    return str(content).partition(" : ")[2]


def _frontend(family: int, words: list[str]) -> _Key:
    address = words[0] if len(words) > 2 else ""
    protocol, port = words[-2:]
    return family, address, _PROTOCOLS.get(protocol, protocol), int(port)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a mode can tell, without its own code, that nobody touched what its last run left.

A module of a mode that can hands one of these in; the others always look at what the node holds.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from ._core import versions
from ._node import generation
from ._node.runner import Runner


class Watch(NamedTuple):
    """``compiler``: the version of the mode's compiler; ``token`` as in ``_mode.Mode``; ``variant`` of iptables, "" if
    the mode uses none; ``warnings`` as in ``_mode.Mode``."""

    compiler: int
    token: str
    variant: str = ""
    warnings: tuple[str, ...] = ()


# From the options, the families and a command runner.
Look = Callable[[Any, Any, Runner], Watch]


def nftables(_params: dict[str, Any], _families: tuple[int, ...], _run: Runner) -> Watch:
    """Any program that writes nftables rules moves their generation."""
    return Watch(versions.NFTABLES, generation.token())

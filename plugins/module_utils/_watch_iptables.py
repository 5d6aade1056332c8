# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the mode iptables can tell, without its own code, that nobody touched what its last run left.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any

from ._core import versions
from ._node import generation
from ._node.iptables_tool import NFT, detect
from ._node.runner import Runner
from ._watch import Watch


def token(variant: str) -> str:
    """iptables-nft moves the generation of nftables; iptables-legacy has nothing like it."""
    return generation.token() if variant == NFT else ""


def leftover(variant: str) -> str:
    """The warning about chains of ours in the variant that is not used."""
    return (
        f"iptables-{variant} still holds rules of this collection, from when the node used that variant:"
        f" remove them with state absent and variant {variant}."
    )


def look(params: dict[str, Any], families: tuple[int, ...], run: Runner) -> Watch:
    """Which variant the node uses, and whether its rules may have changed."""
    found = detect(run, families, "" if params["variant"] == "auto" else params["variant"])
    warnings = (leftover(found.leftover),) if found.leftover else ()
    return Watch(versions.IPTABLES, token(found.variant), found.variant, warnings)

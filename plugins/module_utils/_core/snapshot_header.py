# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first line of a snapshot's file, without the rest: what it says of its digest and counts is not proven.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

_ENOUGH = 4096


def of(data: bytes) -> dict[str, Any]:
    """The header of a file; {} if it has none."""
    try:
        # 31: a gzip file, as big as they come.
        header = json.loads(zlib.decompressobj(31).decompress(data, _ENOUGH).partition(b"\n")[0])
    except (zlib.error, ValueError):
        return {}
    return header if isinstance(header, dict) else {}

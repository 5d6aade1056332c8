# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests completed, with the file of what was chosen for their Services beside the snapshot.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.allocations import Allocations, Ranges
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoint_completion import Completed, complete
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import SnapshotError

from .inventory import published_hosts
from .stored import write_file


def allocations_path(snapshot: str) -> str:
    """The file beside a snapshot with the addresses and node ports that were chosen."""
    return f"{snapshot}.allocations.json"


def load_allocations(snapshot: str) -> Allocations:
    """What earlier runs chose; nothing if there is no file. Raises ``SnapshotError`` for one that can't be used."""
    path = allocations_path(snapshot)
    try:
        with open(path, "rb") as stream:
            return Allocations.from_json(json.loads(stream.read()))
    except FileNotFoundError:
        return Allocations()
    except (OSError, ValueError) as wrong:
        # Choosing anew would move the addresses of every Service.
        raise SnapshotError(f"The allocations file {path} can't be read: {wrong}.") from None


def save_allocations(snapshot: str, allocations: Allocations) -> None:
    """Write what was chosen, unless the file says the same already."""
    if load_allocations(snapshot) != allocations:
        content = json.dumps(allocations.as_json(), indent=2, sort_keys=True) + "\n"
        write_file(allocations_path(snapshot), content.encode())


def complete_manifests(
    objects: Iterable[dict[str, Any]], snapshot: str, ranges: Ranges, inventory: Sequence[Mapping[str, Any]] = ()
) -> Completed:
    """The objects of manifests with all that a cluster would add; writes nothing. Raises ``ServicenetError``.

    :param inventory: hosts behind Services without a selector; each is asked whether it is ready.
    """
    given = list(objects)
    published = published_hosts((item for item in given if item.get("kind") == "Service"), inventory, {})
    return complete(given, load_allocations(snapshot), ranges, published=published)

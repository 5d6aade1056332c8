# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's endpoints controller as the comparison calls it: INPUT OUTPUT, both JSON files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.endpoints import (
    ClusterObjects,
    EndpointsSettings,
    applied,
    plan_endpoints,
)

SETTINGS = EndpointsSettings(write="both")


def answer(given):
    """The state after one pass, from the state before it."""
    objects = ClusterObjects(**given)
    after = applied(objects, plan_endpoints(objects, SETTINGS).changes)
    return {"endpointslices": after.endpointslices, "endpoints": after.endpoints}


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as given, open(target, "w", encoding="utf-8") as out:
        json.dump(answer(json.load(given)), out)


if __name__ == "__main__":
    main()

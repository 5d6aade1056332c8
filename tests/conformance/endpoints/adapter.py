#!/usr/bin/env python3
# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's endpoints controller as the comparison calls it: INPUT OUTPUT, both JSON files."""

import json
import os
import sys

# The core is pure: without ansible, without the collection being installed.
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path.insert(0, os.path.join(ROOT, "plugins", "module_utils"))

from _core.endpoints import ClusterObjects, EndpointsSettings, applied, plan_endpoints  # noqa: E402


def answer(given):
    """The state after one pass, from the state before it."""
    objects = ClusterObjects(**given)
    after = applied(objects, plan_endpoints(objects, EndpointsSettings(write="both")).changes)
    return {"endpointslices": after.endpointslices, "endpoints": after.endpoints}


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as given, open(target, "w", encoding="utf-8") as out:
        json.dump(answer(json.load(given)), out)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand-written Endpoints mirrored into EndpointSlices, for consumers that read slices only.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Sequence, Tuple

from .endpoint_objects import (
    LAST_APPLIED,
    LEADER,
    SKIP_MIRROR,
    TRIGGER_TIME,
    Object,
    annotations_of,
    family_of,
    labels_of,
)
from .endpoint_pods import Identity, PortsKey, identity, ports_key
from .endpoint_slicing import DraftSlice, Slicing, recycled, same_but_hints
from .endpoint_subsets import offers_of, pack_subsets
from .errors import ObjectError
from .objects import object_key

# The most addresses of one subset that are mirrored; also the API's limit for one slice.
MAX_MIRRORED = 1000

_GroupKey = Tuple[str, PortsKey]


def wants_mirror(endpoints: Object) -> bool:
    """Whether Endpoints may be mirrored at all; leader election records are no endpoints."""
    return labels_of(endpoints).get(SKIP_MIRROR) != "true" and LEADER not in annotations_of(endpoints)


def mirrored_annotations(endpoints: Object) -> dict[str, str]:
    """The annotations that a mirrored slice takes from the Endpoints."""
    return {
        name: value for name, value in annotations_of(endpoints).items() if name not in (TRIGGER_TIME, LAST_APPLIED)
    }


def _endpoint(address: Object, ready: bool) -> Object:
    """One address as an endpoint; raises ValueError for what is no address."""
    made: Object = {"addresses": [str(ip_address(str(address["ip"])))], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            made[name] = address[name]
    return made


def mirror(endpoints: Object, existing: Sequence[Object]) -> tuple[Slicing, list[str]]:
    """The slices that mirror Endpoints, one for each list of ports and family.

    :param existing: the slices that mirror these Endpoints now.
    :returns: the slices, and a sentence for each thing that was not mirrored.

    Raises ObjectError for Endpoints that can't be read.
    """
    try:
        subsets = pack_subsets(offers_of(endpoints.get("subsets") or ()))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ObjectError("Endpoints", object_key(endpoints), "its subsets can't be read.") from None
    wanted: dict[_GroupKey, dict[Identity, Object]] = {}
    ports: dict[_GroupKey, list[Object]] = {}
    problems = []
    for subset in subsets:
        listed = subset.get("ports") or []
        added, skipped = 0, 0
        for offer in offers_of([subset]):
            if added == MAX_MIRRORED:
                skipped += 1
                continue
            try:
                endpoint = _endpoint(offer.address, offer.ready)
            except ValueError:
                problems.append(f"{str(offer.address['ip'])[:50]!r} is no IP address and is not mirrored.")
                continue
            key = (family_of(endpoint["addresses"][0]), ports_key(listed))
            wanted.setdefault(key, {})[identity(endpoint)] = endpoint
            ports.setdefault(key, listed)
            added += 1
        if skipped:
            problems.append(f"a subset has more than {MAX_MIRRORED} addresses; {skipped} are not mirrored.")
    kept, deleted = [], []
    ordered = sorted(existing, key=lambda item: str(item["metadata"]["name"]))
    for item in ordered:
        key = (item["addressType"], ports_key(item.get("ports") or ()))
        group = wanted.pop(key, None)
        if group is None:
            deleted.append(item)
            continue
        kept.append(DraftSlice(item, key[0], ports[key], _unchanged(item, group), True))
    kept += [DraftSlice(None, key[0], ports[key], list(wanted[key].values()), True) for key in sorted(wanted)]
    return recycled(kept, deleted), problems


def _unchanged(item: Object, wanted: dict[Identity, Object]) -> list[Object]:
    """The wanted endpoints, in the order and wording of the slice if it says the same already."""
    found = item.get("endpoints") or []
    same = len(found) == len(wanted) and all(
        identity(each) in wanted and same_but_hints(wanted[identity(each)], each) for each in found
    )
    return found if same else list(wanted.values())

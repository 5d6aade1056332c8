# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the real kube-proxy does with random clusters, written down as ../packets/README.md says of the recorded cases:
for a kernel on which it does not run."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conformance.packets.outcome import classify
from conformance.packets.packet_lab import PacketLab
from conformance.random.clusters import generate, probes
from conformance.random.twins import Original

MODES = ("iptables", "nftables")
# So many tries, and as many more for each of several endpoints that they met: one of up to five stays unseen in fewer
# than one of a hundred million probes.
ENOUGH = 30


def record(seeds: Iterable[int], directory: Path) -> list[str]:
    """The cases of these seeds, a file each -> their names."""
    names = []
    with Original() as original:
        for seed in seeds:
            name, case = _case(original, seed)
            # JSON is YAML.
            (directory / f"{name}.yaml").write_text(json.dumps(case))
            names.append(name)
    return names


def _case(original: Original, seed: int) -> tuple[str, dict[str, Any]]:
    cluster = generate(seed)
    manifests = original.fill(cluster.manifests)
    asked = [probe | {"expected": {}} for probe in probes(cluster)]
    for mode in MODES:
        original.start_kube_proxy(mode, cluster.options)
        original.wait_for_kube_proxy()
        outcomes = _outcomes(original.theirs, asked)
        _complete(original, cluster.manifests, asked, outcomes)
        for probe, outcome in zip(asked, outcomes, strict=True):
            probe["expected"][mode] = outcome
    return cluster.name, {
        "proxy_options": cluster.options,
        "before": original.completed(cluster.before, cluster.manifests),
        "manifests": manifests,
        "probes": asked,
        "healthchecks": [],
    }


def _outcomes(lab: PacketLab, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each probe shows; where somebody answers, all who do.

    Where a client with affinity met several, two of its first packets may have come at the same time: alone it meets
    one, if affinity holds.
    """
    seen = [classify(probe, raw) for probe, raw in zip(asked, lab.probe(asked), strict=True)]
    again = {
        place: asked[place] | ({} if outcome.get("any_of") else {"count": ENOUGH})
        for place, outcome in enumerate(seen)
        if "backends" in outcome and not outcome.get("sticky")
    }
    found = dict(zip(again, lab.probe(list(again.values())), strict=True))
    met = {place: len(classify(asked[place], raw).get("backends", ())) for place, raw in found.items()}
    more = {
        place: asked[place] | {"count": ENOUGH * met[place]}
        for place in again
        if met[place] > 1 and not seen[place].get("any_of")
    }
    for place, raw in zip(more, lab.probe(list(more.values())), strict=True):
        for source, outcomes in raw.items():
            found[place][source] = dict(Counter(found[place][source]) + Counter(outcomes))
    for place, raw in found.items():
        seen[place] = classify(asked[place], raw)
    return seen


def _complete(
    original: Original, manifests: Iterable[dict[str, Any]], asked: list[dict[str, Any]], outcomes: list[dict[str, Any]]
) -> None:
    """Chance says which endpoint a client sticks to: any that it gets where there is no affinity is as good."""
    places = [place for place, outcome in enumerate(outcomes) if outcome.get("any_of")]
    sticky = [one for one in manifests if one["kind"] == "Service" and one["spec"]["sessionAffinity"] == "ClientIP"]
    if not places:
        return
    changed = time.time()
    for one in sticky:
        _patch(original, one, {"sessionAffinity": "None", "sessionAffinityConfig": None})
    original.wait_for_kube_proxy(changed)
    free = _outcomes(original.theirs, [asked[place] | {"affinity": False} for place in places])
    for place, outcome in zip(places, free, strict=True):
        outcomes[place]["backends"] = outcome.get("backends", {}) | outcomes[place]["backends"]
        # With few endpoints it is chance as well.
        outcomes[place].pop("spread", None)
    for one in sticky:
        config = one["spec"].get("sessionAffinityConfig")
        _patch(original, one, {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})


def _patch(original: Original, service: dict[str, Any], spec: dict[str, Any]) -> None:
    metadata = service["metadata"]
    original.api.patch("Service", metadata["namespace"], metadata["name"], {"spec": spec})

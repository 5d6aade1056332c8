# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the real kube-proxy does with random clusters, written down as ../packets/README.md says of the recorded cases:
for a kernel on which it does not run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conformance.packets.outcome import classify
from conformance.packets.packet_lab import PacketLab, family
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
        for probe, outcome in zip(asked, _outcomes(original.theirs, asked), strict=True):
            probe["expected"][mode] = outcome
    _complete(asked, _ports(cluster.manifests))
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


def _ports(manifests: Iterable[dict[str, Any]]) -> dict[tuple[str, str, int], int]:
    """Service, protocol, and port or node port -> the port."""
    found = {}
    for one in manifests:
        if one["kind"] == "Service":
            name = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
            for port in one["spec"]["ports"]:
                for number in (port["port"], port.get("nodePort")):
                    found[name, port["protocol"], number] = port["port"]
    return found


def _complete(asked: list[dict[str, Any]], ports: dict[tuple[str, str, int], int]) -> None:
    """Chance says which endpoint a client sticks to: another one of the same service port, seen by whichever client and
    through whichever address, is as good."""
    endpoints: dict[Any, set[str]] = {}
    sticky = []
    for probe in asked:
        service = probe["target"].split(" ")[0]
        port = ports.get((service, probe["proto"], probe["port"]))
        key = (service, probe["proto"], port, family(probe["address"]))
        for outcome in probe["expected"].values():
            endpoints.setdefault(key, set()).update(outcome.get("backends", ()))
            if outcome.get("any_of"):
                sticky.append((outcome, key))
    for outcome, key in sticky:
        outcome["backends"] = dict.fromkeys(endpoints[key], "any") | outcome["backends"]
        # With few endpoints it is chance as well.
        outcome.pop("spread", None)

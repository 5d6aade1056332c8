# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random clusters: the real kube-proxy and our modules get the same packets, and must do the same with each.

SEED=N repeats one cluster, SEED=N-M several. What may differ stands in packets/deviations.yaml and in
random/deviations.yaml.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator

import pytest
from lab.control_plane import has_peers

from conformance.packets import deviations
from conformance.packets.outcome import text
from conformance.random.clusters import generate, probes
from conformance.random.known import RANDOM_DEVIATIONS, documented
from conformance.random.twins import VARIANTS, Answers, Twins

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not has_peers("kube-apiserver", "kube-proxy"), reason="the real programs are not built"),
]

SOME, ALL = 20, 200
# iptables on the legacy tables is sampled: the rules are the same as on nftables, another kernel code reads them. So is
# userspace, whose rules are those of nftables, unless full figures are asked for.
SAMPLED = ("iptables-legacy", "userspace")
SAMPLE_EVERY = 5
NEEDS = {"iptables-nft": "iptables-nft", "iptables-legacy": "iptables-legacy", "nftables": "nft", "userspace": "nginx"}


def seeds() -> list[int]:
    """Those of SEED, or 1 to 20, or with full figures 1 to 200."""
    asked = os.environ.get("SEED", "")
    if asked:
        first, _dash, last = asked.partition("-")
        return list(range(int(first), int(last or first) + 1))
    return list(range(1, (ALL if os.environ.get("SERVICENET_FULL") == "1" else SOME) + 1))


def variants(seed: int) -> list[str]:
    """What is compared for a seed: every mode, some of them only now and then unless one seed was asked for."""
    sampled = seed % SAMPLE_EVERY == 0 or os.environ.get("SEED") == str(seed)
    left_out = set() if sampled else set(SAMPLED)
    if os.environ.get("SERVICENET_FULL") == "1":
        left_out.discard("userspace")
    return [name for name in VARIANTS if shutil.which(NEEDS[name]) and name not in left_out]


class Tally:
    """Probes by variant, and deviations by their entry."""

    def __init__(self) -> None:
        self.probes: Counter[str] = Counter()
        self.deviating: Counter[str] = Counter()
        self.clusters = 0


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts, and says at the end what it counted."""
    found = Tally()
    yield found
    by_variant = ", ".join(f"{name} {count}" for name, count in sorted(found.probes.items()))
    lines = [
        f"{found.clusters} random clusters compared with kube-proxy: {found.probes.total()} probes ({by_variant})",
        *(f"  documented deviation, {count} times: {which}" for which, count in sorted(found.deviating.items())),
    ]
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        reporter.ensure_newline()
        for line in lines:
            reporter.write_line(line)


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    """Both labs and the API server."""
    with Twins() as made:
        yield made


@pytest.mark.parametrize("seed", seeds())
def test_random_cluster(twins: Twins, tally: Tally, seed: int) -> None:
    """Every packet of a random cluster goes where kube-proxy sends it, in each mode."""
    cluster = generate(seed)
    asked = probes(cluster)
    objects = twins.fill(cluster.manifests)
    states = [twins.completed(cluster.before, cluster.manifests), objects]
    recorded: dict[str, list[Answers]] = {}
    failures = []
    for variant in variants(seed):
        mode = VARIANTS[variant].ours

        def entry(place: int, answer: Answers, mode: str = mode) -> deviations.Deviation | None:
            """Why this difference is right. kube-proxy's own two modes are what some entries refer to."""
            modes = {name: answers[place].theirs for name, answers in recorded.items()} | {mode: answer.theirs}
            return documented(cluster.name, mode, answer, modes)

        twins.program(variant, cluster.options, states)
        answers = twins.compare(asked, lambda place, answer: entry(place, answer) is not None)
        tally.probes[variant] += len(asked)
        recorded.setdefault(mode, answers)
        for place, answer in enumerate(answers):
            reason = entry(place, answer) if answer.wrong else None
            if reason:
                tally.deviating[f"{reason.probe} ({mode})"] += 1
            elif answer.wrong:
                failures.append(f"{variant}: {answer.label}: {answer.wrong}; kube-proxy {text(answer.theirs)}")
    tally.clusters += 1
    repeat = f"Repeat with: SEED={seed} make conformance ARGS='-k random_cluster'"
    assert not failures, "\n".join(["", *failures, repeat])


def test_deviations_are_documented() -> None:
    """docs/conformance.md shows the table of random/deviations.yaml."""
    page = (deviations.FILE.parents[3] / "docs" / "conformance.md").read_text()
    assert deviations.table(deviations.load(RANDOM_DEVIATIONS)) in page

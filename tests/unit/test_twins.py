# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How twin labs are compared (tests/conformance/random/twins.py): chance may not look like a difference."""

from __future__ import annotations

from typing import Any

from conformance.random.twins import ASK_AGAIN, Answers, Twins, unlike

PROBE = {"target": "shop/web NodePort", "client": "ext", "address": "198.18.1.1", "port": 30003, "proto": "UDP"}


def met(*names: str) -> dict[str, Any]:
    """An outcome: these backends answered."""
    return {"result": "answer", "backends": dict.fromkeys(names, "node")}


class Scripted(Twins):
    """Twins that answer as a script says: what each of them meets, one pair a question."""

    def __init__(self, *script: tuple[dict[str, Any], dict[str, Any]]) -> None:
        super().__init__()
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []

    def ask(self, probes: list[dict[str, Any]]) -> list[Answers]:
        """The next of the script, for the one probe there is."""
        (probe,) = probes
        self.asked.append(probe)
        theirs, ours = self.script.pop(0)
        return [Answers(probe, theirs, ours, unlike(theirs, ours))]

    def wait_for_kube_proxy(self) -> None:
        """Nothing runs."""


def test_a_backend_met_at_the_last_question_is_asked_for() -> None:
    """A try that met a backend for the first time does not show that the other twin has none of it."""
    twins = Scripted(
        (met("a", "b"), met("a")),
        (met("a", "b", "c"), met("a", "b")),
        (met("a", "b", "c"), met("a", "b", "c", "d")),
        (met("a", "b", "c", "d"), met("a", "b", "c", "d")),
    )
    (answer,) = twins.compare([PROBE])
    assert not answer.wrong
    assert twins.asked[-1]["until"] == ["a", "b", "c", "d"]


def test_a_backend_missing_for_good_is_found() -> None:
    """Once the tries waited for all that were ever met, a difference stays one."""
    pair = (met("a", "b"), met("a"))
    twins = Scripted(pair, *(pair for _count in ASK_AGAIN))
    (answer,) = twins.compare([PROBE])
    assert "expected a(node) b(node), got a(node)" in answer.wrong
    assert not twins.script


def test_what_a_pod_loses_to_itself_is_waited_for() -> None:
    """Both twins may lose it, and chance says whether a try does."""
    lost = met("a", "b") | {"result": "mixed", "failures": ["drop"]}
    twins = Scripted((met("a", "b"), lost), (met("a", "b"), lost), (lost, lost))
    twins.variant = "nftables"
    (answer,) = twins.compare([PROBE | {"client": "pod-self"}])
    assert not answer.wrong
    assert [asked.get("until") for asked in twins.asked] == [None, ["a", "b", "drop"], ["a", "b", "drop"]]


def test_what_another_client_loses_is_a_difference() -> None:
    pair = (met("a", "b"), met("a", "b") | {"result": "mixed", "failures": ["drop"]})
    twins = Scripted(pair, *(pair for _count in ASK_AGAIN))
    (answer,) = twins.compare([PROBE])
    assert answer.wrong
    assert twins.asked[-1]["until"] == ["a", "b"]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit of a fleet: what every node told about its rules and probes becomes one report, as plain data.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .changes import COMMON

SCHEMA = 1

UNREACHABLE = "unreachable"
FAILED = "failed"
UNPROGRAMMED = "not programmed"
ALTERED = "altered"
SILENT = "not answering"
RIGHT = "as it should be"
# The worst first; a node has the first of these that holds.
STATES = (UNREACHABLE, FAILED, UNPROGRAMMED, ALTERED, SILENT, RIGHT)
# A report stays readable, whatever a snapshot changes.
MOST_LINES = 100


def report(
    rules: Mapping[str, Mapping[str, Any]], probes: Mapping[str, Mapping[str, Any]], generated: str, clock: float
) -> dict[str, Any]:
    """The report of all nodes.

    :param rules: node -> what service_rules_info returned there, or how Ansible says that it could not be asked.
    :param probes: node -> what service_probe returned there; a node that was not probed has no ``results``.
    :param generated: when, for people.
    :param clock: the same in seconds since 1970, for ages.
    """
    nodes = [_node(name, rules[name], probes.get(name, {}), clock) for name in sorted(rules)]
    services = _services(nodes, rules)
    named = [one for one in services if one["name"] != COMMON]
    for node in nodes:
        del node["answers"]
    return {
        "schema": SCHEMA,
        "generated": generated,
        "summary": {
            "nodes": len(nodes),
            "states": {state: sum(node["state"] == state for node in nodes) for state in STATES},
            "services": len(named),
            "services_altered": sum(bool(one["altered_on"]) for one in named),
            "services_failing": sum(bool(one["failing_on"]) for one in named),
            "digests": sorted({node["digest"] for node in nodes if node["digest"]}),
        },
        "nodes": nodes,
        "services": services,
    }


def differs(made: Mapping[str, Any]) -> list[str]:
    """The names of the nodes that are not as they should be."""
    return [node["name"] for node in made["nodes"] if node["state"] != RIGHT]


def _node(name: str, told: Mapping[str, Any], probed: Mapping[str, Any], clock: float) -> dict[str, Any]:
    applied_at = told.get("applied_at") or 0
    answers = list(probed.get("results") or ())
    failing = sorted({str(one) for one in probed.get("failing") or ()})
    drift = [str(one) for one in told.get("drift") or ()]
    message = ""
    if told.get("unreachable"):
        state, message = UNREACHABLE, str(told.get("msg", ""))
    elif told.get("failed"):
        state, message = FAILED, str(told.get("msg", ""))
    elif not told.get("mode"):
        state = UNPROGRAMMED
    elif drift or told.get("missing") or told.get("surplus"):
        state = ALTERED
    elif probed.get("failed") or failing:
        state, message = SILENT, str(probed.get("msg", ""))
    else:
        state = RIGHT
    return {
        "name": name,
        "state": state,
        "message": message,
        "mode": str(told.get("mode", "")),
        "digest": str(told.get("digest", "")),
        "age_seconds": max(0, int(clock - applied_at)) if applied_at else None,
        "frontends": int(told.get("frontends_count") or 0),
        "drift": drift,
        "drift_count": int(told.get("drift_count") or 0),
        "missing": _lines(told.get("missing")),
        "surplus": _lines(told.get("surplus")),
        "probed": len(answers),
        "failing": failing,
        "answers": answers,
    }


def _lines(found: Sequence[Any] | None) -> list[str]:
    return [str(line) for line in found or ()][:MOST_LINES]


def _services(nodes: Sequence[Mapping[str, Any]], rules: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By service port: its frontends on the first node that has it, and where what is wrong with it."""
    found: dict[str, dict[str, Any]] = {}

    def entry(name: str) -> dict[str, Any]:
        empty = {"name": name, "frontends": [], "altered_on": [], "failing_on": [], "answers": []}
        return found.setdefault(name, empty)

    for node in nodes:
        mine: dict[str, list[str]] = {}
        for frontend in rules[node["name"]].get("frontends") or ():
            if frontend.get("service"):
                mine.setdefault(str(frontend["service"]), []).append(_frontend(frontend))
        for name, lines in mine.items():
            one = entry(name)
            one["frontends"] = one["frontends"] or lines
        for name in node["drift"]:
            entry(name)["altered_on"].append(node["name"])
        for name in node["failing"]:
            entry(name)["failing_on"].append(node["name"])
        for answer in node["answers"]:
            entry(str(answer["name"]))["answers"].append(_answer(node["name"], answer))
    return [found[name] for name in sorted(found)]


def _frontend(frontend: Mapping[str, Any]) -> str:
    count = len(frontend.get("backends") or ())
    address = str(frontend["address"])
    where = f"{address} {frontend['port']}" if " " in address else _with_port(address, frontend["port"])
    goes = f"{count} endpoint{'' if count == 1 else 's'}" if count else str(frontend.get("refused") or "nobody")
    return f"{where}/{frontend['protocol']} → {goes}"


def _answer(node: str, answer: Mapping[str, Any]) -> str:
    said = [f"{who} x {times}" for who, times in sorted((answer.get("answers") or {}).items())]
    said += [f"{why} x {times}" for why, times in sorted((answer.get("failures") or {}).items())]
    return f"{node} asked {_with_port(str(answer['host']), answer['port'])}: {', '.join(said)}"


def _with_port(address: str, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

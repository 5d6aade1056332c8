# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a probe saw, in the form that is stored and compared.

    {result: answer|reject|drop|mixed|error ERRNO, backends: {NAME:PORT: client|node|other|varies}, sticky: bool}

`backends` says per backend whose address it saw: the client's own, one of node-a's (masqueraded), or another one.
Probes with affinity have further marks. `sticky`: every client address met one backend. `any_of`: chance says which of
`backends`; the address seen is `any` for a backend that the recording never met. `spread`: not all client addresses met
the same one. An expectation may also be `{one_of: [outcome, ...]}`: kube-proxy was seen to do each of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from conformance.packets.packet_lab import CLIENTS
from conformance.packets.packet_lab import NODE_ADDRESSES as NODE_SPELLINGS


def canonical(addresses: Iterable[str]) -> set[str]:
    """IPv6 has several spellings of one address; the kernel's is the one of ipaddress."""
    return {str(ipaddress.ip_address(a)) for a in addresses}


NODE_ADDRESSES = canonical(NODE_SPELLINGS)


def classify(p: dict[str, Any], raw: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Raw outcomes of one probe, as PacketLab.probe returns them -> the form above."""
    own = canonical(CLIENTS[p["client"]][1])
    backends: dict[str, str] = {}
    failures: set[str] = set()
    sticky = True
    for outcomes in raw.values():
        reached: set[str] = set()
        for outcome in outcomes:
            if "|" not in outcome:
                failures.add(outcome)
                continue
            backend, peer = outcome.split("|")
            kind = "client" if peer in own else "node" if peer in NODE_ADDRESSES else "other"
            reached.add(backend)
            if backends.setdefault(backend, kind) != kind:
                backends[backend] = "varies"
        sticky = sticky and len(reached) <= 1
    seen: dict[str, Any]
    if backends and failures:
        seen = {"result": "mixed", "failures": sorted(failures)}
    elif backends:
        seen = {"result": "answer"}
    else:
        seen = {"result": failures.pop() if len(failures) == 1 else "mixed"}
    if backends:
        seen["backends"] = dict(sorted(backends.items()))
        if p.get("affinity"):
            seen |= {"sticky": sticky, "any_of": True}
            if len(backends) > 1 and len(raw) > 1:
                seen["spread"] = True
        if p.get("balance"):
            times: dict[str, int] = {}
            for outcomes in raw.values():
                for outcome, n in outcomes.items():
                    times[outcome.split("|")[0]] = times.get(outcome.split("|")[0], 0) + n
            # Even shares: nobody gets less than 60 % of a fair share (count is chosen so that chance alone cannot).
            seen["even"] = min(times.values()) >= 0.6 * sum(times.values()) / len(times)
    return seen


def difference(expected: dict[str, Any], seen: dict[str, Any], compare_source: bool = True) -> str | None:
    """None if `seen` is what was expected, else a sentence."""
    if "one_of" in expected:
        wrong = [difference(e, seen, compare_source) for e in expected["one_of"]]
        return f"expected {text(expected)}, got {text(seen)}" if all(wrong) else None
    if expected["result"] != seen["result"]:
        return f"expected {text(expected)}, got {text(seen)}"
    for flag in ("sticky", "even", "failures"):
        if expected.get(flag) != seen.get(flag):
            return f"expected {flag} {expected.get(flag)}, got {seen.get(flag)}: {text(seen)}"
    if expected.get("spread") and not seen.get("spread"):
        return f"expected several of {text(expected)}, got {text(seen)} for every client address"
    want, got = expected.get("backends", {}), seen.get("backends", {})
    if set(got) - set(want) if expected.get("any_of") else set(got) ^ set(want):
        return f"expected {text(expected)}, got {text(seen)}"
    if compare_source and any(want[b] not in (got[b], "any") for b in got):
        return f"expected {text(expected)}, got {text(seen)}: the backend sees another address"
    return None


def text(outcome: dict[str, Any]) -> str:
    """An outcome in one line, for people."""
    if "one_of" in outcome:
        return "either " + " or ".join(map(text, outcome["one_of"]))
    if "backends" not in outcome:
        return str(outcome["result"])
    backends = " ".join(f"{b}({kind})" for b, kind in outcome["backends"].items())
    return f"{'one of ' if outcome.get('any_of') else ''}{backends}" + (
        f" + {outcome['failures']}" if "failures" in outcome else ""
    )

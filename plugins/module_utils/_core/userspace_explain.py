# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a packet goes in the userspace mode: through the rules to a proxy of the node, and from there to an endpoint.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from . import text_nginx
from .explain import CLOSED, ENDPOINT, Answer, Met, Outcome, Packet
from .nftables_explain import NftablesExplainer
from .passes import Program
from .text_nginx import PROXY


class UserspaceExplainer(NftablesExplainer):
    """Implements ``explain.Explainer``.

    An endpoint sees the node, so every outcome at one counts as masqueraded. A proxy with affinity chooses by the
    client's address alone: the chances are those of a client about which nothing is known, and nothing expires.
    """

    def explain(self, program: Program, packet: Packet) -> Answer:
        """The way through the rules, continued by the proxy that they end at."""
        answer = super().explain(program, packet)
        proxies = {}
        for name, block in program.items():
            if name.startswith(PROXY):
                proxies[_slot(name), text_nginx.port_of(block)] = (name, block)
        outcomes: list[Outcome] = []
        met = list(answer.met)
        for outcome in answer.outcomes:
            found = proxies.get((f"{packet.family}/{packet.protocol.lower()}", outcome.port))
            if outcome.verdict != ENDPOINT or found is None:
                outcomes.append(outcome)
                continue
            met.append(Met(*found))
            backends = text_nginx.backends_of(found[1])
            share = outcome.probability / max(1, len(backends))
            outcomes += [Outcome(ENDPOINT, address, port, True, share) for address, port in backends]
            if not backends:
                outcomes.append(Outcome(CLOSED, "", 0, False, share))
        return answer._replace(outcomes=tuple(sorted(outcomes)), met=tuple(met))

    def where(self, name: str) -> str:
        """A proxy of nginx, or a table of nftables with its chain or map."""
        return f"nginx {name}" if name.startswith(PROXY) else super().where(name)


def _slot(name: str) -> str:
    """Family and protocol of a proxy, since two of them may have one port."""
    return "/".join(name[len(PROXY) :].split("/")[:2])

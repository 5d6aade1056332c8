# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the option ``explain`` of service_rules_info to its result: where one packet goes on this node.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Callable

from ._core import explain, values
from ._core.errors import OptionError
from ._core.explain import Answer, Explainer, Packet
from ._core.iptables_explain import IptablesExplainer
from ._core.ipvs_explain import IpvsExplainer
from ._core.nftables_explain import NftablesExplainer
from ._core.settings import Settings
from ._core.table import NODE_PORT, PortRules, ServiceTable
from ._core.userspace_explain import UserspaceExplainer
from ._node import addresses
from ._runner import Inspection, expected_program

OPTIONS: dict[str, Any] = {
    "source": {"type": "str", "required": True},
    "destination": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "protocol": {"type": "str", "choices": ["tcp", "udp", "sctp"], "default": "tcp"},
    "interface": {"type": "str", "default": ""},
}
FROM_NODE = "node"
# From the compiler of a mode and the settings to what walks its rules. The modes themselves do not know it: a run that
# programs a node has no use for it, and Python would compile it each time.
EXPLAINERS: dict[str, Callable[[Any, Settings], Explainer]] = {
    "iptables": lambda _compiler, _settings: IptablesExplainer(),
    "nftables": lambda compiler, _settings: NftablesExplainer(compiler),
    "ipvs": lambda _compiler, settings: IpvsExplainer(settings),
    "userspace": lambda compiler, _settings: UserspaceExplainer(compiler),
}
# A result stays small, whatever the Service.
MOST_NAMED = 100


def packet_of(asked: dict[str, Any], settings: Settings) -> Packet:
    """The packet that is asked about."""
    if not 0 < asked["port"] < 65536:
        raise OptionError(f"explain.port is {asked['port']}, and not from 1 to 65535.")
    try:
        destination = values.address(asked["destination"], "explain.destination")
        source = asked["source"] if asked["source"] == FROM_NODE else values.address(asked["source"], "explain.source")
    except values.Broken as wrong:
        raise OptionError(f"{wrong}.") from None
    here = frozenset(text.split("/")[0] for device in addresses.interfaces() for text in device.addresses)
    if source == FROM_NODE:
        source = addresses.source_towards(destination, asked["port"])
    from_node = source in here or explain.is_loopback(source)
    family = values.family(destination)
    if values.family(source) != family:
        raise OptionError(f"A packet has one family: {source} can't send to {destination}.")
    if settings.detector.interface and not from_node and not asked["interface"]:
        raise OptionError(
            f"On this node local Pods are told by the interface {settings.detector.interface}: say by which one the "
            "packet comes in, with explain.interface."
        )
    protocol = asked["protocol"].upper()
    return Packet(family, protocol, source, destination, asked["port"], asked["interface"], from_node, here)


def explanation(found: Inspection, asked: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What the rules in the kernel do with the packet, and what the applied snapshot wants if that is another thing."""
    explainer = EXPLAINERS[found.mode.name](found.mode.compiler, settings)
    packet = packet_of(asked, settings)
    expected = expected_program(found.mode, found.table)
    answer, wanted = explainer.explain(found.current, packet), explainer.explain(expected, packet)
    entry = _owner(found.table, packet)
    own = {} if entry is None else found.mode.compiler.compile([entry])
    name = "" if entry is None else entry.name
    as_wanted = answer.same_as(wanted)
    return {
        "packet": {
            "source": packet.source,
            "destination": packet.destination,
            "port": packet.port,
            "protocol": packet.protocol.lower(),
            "from_node": packet.from_node,
        },
        "service": name,
        **_told(answer),
        "met": [
            {
                "where": explainer.where(met.container),
                "rule": str(met.text),
                "service": name if _holds(own.get(met.container), met.text) else "",
                "altered": met.container in found.current and not _holds(expected.get(met.container), met.text),
            }
            for met in answer.met[:MOST_NAMED]
        ],
        "met_count": len(answer.met),
        "not_understood": [f"{explainer.where(one.container)}: {one.text}" for one in answer.unclear[:MOST_NAMED]],
        "as_wanted": as_wanted,
        "wanted": {} if as_wanted else _told(wanted),
    }


def _told(answer: Answer) -> dict[str, Any]:
    return {
        "verdict": answer.verdict,
        "affinity": answer.affinity,
        "outcomes": [
            {**outcome._asdict(), "probability": round(outcome.probability, 6)}
            for outcome in answer.outcomes[:MOST_NAMED]
        ],
        "outcomes_count": len(answer.outcomes),
    }


def _holds(content: Any, text: str | int) -> bool:
    return text in content if isinstance(content, tuple) else bool(content == text)


def _owner(table: ServiceTable, packet: Packet) -> PortRules | None:
    """The service port that has the packet's destination among its frontends."""
    for entry in table.rules:
        if (entry.family, entry.protocol) == (packet.family, packet.protocol):
            for frontend in entry.frontends:
                here = frontend.kind == NODE_PORT and packet.is_here(packet.destination)
                if frontend.port == packet.port and (here or frontend.address == packet.destination):
                    return entry
    return None

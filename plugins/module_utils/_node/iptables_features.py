# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which extensions iptables and its kernel know here: iptables-restore tests a rule for each, and loads none.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Sequence

from .._core.errors import ToolError
from .addresses import has_ipv6
from .iptables_tool import IptablesTool
from .runner import MissingToolError, Runner, Which, which

PROBE_CHAIN = "SERVICENET-PROBE"
# Extension of iptables -> table and the end of a rule that needs it. What differs between the families is filled in.
FEATURES = {
    "xt_comment": ("filter", "-m comment --comment probe"),
    "xt_conntrack": ("filter", "-m conntrack --ctstate NEW"),
    "xt_addrtype": ("filter", "-m addrtype --dst-type LOCAL"),
    "xt_mark": ("filter", "-m mark --mark 0x4000/0x4000"),
    "xt_statistic": ("filter", "-m statistic --mode random --probability 0.5"),
    "xt_recent": ("filter", "-m recent --rcheck --seconds 1 --reap --name SERVICENET-PROBE --rsource"),
    "xt_bpf": ("filter", '-m bpf --bytecode "1,6 0 0 65535"'),
    "xt_ipvs": ("filter", "-m ipvs --ipvs"),
    "xt_physdev": ("filter", "-m physdev --physdev-is-in"),
    "REJECT": ("filter", "-j REJECT"),
    "MARK": ("mangle", "-j MARK --set-xmark 0x4000/0x4000"),
    "DNAT": ("nat", "-p udp -j DNAT --to-destination {address}"),
    "MASQUERADE": ("nat", "-j MASQUERADE --random-fully"),
    "REDIRECT": ("nat", "-p udp -j REDIRECT --to-ports 53"),
    "xt_set": ("mangle", "-m set --match-set SERVICENET-PROBE-ipport-{family} dst,dst"),
    "SET": ("mangle", "-j SET --map-set SERVICENET-PROBE-ipport-{family} dst,dst --map-mark"),
}
# These can be tried only while there is a set to name.
SET_FEATURES = ("xt_set", "SET")
PROBE_SET = "SERVICENET-PROBE-{kind}-{family}"
PROBE_ADDRESS = {4: "127.0.0.1", 6: "::1"}


def probe(
    run: Runner, families: Sequence[int], variant: str, features: Sequence[str], find: Which = which
) -> tuple[list[str], list[str], str]:
    """The features that iptables lacks here, problems as sentences, and a sentence if the tool is missing."""
    missing: list[str] = []
    problems: list[str] = []
    for family in families:
        tool = IptablesTool(run, family, variant, find)
        try:
            if family == 6 and not has_ipv6():
                continue
            missing += [f"{name} for IPv{family}" for name in lacking(tool, features)]
        except MissingToolError as error:
            return [], [], str(error)
        except ToolError as error:
            problems.append(str(error))
    return missing, problems, ""


def lacking(tool: IptablesTool, features: Sequence[str]) -> list[str]:
    """The features that the tool or its kernel doesn't know. One call if all is well, else one each to name them."""
    if not features or _accepts(tool, features):
        return []
    return [feature for feature in features if not _accepts(tool, [feature])]


def _accepts(tool: IptablesTool, features: Sequence[str]) -> bool:
    tables: dict[str, list[str]] = {}
    for feature in features:
        table, rule = FEATURES[feature]
        tables.setdefault(table, []).append(rule.format(address=PROBE_ADDRESS[tool.family], family=tool.family))
    text = "".join(
        f"*{table}\n:{PROBE_CHAIN} - [0:0]\n{''.join(f'-A {PROBE_CHAIN} {rule}' + chr(10) for rule in rules)}COMMIT\n"
        for table, rules in tables.items()
    )
    try:
        tool.test(text)
    except MissingToolError:
        raise
    except ToolError:
        return False
    return True

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight says of this node: the facts gathered, judged by the options of a mode.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, Sequence

from ._core.errors import ServicenetError
from ._core.preflight import problems
from ._core.preflight_model import PreflightOptions, Report
from ._core.table import PortRules
from ._node import preflight_facts
from ._node.others import RULES
from ._node.runner import Runner


def options(
    name: str, params: dict[str, Any], families: tuple[int, ...], serves_loopback: bool, pod_cidrs: tuple[str, ...]
) -> PreflightOptions:
    """What is wanted of the node.

    :param name: of the mode.
    :param params: every option of the mode.
    """
    # Those of the mode ipvs are only among the options of its module.
    same = [one for one in PreflightOptions._fields if one.startswith(("conntrack_", "ipvs_")) and one in params]
    return PreflightOptions(
        name,
        families,
        params["set_sysctls"],
        params["beside_kube_proxy"],
        serves_loopback,
        name in ("iptables", "ipvs"),
        params["bridge_interface"],
        pod_cidrs,
        **{option: params[option] for option in same},
    )


def report(
    run: Runner,
    rules: Sequence[PortRules],
    wanted: PreflightOptions,
    variant: str = "",
    features: Sequence[str] = (),
    besides: Sequence[str] = (),
    lacking: Sequence[str] = (),
    removes_kube_proxy: bool = False,
    check: bool = False,
) -> Report:
    """What is wrong with the node for these rules.

    :param variant: of iptables, "" if the mode uses none.
    :param features: what iptables has to know.
    :param besides: kernel settings that the mode reads besides those of all modes.
    :param lacking: what the mode itself found missing.
    :param removes_kube_proxy: the rules that a kube-proxy left are about to go.
    """
    gathered = preflight_facts.gather(run, rules, wanted.families, variant, features, besides=besides)
    if gathered.missing_tool and not check:
        raise ServicenetError(gathered.missing_tool)
    facts = gathered.facts._replace(missing_features=(*lacking, *gathered.facts.missing_features))
    if removes_kube_proxy:
        # What it left is no error then; that it runs, or left a device, still is.
        facts = facts._replace(kube_proxy=tuple(sign for sign in facts.kube_proxy if not RULES.match(sign)))
    return problems(facts, rules, wanted)

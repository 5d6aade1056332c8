# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that finds nothing to do: the node is as the last run left it, and the snapshot and the options are the same.

Ansible sends source, and Python compiles all of it that is imported, at every run. So this imports nothing that
resolves, compiles or compares Services: most runs of a resync end here.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from . import _preflight as preflight
from . import _state_files as state_files
from ._core import snapshot_header
from ._node import files, hold_files
from ._node.runner import Runner
from ._options import families, recorded
from ._outcome import Outcome
from ._watch import Look


def unchanged(name: str, params: dict[str, Any], look: Look, run: Runner) -> Outcome | None:
    """What a run of the mode tells if there is nothing to do; None if there is, or if it takes more to say so.

    :param name: of the mode.
    :param params: every option of ``ARGUMENTS`` and of the mode.
    """
    state_dir = params["state_dir"]
    if params["state"] != "present" or params["remove_kube_proxy"] or hold_files.any_is_there(state_dir):
        return None
    record = files.read_json(state_files.record_path(state_dir, name)).value
    settings = record.get("settings") if isinstance(record, dict) else None
    if not isinstance(settings, dict) or not {"serves_loopback", "pod_cidrs"} <= settings.keys():
        return None
    header = _applied_again(params["snapshot"], state_files.applied_path(state_dir, name))
    if not header or params["snapshot_digest"] not in ("", header["digest"]):
        return None
    served = families(params)
    watch = look(params, served, run)
    digest, holds = header["digest"], record.get("holds")
    as_left = record == state_files.record(recorded(params), watch.compiler, settings, digest, watch.token, holds)
    # What else than the options and the snapshot the settings were made of.
    here = {"node_name": params["node_name"] or platform.node(), "families": list(served)}
    if not watch.token or not as_left or {**settings, **here} != settings:
        return None
    wanted = preflight.options(name, params, served, settings["serves_loopback"], tuple(settings["pod_cidrs"]))
    report = preflight.report(run, (), wanted, watch.variant)
    if report.errors or report.changes:
        return None
    facts = {
        "digest": digest,
        "counts": header.get("counts", {}),
        "full_pass": False,
        "services_changed": [],
        "services_changed_count": 0,
        "transactions": 0,
        "held": "",
        "confirm_token": "",
    }
    return Outcome(False, [], [], [], [*watch.warnings, *report.warnings], facts)


def _applied_again(path: str, applied: str) -> dict[str, Any]:
    """The header of a snapshot that is the applied one byte for byte, {} if it is another or no sound one.

    The applied one was read and its digest proven by the run that wrote it. Where both are one file, nothing is told.
    """
    data = files.read_bytes(path)
    if data is None or os.path.realpath(path) == os.path.realpath(applied) or data != files.read_bytes(applied):
        return {}
    header = snapshot_header.of(data)
    return header if isinstance(header.get("digest"), str) else {}

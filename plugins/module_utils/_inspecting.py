# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What service_rules_info does with its options: what is programmed, how it differs, and where a packet goes.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any

from ._core import live
from ._core.errors import OptionError
from ._core.preflight_model import Report
from ._explaining import OPTIONS as EXPLAIN_OPTIONS
from ._explaining import explanation
from ._modes import MAKERS
from ._node import files
from ._node.runner import Runner
from ._outcome import MOST_NAMED
from ._runner import Inspection, Request, inspect
from ._services import last_run, settings

ARGUMENTS: dict[str, Any] = {
    "mode": {"type": "str", "choices": ["auto", *MAKERS], "default": "auto"},
    "explain": {"type": "dict", "options": EXPLAIN_OPTIONS},
    "snapshot": {"type": "path"},
    "services": {"type": "list", "elements": "str", "default": []},
    "max_frontends": {"type": "int", "default": 200},
    "state_dir": {"type": "path", "default": "/var/lib/servicenet"},
    "run_dir": {"type": "path", "default": "/run/servicenet"},
}


def info(params: dict[str, Any], run: Runner) -> dict[str, Any]:
    """What service_rules_info tells; ``params`` are its options."""
    name, record = last_run(params["state_dir"], list(MAKERS) if params["mode"] == "auto" else [params["mode"]])
    if not name:
        empty: dict[str, Any] = {key: [] for key in ("frontends", "drift", "missing", "surplus")}
        counts = dict.fromkeys(("applied_at", "frontends_count", "drift_count"), 0)
        return {"mode": "", "digest": "", "explanation": {}, **counts, **empty}
    options = record["options"]
    asked = params.get("explain")
    applied = f"{params['state_dir']}/{name}.jsonl.gz"
    # A state file does not keep where it is.
    directories = {option: params[option] for option in ("state_dir", "run_dir")}
    found = inspect(
        Request(
            name,
            params["snapshot"] or applied,
            params["state_dir"],
            params["run_dir"],
            lambda snapshot: settings(options, snapshot),
            lambda compiled_by: MAKERS[name]({**options, **directories})(compiled_by, run),
            lambda _mode, _settings, _done: Report((), (), ()),
            options,
        )
    )
    frontends = live.named(found.frontends, found.table)
    if params["services"]:
        frontends = [one for one in frontends if one["service"].split(":")[0] in params["services"]]
    return {
        "mode": name,
        "digest": found.applied.digest if found.applied is not None else "",
        "applied_at": int(files.modified(applied)),
        "frontends": frontends[: params["max_frontends"]],
        "frontends_count": len(frontends),
        "drift": found.drift[:MOST_NAMED],
        "drift_count": len(found.drift),
        "missing": found.missing,
        "surplus": found.surplus,
        "explanation": _explained(found, asked, options) if asked else {},
    }


def _explained(found: Inspection, asked: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    if found.applied is None:
        raise OptionError("Nothing can be explained: the snapshot that was applied last is not on this node.")
    return explanation(found, asked, settings(options, found.applied))

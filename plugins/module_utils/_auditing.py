# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module service_audit_report does where Ansible runs: a report of all nodes, written as JSON and HTML.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ._core import audit, audit_page
from ._node import files


def write(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Makes the report; in check mode it is not written. ``params`` are the module's options.

    :raises ServicenetError: it can't be written.
    """
    now = time.time()
    generated = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    made = audit.report(params["rules"], params["probes"], generated, now)
    if not check:
        for path, text in (
            (params["json_dest"], json.dumps(made, indent=2, sort_keys=True) + "\n"),
            (params["html_dest"], audit_page.page(made, params["title"])),
        ):
            if path:
                files.write_atomic(path, text.encode(), 0o644)
    return {"summary": made["summary"], "differing": audit.differs(made)}

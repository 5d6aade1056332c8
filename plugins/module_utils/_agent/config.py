# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of the agent, /etc/servicenet/agent.json, which the role service_resync writes.

How the rules are made is not among them: that is what the last run of site used, and its state file keeps it.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._core.errors import OptionError
from .._node import files

PATH = "/etc/servicenet/agent.json"


class Config(NamedTuple):
    """``source`` is ``cluster`` (``server``, ``token_file``, ``ca_cert``) or ``url`` (``url``, ``checksum_url``: a file
    as sha256sum writes it). A change goes back unless the source answers within ``confirm_seconds``; 0 asks nobody.
    Times are in seconds. ``textfile`` "" writes none. ``metrics_address`` "" serves none."""

    source: str = "cluster"
    server: str = ""
    token_file: str = ""
    ca_cert: str = ""
    url: str = ""
    checksum_url: str = ""
    namespaces: tuple[str, ...] = ()
    page_size: int = 500
    timeout: float = 30
    interval: float = 60
    time_limit: int = 300
    max_removed_percent: int = 50
    confirm_seconds: int = 0
    lock_timeout: int = 60
    textfile: str = ""
    healthz_address: str = "0.0.0.0:10256"
    metrics_address: str = "127.0.0.1:10249"
    snapshot: str = "/var/lib/servicenet/snapshot.jsonl.gz"
    state_dir: str = "/var/lib/servicenet"
    run_dir: str = "/run/servicenet"

    @property
    def outcome_path(self) -> str:
        """The state file of the runs."""
        return f"{self.state_dir}/last-run.json"


def read(path: str) -> Config:
    """The settings in a file; the defaults where there is none. Raises ``OptionError``."""
    state = files.read_json(path)
    if state.warning or not isinstance(state.value, (dict, type(None))):
        raise OptionError(f"The settings {path} are no JSON object: run the role service_resync again.")
    given: dict[str, Any] = state.value or {}
    unknown = sorted(set(given) - set(Config._fields))
    if unknown:
        raise OptionError(f"{path} has settings that this agent does not know: {', '.join(unknown)}.")
    defaults = Config()
    for name, value in given.items():
        default = getattr(defaults, name)
        wanted = (
            (int, float) if isinstance(default, (int, float)) else (list, tuple) if name == "namespaces" else (str,)
        )
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise OptionError(f"{path}: {name} must not be {value!r}.")
    config = Config(**{**given, "namespaces": tuple(given.get("namespaces", ()))})
    if config.source not in ("cluster", "url"):
        raise OptionError(f"{path}: source must be cluster or url, not {config.source!r}.")
    return config


def address(text: str) -> tuple[str, int]:
    """HOST:PORT in parts; raises ``OptionError``."""
    host, _colon, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise OptionError(f"{text!r} is no address such as 127.0.0.1:10249.")
    return host.strip("[]"), int(port)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What servicenet-agent records of its runs, when it calls a node healthy by that, and the settings it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._agent import config, outcome
from ansible_collections.kubenode.servicenet.plugins.module_utils._agent.transport import HttpTransport
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import OptionError


def ended(before: outcome.Record, result: str, began: float, read_at: float | None = None) -> dict[str, Any]:
    """The record after a pull of two seconds."""
    return outcome.after(before, "pull", result, "", began, began + 2, None, read_at)


def test_failing_counts_from_the_first_failure_and_ends_with_a_success() -> None:
    good = ended({}, outcome.OK, 100, 100)
    assert (good["failing_since"], good["last_success"], good["snapshot_read"]) == (0, 102, 100)
    first = ended(good, outcome.FAILED, 200)
    second = ended(first, outcome.TIMEOUT, 300)
    assert (first["failing_since"], second["failing_since"]) == (200, 200)
    assert (second["last_success"], second["snapshot_read"]) == (102, 100)
    healed = ended(second, outcome.OK, 400, 400)
    assert (healed["failing_since"], healed["last_success"], healed["snapshot_read"]) == (0, 402, 400)
    assert healed["runs_total"] == {"ok": 2, "failed": 1, "timeout": 1}


def test_an_api_server_that_is_away_is_no_failure_of_the_node() -> None:
    away = ended(ended({}, outcome.OK, 100, 100), outcome.UNREACHABLE, 200)
    assert (away["failing_since"], away["snapshot_read"]) == (0, 100)
    assert 'servicenet_last_run_result{result="unreachable"} 1\n' in outcome.metrics(away)
    assert "servicenet_snapshot_read_timestamp_seconds 100\n" in outcome.metrics(away)


def test_metrics_of_a_node_without_any_run_are_whole() -> None:
    lines = outcome.metrics({}).splitlines()
    named = {line.split(" ")[2] for line in lines if line.startswith("# TYPE")}
    assert {line.partition("{")[0].split(" ")[0] for line in lines if line[0] != "#"} == named
    assert all(line.endswith(" 0") for line in lines if line[0] != "#")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("[]", "are no JSON object"),
        ("{", "are no JSON object"),
        ('{"sever": "https://198.18.0.1"}', "does not know: sever."),
        ('{"interval": "60"}', "interval must not be '60'"),
        ('{"time_limit": true}', "time_limit must not be True"),
        ('{"namespaces": "shop"}', "namespaces must not be 'shop'"),
        ('{"source": "file"}', "source must be cluster or url, not 'file'"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(settings: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text(settings)
    with pytest.raises(OptionError, match=says):
        config.read(str(path))


def test_settings_have_defaults(tmp_path: Path) -> None:
    assert config.read(str(tmp_path / "none.json")) == config.Config()
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({"namespaces": ["shop"], "interval": 30}))
    assert config.read(str(path)) == config.Config(namespaces=("shop",), interval=30)


@pytest.mark.parametrize(
    ("text", "parts"), [("127.0.0.1:10249", ("127.0.0.1", 10249)), ("[::1]:80", ("::1", 80)), (":80", ("", 80))]
)
def test_addresses_are_taken_apart(text: str, parts: tuple[str, int]) -> None:
    assert config.address(text) == parts


@pytest.mark.parametrize("text", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "host:http"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is no address"):
        config.address(text)


def test_a_token_does_not_leave_in_the_clear() -> None:
    with pytest.raises(OptionError, match="is not https"):
        HttpTransport("http://198.18.0.1:8080", "secret")
    with pytest.raises(OptionError, match="is no URL"):
        HttpTransport("198.18.0.1:6443")

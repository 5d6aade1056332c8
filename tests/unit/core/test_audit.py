# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of an audit, and its page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import audit, audit_page

RIGHT: dict[str, Any] = {
    "mode": "nftables",
    "digest": "abc123",
    "applied_at": 1000,
    "frontends_count": 1,
    "frontends": [
        {
            "service": "shop/web:http",
            "address": "10.96.0.10",
            "port": 80,
            "protocol": "tcp",
            "backends": [{"address": "10.128.0.1", "port": 8080}],
            "refused": "",
        }
    ],
}
PROBE = {"name": "shop/web:http", "host": "10.96.0.10", "port": 80, "answers": {"pod-a": 2}, "failures": {}}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;"


def made(rules: dict[str, Any], **probes: Any) -> dict[str, Any]:
    return audit.report(rules, probes, "today", 1090)


@pytest.mark.parametrize(
    ("told", "probed", "state"),
    [
        (RIGHT, {}, audit.RIGHT),
        (RIGHT, {"skipped": True}, audit.RIGHT),
        (RIGHT, {"results": [PROBE], "failing": []}, audit.RIGHT),
        (RIGHT, {"results": [PROBE], "failing": ["shop/web:http"]}, audit.SILENT),
        ({**RIGHT, "drift": ["shop/web:http"], "drift_count": 1}, {"failing": ["shop/web:http"]}, audit.ALTERED),
        ({**RIGHT, "missing": ["a line"]}, {}, audit.ALTERED),
        ({"mode": ""}, {}, audit.UNPROGRAMMED),
        ({"failed": True, "msg": "no tool"}, {}, audit.FAILED),
        ({"unreachable": True, "failed": True, "msg": "no route"}, {}, audit.UNREACHABLE),
    ],
)
def test_the_state_of_a_node(told: dict[str, Any], probed: dict[str, Any], state: str) -> None:
    report = made({"n": told}, n=probed)
    assert report["nodes"][0]["state"] == state
    assert report["summary"]["states"][state] == 1
    assert audit.differs(report) == ([] if state == audit.RIGHT else ["n"])


def test_services_are_told_with_what_is_wrong_and_who_answered() -> None:
    altered = {**RIGHT, "drift": ["shop/web:http", "shop/gone"], "drift_count": 2}
    report = made({"b": altered, "a": RIGHT}, a={"results": [PROBE], "failing": []})
    assert report["services"] == [
        {"name": "shop/gone", "frontends": [], "altered_on": ["b"], "failing_on": [], "answers": []},
        {
            "name": "shop/web:http",
            "frontends": ["10.96.0.10:80/tcp \u2192 1 endpoint"],
            "altered_on": ["b"],
            "failing_on": [],
            "answers": ["a asked 10.96.0.10:80: pod-a x 2"],
        },
    ]
    assert [node["age_seconds"] for node in report["nodes"]] == [90, 90]


def test_rules_of_no_service_are_no_service() -> None:
    report = made({"a": {**RIGHT, "drift": ["(common rules)"], "drift_count": 1}})
    assert (report["summary"]["services"], report["summary"]["services_altered"]) == (1, 0)
    assert [service["name"] for service in report["services"]] == ["(common rules)", "shop/web:http"]


class Tags(HTMLParser):
    """The tags of a page that are closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _value in attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_nothing_from_outside_becomes_a_tag() -> None:
    """Wherever text comes from a node, an inventory or a cluster."""
    frontend = dict.fromkeys(("service", "address", "port", "protocol", "refused"), HOSTILE)
    told = {
        "mode": HOSTILE,
        "digest": HOSTILE,
        "frontends": [frontend],
        "drift": [HOSTILE],
        "missing": [HOSTILE],
        "surplus": [HOSTILE],
        "msg": HOSTILE,
    }
    probe = {**PROBE, "name": HOSTILE, "host": HOSTILE, "answers": {HOSTILE: 1}, "failures": {HOSTILE: 1}}
    probes = {"results": [probe], "failing": [HOSTILE]}
    rules = {HOSTILE: told, "failed": {"failed": True, "msg": HOSTILE}, "b": {**told, "digest": "another"}}
    report = audit.report(rules, {HOSTILE: probes}, HOSTILE, 0)
    tags = Tags()
    text = audit_page.page(report, HOSTILE)
    tags.feed(text)
    assert tags.open == []
    assert not tags.seen & {"script", "img", "link", "iframe", "object"}
    assert not {name for name in tags.attributes if name.startswith("on") or name in ("src", "href", "style")}
    assert "url(" not in text

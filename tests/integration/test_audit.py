# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `audit` on two real nodes and one that is not there, and its page in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab

BROWSER = shutil.which("chromium")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
# What the probes teach the kernel is no rule.
MEMORY = re.compile(r"\tmap affinity \{.*?\n\t\}", re.DOTALL)

# Where a node keeps its snapshot if it is told to.
ELSEWHERE = "/var/lib/elsewhere/snapshot.jsonl.gz"

# Where to leave the pictures that docs/audit.md shows: docs/images makes them anew.
PICTURES = os.environ.get("SERVICENET_PICTURES")


def rules(lab: Lab) -> list[str]:
    """All rules of both nodes."""
    return [MEMORY.sub("", lab.node(name).run(["nft", "-s", "list", "ruleset"]).stdout) for name in lab.nodes]


@pytest.fixture(scope="module")
def report(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Both nodes are programmed; then one rule of node-a is edited, one is added, and node-b loses a table."""
    directory = tmp_path_factory.mktemp("audit")
    variables = {"service_proxy_mode": "nftables", "cluster_snapshot_node_path": ELSEWHERE}
    inventory = yaml.safe_load(lab.inventory(directory / "inventory.yml", **variables).read_text())
    with pytest.MonkeyPatch.context() as settings:
        # With which Ansible does once for each host what it is to do once, where a play does not say otherwise.
        settings.setenv("ANSIBLE_STRATEGY", "free")
        settings.setenv("TMPDIR", str(directory))
        lab.playbook("site", None, "--check", inventory=directory / "inventory.yml")
        assert not list(directory.glob("servicenet-check-*"))
        lab.playbook("site", inventory=directory / "inventory.yml")
    lab.node("node-a").run(["nft", "add", "element", "ip", "servicenet", "rejected", "{ 10.96.0.10 . tcp . 80 }"])
    lab.node("node-a").run(["nft", "delete", "element", "ip", "servicenet", "service", "{ 10.96.0.11 . tcp . 9000 }"])
    lab.node("node-b").run(["nft", "delete", "table", "ip6", "servicenet"])
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory["all"]["children"]["servicenet_nodes"]["hosts"]["node-away"] = away
    (directory / "inventory.yml").write_text(json.dumps(inventory))
    before = rules(lab)
    dest = directory / "report"
    asked = {"service_audit_dest": str(dest), "service_audit_verify": True, "service_audit_fail_on_drift": True}
    with pytest.MonkeyPatch.context() as settings:
        settings.setenv("ANSIBLE_STRATEGY", "free")
        run = lab.playbook("audit", asked, inventory=directory / "inventory.yml", check=False)
    assert run.rc != 0
    assert f"{dest}.html is written." in run.output
    assert "Not as they should be: node-a, node-away, node-b." in run.output
    assert set(run.changed.values()) == {0}
    assert rules(lab) == before
    return json.loads(dest.with_suffix(".json").read_text()), dest.with_suffix(".html")


def test_what_was_altered_is_named(report: tuple[dict[str, Any], Path]) -> None:
    made, _page = report
    nodes = {node["name"]: node for node in made["nodes"]}
    states = {name: node["state"] for name, node in nodes.items()}
    assert states == {"node-a": "altered", "node-b": "altered", "node-away": "unreachable"}
    assert nodes["node-a"]["drift"] == ["shop/api:tcp", "shop/web:http"]
    assert "(common rules)" in nodes["node-b"]["drift"]
    services = {service["name"]: service for service in made["services"]}
    assert services["shop/api:tcp"]["altered_on"][0] == "node-a"
    assert any(re.search("pod-a3 x [123]", line) for line in services["shop/front:tcp"]["answers"])
    assert len(made["summary"]["digests"]) == 1


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(report: tuple[dict[str, Any], Path], width: int, tmp_path: Path) -> None:
    """A frame of this width holds the page. It reports what it finds in it, and the browser prints that."""
    made, page = report
    # Without a network: what the page would load from anywhere, it could not. A frame needs srcdoc to be looked into.
    text = re.sub("<meta http-equiv=[^>]*>", "", page.read_text()).replace("&", "&amp;").replace('"', "&quot;")
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<!DOCTYPE html><iframe id="f" width="{width}" height="900" style="border:0" srcdoc="{text}"></iframe>'
        '<pre id="found"></pre><script>addEventListener("load",()=>{const d=document.getElementById("f")'
        ".contentDocument,r=d.documentElement;document.getElementById('found').textContent='FOUND'+JSON.stringify({"
        "scroll:r.scrollWidth,client:r.clientWidth,cards:[...d.querySelectorAll('article h3')].map(e=>e.textContent),"
        "rows:[...d.querySelectorAll('tbody th')].map(e=>e.textContent),heads:d.querySelectorAll('thead th').length,"
        "loaded:d.defaultView.performance.getEntriesByType('resource').length})+'END'})</script>"
    )
    browser = ["unshare", "--net", str(BROWSER), *QUIET, f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*browser, "--dump-dom", outer.as_uri()], capture_output=True, text=True, check=False, timeout=120
    )
    match = re.search("FOUND(.*?)END</pre>", done.stdout)
    assert match, done.stderr[-2000:]
    found = json.loads(match.group(1).replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
    assert found["scroll"] <= found["client"] <= width
    assert found["cards"] == ["node-away", "node-a", "node-b"]
    assert found["rows"] == [service["name"] for service in made["services"]]
    assert (found["heads"], found["loaded"]) == (4, 0)
    if PICTURES:
        size = f"--window-size={max(width, 500)},{1600 if width < 500 else 1000}"
        picture = Path(PICTURES).resolve() / f"audit-{'phone' if width < 500 else 'desktop'}.png"
        subprocess.run([*browser, size, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)


def test_cleanup_takes_the_snapshot_from_where_it_is(report: tuple[dict[str, Any], Path], lab: Lab) -> None:
    _made, page = report
    assert lab.node("node-a").path(ELSEWHERE).exists()
    lab.playbook("cleanup", None, "--limit=node-a", inventory=page.with_name("inventory.yml"))
    assert not lab.node("node-a").path(ELSEWHERE).exists()
    assert lab.node("node-a").path(ELSEWHERE).parent.exists()

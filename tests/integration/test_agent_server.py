# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small server of a node, in a namespace: what it answers from the state in force, and when that changes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from lab.agent import build_agent, start_server
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

TAINT = {"key": "ToBeDeletedByClusterAutoscaler"}
CHECK = 32100
# The distribution's own, which a node has.
PYTHON = "/usr/bin/python3"
# Runs on the node, whose loopback no other namespace reaches.
GET = """
import json, sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as refused:
    answer = refused
except OSError:
    print(0)
    sys.exit()
print(answer.status, dict(answer.headers).get("X-Load-Balancing-Endpoint-Weight", ""))
print(answer.read().decode())
"""


def put(state: Path, node: str, taints: list[dict[str, str]], second_family: bool = False, **options: Any) -> None:
    """The state of a mode, as its last run left it: a Service with one endpoint, which is on ``node``."""
    port = {"name": "plain", "protocol": "TCP", "port": 80}
    spec = {
        "type": "LoadBalancer",
        "clusterIPs": ["10.96.0.11", *["fd00:10:96::11"] * second_family],
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": CHECK,
        "ports": [{**port, "nodePort": 30001}],
    }
    endpoint = {"addresses": ["10.128.1.1"], "conditions": {"ready": True}, "nodeName": node}
    objects = [
        {"kind": "Node", "metadata": {"name": "node-a"}, "spec": {"taints": taints}},
        {"kind": "Service", "metadata": {"namespace": "shop", "name": "front"}, "spec": spec},
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "f", "labels": {"kubernetes.io/service-name": "front"}},
            "addressType": "IPv4",
            "ports": [{"name": "plain", "protocol": "TCP", "port": 9000}],
            "endpoints": [endpoint],
        },
    ]
    told = {"nftables.jsonl.gz": snapshot.dump(build_snapshot(objects))}
    told["nftables.json"] = json.dumps({"options": {"node_name": "node-a", **options}}).encode()
    for name, data in told.items():
        # The server may look at any moment, and a run leaves no half file.
        (state / "new").write_bytes(data)
        (state / "new").rename(state / name)


@pytest.fixture
def get(lab: Lab, tmp_path: Path) -> Any:
    """The server of node-a -> asks it for a URL until it answers with a status: (weight, body)."""
    config = tmp_path / "agent.json"
    config.write_text(json.dumps({"state_dir": str(tmp_path), "run_dir": str(tmp_path / "run")}))
    node = lab.node("node-a")
    server = start_server(node.netns, build_agent(tmp_path), config, PYTHON)

    def ask(url: str, status: int) -> tuple[str, str]:
        def answer() -> tuple[str, str] | None:
            command = ["ip", "netns", "exec", node.netns, PYTHON, "-c", GET, url]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            head, _line, body = said.partition("\n")
            got, _space, weight = head.partition(" ")
            return (weight, body) if got == str(status) else None

        return wait_until(answer, f"{status} from {url}")

    yield ask
    server.terminate()
    assert server.wait(300) == 0


def test_the_server_answers_from_the_state_in_force(
    get: Callable[[str, int], tuple[str, str]], lab: Lab, tmp_path: Path
) -> None:
    address = lab.node("node-a").ips[0]
    # Nothing was programmed yet.
    get("http://127.0.0.1:10256/healthz", 503)
    put(tmp_path, "node-a", [])
    weight, body = get(f"http://{address}:{CHECK}/", 200)
    assert weight == "1"
    service = {"namespace": "shop", "name": "front"}
    assert json.loads(body) == {"service": service, "localEndpoints": 1, "serviceProxyHealthy": True}
    get(f"http://[{lab.node('node-a').ips[1]}]:{CHECK}/", 200)
    assert json.loads(get("http://127.0.0.1:10256/healthz", 200)[1])["nodeEligible"] is True
    # Each family of a Service has an answer of its own, and this Pod has one address.
    put(tmp_path, "node-a", [], second_family=True)
    assert get(f"http://{address}:{CHECK}/", 200)[0] == "1"
    assert get(f"http://[{lab.node('node-a').ips[1]}]:{CHECK}/", 503)[0] == "0"
    # The endpoint moves, and the node is about to go: nobody is to start it anew for that.
    put(tmp_path, "node-b", [TAINT])
    assert json.loads(get(f"http://127.0.0.1:{CHECK}/", 503)[1])["localEndpoints"] == 0
    assert json.loads(get("http://127.0.0.1:10256/healthz", 503)[1])["nodeEligible"] is False
    get("http://127.0.0.1:10256/livez", 200)
    assert 'no_local_endpoints{traffic_policy="external"} 1\n' in get("http://127.0.0.1:10249/metrics", 200)[1]
    # Node ports are served on one address only.
    put(tmp_path, "node-a", [], nodeport_addresses=[f"{address}/32"])
    get(f"http://{address}:{CHECK}/", 200)
    get(f"http://127.0.0.1:{CHECK}/", 0)


def test_an_update_that_fails_for_long_is_told(get: Callable[[str, int], tuple[str, str]], tmp_path: Path) -> None:
    put(tmp_path, "node-a", [])
    (tmp_path / "last-run.json").write_text(json.dumps({"result": "failed", "failing_since": time.time() - 1}))
    get(f"http://127.0.0.1:{CHECK}/", 200)
    (tmp_path / "last-run.json").write_text(json.dumps({"result": "failed", "failing_since": time.time() - 121}))
    assert json.loads(get(f"http://127.0.0.1:{CHECK}/", 503)[1])["serviceProxyHealthy"] is False
    get("http://127.0.0.1:10256/livez", 503)

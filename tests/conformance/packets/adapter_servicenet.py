# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter for this collection: it runs the module of the mode in the node's namespace, as Ansible would, and beside
it the agent's server where a Service has a health check.

run.py --adapter "python3 adapter_servicenet.py [--variant legacy|nft]" --mode iptables|nftables|ipvs|userspace
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from lab.agent import build_agent, start_server
from lab.claim import LabError, kill_and_wait
from lab.modules import ModuleServer
from lab.waiting import wait_until

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.model import PROXY_NAME_LABEL
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot


def listened_on(pid: int) -> set[int]:
    """The TCP ports that anybody listens on in the namespace of a process."""
    lines = [
        line for table in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    fields = [line.split() for line in lines]
    return {int(address.rpartition(":")[2], 16) for _slot, address, _peer, state, *_rest in fields if state == "0A"}


class Servicenet:
    """The collection as the service proxy of one node.

    :param server: runs modules on the node.
    :param variant: of iptables; only some modes have it.
    :param options: those of a case (README, "proxy_options").
    :param place: a directory for the node's state, which outlives this object.
    """

    def __init__(self, server: ModuleServer, mode: str, variant: str, options: dict[str, Any], place: Path) -> None:
        self.server, self.mode, self.place = server, mode, place
        self.snapshot = place / "snapshot.jsonl.gz"
        self._pid_file = place / "server.pid"
        self.arguments = self._arguments(variant, options)

    def _arguments(self, variant: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options in the words of our modules."""
        detect = options.get("detect_local_mode") or "none"
        given = {
            "node_name": options["node_name"],
            "zone": options.get("zone"),
            "node_ips": options["node_ips"],
            "nodeport_addresses": options.get("nodeport_addresses") or [],
            "masquerade_all": options.get("masquerade_all", False),
            "detect_local_mode": detect,
            "pod_cidrs": options.get("cluster_cidrs") or [] if detect == "ClusterCIDR" else [],
            "bridge_interface": options.get("bridge_interface"),
            "interface_name_prefix": options.get("interface_name_prefix"),
            "state_dir": str(self.place / "state"),
            "run_dir": str(self.place / "run"),
            # Here a cluster may well lose more than half of its Services at once.
            "max_removed_percent": 100,
        }
        if self.mode == "iptables":
            given["localhost_nodeports"] = options.get("localhost_nodeports", True)
        if self.mode in ("iptables", "ipvs"):
            given["variant"] = variant
        if self.mode == "userspace":
            # Each worker goes round by itself, so with many of them a few tries would all meet the first backend.
            given |= {"userspace_workers": 2, "userspace_drain_seconds": 1}
        return {name: value for name, value in given.items() if value is not None}

    def run(self, **more: Any) -> dict[str, Any]:
        """A run of the module.

        :returns: its result.
        :raises LabError: it failed.
        """
        run = self.server.start(f"{self.mode}_services", self.arguments | more, self.place / "said")
        result = run.wait()
        if result.get("failed"):
            raise LabError(result["msg"])
        return result

    def program(self, objects: list[dict[str, Any]]) -> dict[str, Any]:
        """A run with a new snapshot of these objects."""
        self.snapshot.write_bytes(snapshot.dump(build_snapshot(objects)))
        return self.run(snapshot=str(self.snapshot))

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Programs a case; once more must change nothing."""
        self.program(objects)
        served = [one for one in objects if PROXY_NAME_LABEL not in (one["metadata"].get("labels") or {})]
        ports = {int((one.get("spec") or {}).get("healthCheckNodePort") or 0) for one in served} - {0}
        if ports:
            self._serve(ports)
        again = self.run(snapshot=str(self.snapshot))
        if again["changed"]:
            raise LabError("The second run of the module changed something: " + json.dumps(again)[:400])

    def _serve(self, ports: set[int]) -> None:
        """Starts the agent's server, which may outlive this process, and waits until it listens on these ports."""
        self._end_server()
        config = self.place / "agent.json"
        places = {option: self.arguments[option] for option in ("state_dir", "run_dir")}
        config.write_text(json.dumps({**places, "healthz_address": "", "metrics_address": ""}))
        served = start_server(self.server.netns, build_agent(self.place), config)
        self._pid_file.write_text(str(served.pid))

        def listening() -> bool:
            if served.poll() is not None:
                raise LabError(f"the agent's server ended with {served.returncode}")
            return ports <= listened_on(served.pid)

        wait_until(listening, f"the agent's server on the ports {sorted(ports)}")

    def _end_server(self) -> None:
        if self._pid_file.exists():
            pid = int(self._pid_file.read_text())
            kill_and_wait([pid])
            with contextlib.suppress(ChildProcessError):  # another process started it
                os.waitpid(pid, 0)
            self._pid_file.unlink()

    def cleanup(self) -> None:
        """Takes the rules away, and ends the server."""
        self._end_server()
        self.run(state="absent")


def main() -> None:
    """The command line that run.py calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["apply", "cleanup"])
    parser.add_argument("--variant", default="auto", choices=["auto", "legacy", "nft"], help="of iptables")
    for option in ("netns", "node", "manifests", "mode", "options"):
        parser.add_argument(f"--{option}", required=True)
    args = parser.parse_args()
    options, manifests = json.loads(Path(args.options).read_text()), Path(args.manifests)
    with ModuleServer(args.netns) as server:
        proxy = Servicenet(server, args.mode, args.variant, options, manifests.parent)
        try:
            if args.verb == "apply":
                proxy.apply([yaml.safe_load(path.read_text()) for path in sorted(manifests.glob("*.yaml"))])
            else:
                proxy.cleanup()
        except LabError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()

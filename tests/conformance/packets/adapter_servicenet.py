# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter for this collection: it calls the module of the mode in the node's namespace, as Ansible would.

run.py --adapter "python3 adapter_servicenet.py [--variant legacy|nft]" --mode iptables|nftables|ipvs|userspace
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from collection_tree import collections_path

sys.path.insert(0, str(collections_path()))

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot

MODULES = "ansible_collections.kubenode.servicenet.plugins.modules"
# What Ansible's own wrapper does before a module's code runs.
LAUNCHER = """
import runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def module_options(mode: str, options: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The options of a case (README, "proxy_options") in the words of our modules."""
    scratch = Path(args.manifests).parent
    detect = options.get("detect_local_mode") or "none"
    given = {
        "snapshot": str(scratch / "snapshot.jsonl.gz"),
        "node_name": options["node_name"],
        "zone": options.get("zone"),
        "node_ips": options["node_ips"],
        "nodeport_addresses": options.get("nodeport_addresses") or [],
        "masquerade_all": options.get("masquerade_all", False),
        "detect_local_mode": detect,
        "pod_cidrs": options.get("cluster_cidrs") or [] if detect == "ClusterCIDR" else [],
        "bridge_interface": options.get("bridge_interface"),
        "interface_name_prefix": options.get("interface_name_prefix"),
        "state_dir": str(scratch / "state"),
        "run_dir": str(scratch / "run"),
    }
    if mode == "iptables":
        given["localhost_nodeports"] = options.get("localhost_nodeports", True)
    if mode in ("iptables", "ipvs"):
        given["variant"] = args.variant
    return {name: value for name, value in given.items() if value is not None}


def run_module(mode: str, netns: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Runs a module to its end and returns its result; a failure ends this program with the module's message."""
    environment = os.environ | {"PYTHONPATH": str(collections_path())}
    done = subprocess.run(
        ["ip", "netns", "exec", netns, sys.executable, "-c", LAUNCHER, f"{MODULES}.{mode}_services"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        text=True,
        capture_output=True,
        env=environment,
        check=False,
    )
    try:
        result = dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        sys.exit(f"{done.stdout}{done.stderr}".strip() or "The module said nothing.")
    if done.returncode or result.get("failed"):
        sys.exit(result.get("msg", done.stdout))
    return result


def apply(args: argparse.Namespace) -> None:
    """Makes a snapshot of the case and programs it; once more must change nothing."""
    manifests = [yaml.safe_load(path.read_text()) for path in sorted(Path(args.manifests).glob("*.yaml"))]
    wanted = module_options(args.mode, json.loads(Path(args.options).read_text()), args)
    Path(wanted["snapshot"]).write_bytes(snapshot.dump(snapshot.build(manifests)))
    run_module(args.mode, args.netns, wanted)
    again = run_module(args.mode, args.netns, wanted)
    if again["changed"]:
        sys.exit("The second run of the module changed something: " + json.dumps(again)[:400])


def cleanup(args: argparse.Namespace) -> None:
    """Takes the rules away."""
    wanted = module_options(args.mode, json.loads(Path(args.options).read_text()), args)
    del wanted["snapshot"]
    run_module(args.mode, args.netns, wanted | {"state": "absent"})


def main() -> None:
    """The command line that run.py calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["apply", "cleanup"])
    parser.add_argument("--variant", default="auto", choices=["auto", "legacy", "nft"], help="of iptables")
    for option in ("netns", "node", "manifests", "mode", "options"):
        parser.add_argument(f"--{option}", required=True)
    args = parser.parse_args()
    {"apply": apply, "cleanup": cleanup}[args.verb](args)


if __name__ == "__main__":
    main()

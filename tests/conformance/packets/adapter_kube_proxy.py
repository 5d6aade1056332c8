# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter for the real kube-proxy: replaying its own recordings through it must pass in full (a test of run.py).

    STATE=DIR run.py --adapter "python3 adapter_kube_proxy.py" --mode nftables
    STATE=DIR adapter_kube_proxy.py down       # ends the control plane that the first `apply` started

The cluster objects of one case fill the API server, so this adapter allows only `--jobs 1` per STATE.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.claim import clean_exit, kill_and_wait, remove
from lab.control_plane import Api, ControlPlane

from conformance.packets.reference import KubeProxy

NAMESPACES = ("shop", "infra")


def control_plane(state: Path) -> tuple[Api, str]:
    """-> (client, socket) of the running control plane; started if there is none."""
    record = state / "control-plane.json"
    if not record.exists():
        plane = ControlPlane()
        plane.open()
        plane.keep()
        plane.api.create_all({"kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES)
        state.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"prefix": plane.prefix, "port": plane.port, "socket": str(plane.socket)}))
    data = json.loads(record.read_text())
    return Api(data["port"], ControlPlane.token("admin")), data["socket"]


def apply(args: argparse.Namespace, state: Path) -> None:
    """Fills the API server with the case and starts kube-proxy on it."""
    api, socket = control_plane(state)
    api.clear()
    for path in sorted(Path(args.manifests).glob("*.yaml")):
        api.create(yaml.safe_load(path.read_text()))
    proxy = KubeProxy(args.netns, state / args.netns, socket)
    proxy.start(args.mode, json.loads(Path(args.options).read_text()))
    (state / args.netns / "pids").write_text(" ".join(str(process.pid) for process in proxy.processes))


def cleanup(args: argparse.Namespace, state: Path) -> None:
    """Ends kube-proxy and has it take its rules away."""
    kill_and_wait(int(pid) for pid in (state / args.netns / "pids").read_text().split())
    KubeProxy(args.netns, state / args.netns, "").remove_rules(args.mode, json.loads(Path(args.options).read_text()))


def down(_args: argparse.Namespace, state: Path) -> None:
    """Ends the control plane."""
    record = state / "control-plane.json"
    remove(json.loads(record.read_text())["prefix"])
    record.unlink()


def main() -> None:
    """The command line that run.py calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["apply", "cleanup", "down"])
    for option in ("netns", "node", "manifests", "mode", "options"):
        parser.add_argument(f"--{option}")
    args = parser.parse_args()
    clean_exit()
    {"apply": apply, "cleanup": cleanup, "down": down}[args.verb](args, Path(os.environ["STATE"]).absolute())


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reference: a real kube-proxy in a namespace, driven from here.

Only adapter_kube_proxy.py needs this file; a replay of another proxy does not. Needs `socat` and `curl`.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml
from lab.control_plane import ControlPlane, peer

API_IN_NODE = 16443  # where kube-proxy finds the API server, on the node's loopback
METRICS, HEALTHZ = 10249, 10256
# So often kube-proxy is started until it knows its zone, of which it hears in so many seconds or never.
STARTS, LEARNS_WITHIN = 10, 3.0


def kube_proxy() -> str:
    """The real program."""
    return peer("KUBE_PROXY", "kube-proxy")


def config(mode: str, options: dict[str, Any], kubeconfig: Path) -> dict[str, Any]:
    """KubeProxyConfiguration for the options of a case (README, "proxy_options")."""
    shared = {"masqueradeAll": options.get("masquerade_all", False), "minSyncPeriod": "0s", "syncPeriod": "30s"}
    detect = {
        "ClusterCIDR": {},
        "NodeCIDR": {},
        "BridgeInterface": {"detectLocal": {"bridgeInterface": options.get("bridge_interface", "")}},
        "InterfaceNamePrefix": {"detectLocal": {"interfaceNamePrefix": options.get("interface_name_prefix", "")}},
        None: {},
    }
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 100, "burst": 200},
        "hostnameOverride": options["node_name"],
        "healthzBindAddress": f"127.0.0.1:{HEALTHZ}",
        "metricsBindAddress": f"127.0.0.1:{METRICS}",
        "conntrack": {"maxPerCore": 0},
        "configSyncPeriod": "15m0s",
        "clusterCIDR": ",".join(options.get("cluster_cidrs") or []),
        "detectLocalMode": options.get("detect_local_mode") or "ClusterCIDR",
        "nodePortAddresses": options.get("nodeport_addresses"),
        "iptables": shared | {"localhostNodePorts": options.get("localhost_nodeports", True)},
        "nftables": shared,
    } | detect[options.get("detect_local_mode")]


class KubeProxy:
    """kube-proxy in a namespace; `start` returns once it has synced everything that the API server holds."""

    def __init__(self, netns: str, directory: Path, api_socket: str) -> None:
        self.netns, self.directory, self.api_socket = netns, directory, api_socket
        self.processes: list[subprocess.Popen[bytes]] = []

    def exec(self, *args: str | Path, output: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Starts a program in the namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.netns, *map(str, args)],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def write_config(self, mode: str, options: dict[str, Any]) -> Path:
        """The configuration and its kubeconfig; returns the path of the former."""
        self.directory.mkdir(parents=True, exist_ok=True)
        kubeconfig = self.directory / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "x",
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {"server": f"https://127.0.0.1:{API_IN_NODE}", "insecure-skip-tls-verify": True},
                        }
                    ],
                    "users": [{"name": "u", "user": {"token": ControlPlane.token("admin")}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(config(mode, options, kubeconfig)))
        return path

    def start(self, mode: str, options: dict[str, Any]) -> None:
        """Starts kube-proxy, and with it the relay through which it finds the API server.

        kube-proxy 1.36 asks for news of its Node before it says who wants to know its zone, so on a busy machine the
        only news may find nobody, and it ignores hints for zones as long as it runs. Such a one is started anew.
        """
        path = self.write_config(mode, options)
        self.processes = [
            self.exec(
                "socat", f"TCP-LISTEN:{API_IN_NODE},bind=127.0.0.1,fork,reuseaddr", f"UNIX-CONNECT:{self.api_socket}"
            )
        ]
        for _attempt in range(STARTS):
            # What it says of its zone it says at 4.
            verbosity = 4 if options.get("zone") else 2
            with open(self.directory / "kube-proxy.log", "w") as log:
                program = self.exec(kube_proxy(), "--config", path, f"-v={verbosity}", output=log)
            self.processes.append(program)
            if not options.get("zone") or self.learns_its_zone():
                self.wait_synced()
                return
            program.kill()
            program.wait()
            self.processes.remove(program)
        raise RuntimeError(f"kube-proxy did not learn its zone, see {self.directory}/kube-proxy.log")

    def learns_its_zone(self) -> bool:
        """Whether it has heard of its Node's zone a moment after it has synced."""
        self.wait_synced()
        deadline = time.monotonic() + LEARNS_WITHIN
        while "Updated proxier node topology labels" not in (self.directory / "kube-proxy.log").read_text():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def metrics(self) -> dict[tuple[str, str], float]:
        """`kubeproxy_sync_proxy_rules_last*_timestamp_seconds` by name and family."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.netns, "curl", "-s", "-m", "2", f"http://127.0.0.1:{METRICS}/metrics"],
            capture_output=True,
            text=True,
            check=False,
        )
        found = {}
        for line in done.stdout.splitlines():
            match = re.match(r"kubeproxy_sync_proxy_rules_last(_queued)?_timestamp_seconds(\{.*\})? (\S+)", line)
            if match:
                found[("queued" if match[1] else "synced", match[2] or "")] = float(match[3])
        return found

    def wait_synced(self, changed: float = 0, timeout: float = 300) -> None:
        """Returns once everything that was queued has been written, and something was queued since `changed`."""
        deadline = time.time() + timeout
        stable: dict[tuple[str, str], float] | None = None
        while time.time() < deadline:
            if self.processes[-1].poll() is not None:
                raise RuntimeError(f"kube-proxy ended, see {self.directory}/kube-proxy.log")
            seen = self.metrics()
            synced = {f: t for (kind, f), t in seen.items() if kind == "synced"}
            queued = {f: t for (kind, f), t in seen.items() if kind == "queued"}
            heard = max(queued.values(), default=0) >= changed
            done = heard and synced and all(t > 0 and t >= queued.get(f, 0) for f, t in synced.items())
            if done and seen == stable:
                return
            stable = seen if done else None
            time.sleep(0.15)
        raise RuntimeError(f"kube-proxy did not sync, see {self.directory}/kube-proxy.log")

    def remove_rules(self, mode: str, options: dict[str, Any]) -> None:
        """Has kube-proxy itself take its rules away."""
        path = self.write_config(mode, options)
        subprocess.run(
            ["ip", "netns", "exec", self.netns, kube_proxy(), "--config", str(path), "--cleanup"],
            capture_output=True,
            check=False,
        )

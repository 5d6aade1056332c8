# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests share that boot a machine: ways to configure its network, and a cluster for it."""

from __future__ import annotations

from typing import Any

from lab.machine import ADDRESS, GATEWAY, PODS, Machine

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

UPLINK = f"""\
[Match]
Name=eth0

[Network]
Address={ADDRESS}/24
Gateway={GATEWAY}
DNS={GATEWAY}
IPv6AcceptRA=no
LinkLocalAddressing=no
"""
# The uplink alone is NetworkManager's. It writes /etc/resolv.conf itself, although the program resolvconf of
# systemd-resolved is installed.
ONLY_UPLINK = (
    "[main]\nno-auto-default=*\nrc-manager=symlink\n\n[keyfile]\nunmanaged-devices=except:interface-name:eth0\n"
)
CONNECTION = f"""\
[connection]
id=uplink
type=ethernet
interface-name=eth0

[ipv4]
method=manual
address1={ADDRESS}/24,{GATEWAY}
dns={GATEWAY};

[ipv6]
method=disabled
"""
VIP = "10.96.0.10"


def use_networkd(machine: Machine, *more: str) -> None:
    """From now on, and after each boot, systemd-networkd configures the uplink; `more` units are enabled, too."""
    machine.write("/etc/systemd/network/10-uplink.network", UPLINK)
    units = ("systemd-networkd.service", "systemd-networkd-wait-online.service", *more)
    machine.node.run(["systemctl", "enable", "--now", *units])


def use_network_manager(machine: Machine) -> None:
    """From now on, and after each boot, NetworkManager configures the uplink and writes /etc/resolv.conf."""
    machine.write("/etc/NetworkManager/conf.d/10-lab.conf", ONLY_UPLINK)
    machine.write("/etc/tmpfiles.d/systemd-resolve.conf", "")
    machine.node.run(["rm", "-f", "/etc/resolv.conf"])
    machine.write("/etc/NetworkManager/system-connections/uplink.nmconnection", CONNECTION, 0o600)
    machine.node.run(["systemctl", "enable", "--now", "NetworkManager.service", "NetworkManager-wait-online.service"])


def cluster(pod: str) -> list[dict[str, Any]]:
    """A Service with a ClusterIP in front of a Pod, and a headless one."""
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    made: list[dict[str, Any]] = [
        {"kind": "Namespace", "metadata": {"name": "shop"}},
        {"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}},
    ]
    for name, address in (("web", VIP), ("database", "None")):
        meta = {"namespace": "shop", "name": name}
        made.append({"kind": "Service", "metadata": meta, "spec": {"clusterIPs": [address], "ports": ports}})
        made.append(
            {
                "kind": "EndpointSlice",
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 9000, "protocol": "TCP"}],
                "endpoints": [{"addresses": [PODS[pod]], "conditions": {"ready": True}, "nodeName": "node-a"}],
            }
        )
    return made


def cluster_file(pod: str) -> bytes:
    """The same as a snapshot file."""
    return snapshot.dump(build_snapshot(cluster(pod)))

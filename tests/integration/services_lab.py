# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the *_services modules share: a node that is programmed by the real module, and packets through it.

Every test runs in each of VARIANTS. The lab is that of the recorded packets (conformance/packets/packet_lab.py), whose
workers hold streams as well.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conformance.packets.packet_lab import CLIENTS, EXT, NODE_IPS, PODS, PacketLab
from lab.claim import sh
from lab.modules import ModuleServer, Run
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

HERE = Path(__file__).resolve().parent
STREAM = 7000


class Variant(NamedTuple):
    """A mode of the collection and options of its module; ``commit`` is the program that commits its transactions."""

    mode: str
    options: dict[str, Any]
    commit: dict[int, str]


VARIANTS = {
    "iptables-nft": Variant("iptables", {"variant": "nft"}, {4: "iptables-nft-restore", 6: "ip6tables-nft-restore"}),
    "iptables-legacy": Variant(
        "iptables", {"variant": "legacy"}, {4: "iptables-legacy-restore", 6: "ip6tables-legacy-restore"}
    ),
    "nftables": Variant("nftables", {}, {4: "nft", 6: "nft"}),
    "userspace": Variant("userspace", {}, {4: "nft", 6: "nft"}),
}
USERSPACE = VARIANTS["userspace"]
# Only where the kernel has ip_vs, see test_in_uml.py.
IPVS = Variant("ipvs", {"variant": "legacy"}, {4: "ipset", 6: "ipset"})
EVERY = VARIANTS | ({"ipvs": IPVS} if has_ip_vs() else {})


class ServicesLab(PacketLab):
    """The lab of the recorded packets, with servers for connections that stay."""

    def start_workers(self, names: Iterable[str], ports: Mapping[str, Iterable[int]]) -> None:
        """As the ground does."""
        super().start_workers(names, {**ports, "stream": [STREAM]})


# ------------------------------------------------------------------------------------------------------- a cluster

READY = {"ready": True, "serving": True, "terminating": False}
UNREADY = {"ready": False, "serving": False, "terminating": False}
TERMINATING = {"ready": False, "serving": True, "terminating": True}
# How the endpoints' states are written down for short.
STATES = {"ready": READY, "unready": UNREADY, "terminating": TERMINATING}


def vip(number: int, family: int = 4) -> str:
    """The ClusterIP of the Service with this number."""
    return f"10.96.0.{number}" if family == 4 else f"fd00:10:96::{number:x}"


def service(
    name: str, number: int, pods: Mapping[str, str], target: int = 8080, stream: bool = False, **spec: Any
) -> list[dict[str, Any]]:
    """A dual-stack Service in namespace shop with its EndpointSlices: TCP and UDP 80, if asked a stream on 7000.

    :param number: the end of its ClusterIPs.
    :param pods: name of a Pod of the lab -> one of STATES.
    :param target: the port of the Pods.
    :param spec: more fields; ``nodePort`` goes to the TCP and the UDP port.
    """
    node_port = {"nodePort": spec.pop("nodePort")} if "nodePort" in spec else {}
    status = {"loadBalancer": {"ingress": [{"ip": ip} for ip in spec.pop("ingress", [])]}}
    ports = [
        {"name": protocol.lower(), "protocol": protocol, "port": 80, "targetPort": target, **node_port}
        for protocol in ("TCP", "UDP")
    ]
    if stream:
        ports.append({"name": "stream", "protocol": "TCP", "port": STREAM, "targetPort": STREAM})
    ips = [vip(number), vip(number, 6)]
    made = {
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips, "ports": ports, **spec},
        "status": status,
    }
    return [made, *(_slice(name, family, pods, ports) for family in (4, 6))]


def _slice(name: str, family: int, pods: Mapping[str, str], ports: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "shop",
            "name": f"{name}-{family}",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": f"IPv{family}",
        "ports": [{"name": p["name"], "protocol": p["protocol"], "port": p["targetPort"]} for p in ports],
        "endpoints": [
            {
                "addresses": [PODS[pod][0 if family == 4 else 1]],
                "conditions": STATES[state],
                "nodeName": PODS[pod][2],
            }
            for pod, state in pods.items()
        ],
    }


# --------------------------------------------------------------------------------------------------------- a node


class ServicesNode:
    """node-a of a lab, as one variant of the collection sees it; whatever was there before is taken away.

    :param directory: empty; the node's state, the snapshot that it is given, and more.
    """

    def __init__(self, lab: PacketLab, server: ModuleServer, variant: Variant, directory: Path) -> None:
        self.lab, self.server, self.variant, self.directory = lab, server, variant, directory
        self.snapshot = directory / "snapshot.jsonl.gz"
        self.state_dir, self.run_dir = directory / "state", directory / "run"
        self.bin = directory / "bin"
        self._runs = 0
        lab.reset()

    # ---- runs

    def arguments(self, **options: Any) -> dict[str, Any]:
        """The options of the module."""
        return {
            "snapshot": str(self.snapshot),
            "node_name": "node-a",
            "node_ips": NODE_IPS,
            "pod_cidrs": ["10.128.0.0/9", "fd80::/16"],
            "state_dir": str(self.state_dir),
            "run_dir": str(self.run_dir),
            "max_removed_percent": 100,
            **self.variant.options,
            **options,
        }

    def give(self, *objects: list[dict[str, Any]]) -> None:
        """Puts a new snapshot on the node."""
        self.snapshot.write_bytes(snapshot.dump(build_snapshot([raw for some in objects for raw in some])))

    def start(self, **options: Any) -> Run:
        """Begins a run of the variant's module."""
        return self.start_module(f"{self.variant.mode}_services", self.arguments(**options))

    def start_module(self, module: str, arguments: dict[str, Any]) -> Run:
        """Begins a run of any module of the collection, on the node."""
        self._runs += 1
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return self.server.start(module, arguments, self.directory / f"run-{self._runs}", path)

    def run(self, **options: Any) -> dict[str, Any]:
        """A run of the module that must succeed -> its result. ``_ansible_check_mode`` and ``_ansible_diff`` work."""
        result = self.start(**options).wait()
        assert not result.get("failed"), result["msg"]
        return result

    def fail(self, **options: Any) -> str:
        """A run of the module that must fail -> its message."""
        result = self.start(**options).wait()
        assert result.get("failed"), result
        return str(result["msg"])

    def check(self) -> dict[str, Any]:
        """A run in check mode with a diff."""
        return self.run(_ansible_check_mode=True, _ansible_diff=True)

    # ---- what it holds

    def sh(self, command: str, text: str | None = None) -> str:
        """A command in the node that must succeed."""
        return sh("ip", "netns", "exec", self.lab.node, *command.split(), text=text).stdout

    def rules(self) -> str:
        """All rules of the node, of all programs, in a form that only changes with them."""
        nft, ipvs, *saved = self.lab.in_node("sh", "-c", _EVERY_RULE).split(_NEXT)
        return "\n".join([_normal_nft(nft), *sorted(ipvs.splitlines()), *map(_normal, saved)])

    def tables(self) -> dict[str, str]:
        """The rules of the node by family and table: what one transaction changes as a whole."""
        if self.variant.mode in ("nftables", "userspace"):
            said = {f: self.lab.in_node("nft", "-s", "list", "table", f, "servicenet") for f in ("ip", "ip6")}
            named = {family: self._with_names(_normal_nft(text)) for family, text in said.items()}
            return {family: "\n".join(sorted(text.splitlines())) for family, text in named.items()}
        save = f"{self.variant.options['variant']}-save"
        return {
            f"{tool} {table}": _normal(self.lab.in_node(f"{tool}-{save}", "-t", table))
            for tool in ("iptables", "ip6tables")
            for table in ("nat", "filter")
        }

    def _with_names(self, text: str) -> str:
        """The names of backend sets instead of the ports that their proxies got by chance."""
        # Where the runs see it: a test may have mounted something there.
        path = Path(f"/proc/{self.server.pid}/root{self.state_dir}/userspace_ports.json")
        ports = json.loads(path.read_text())["ports"] if path.exists() else {}
        names = {str(port): key for key, port in ports.items()}
        return re.sub(r"\b\d{5}\b", lambda found: names.get(found[0], found[0]), text)

    def generation(self) -> int:
        """Moves with every commit to nftables."""
        return int(self.server.ask(op="generation") or 0)

    def sysctls(self) -> str:
        """All kernel settings of the node's network that do not change by themselves."""
        # sysctl would read all settings there are, which takes five times as long.
        said = self.lab.in_node(
            "grep", "-rs", ".", *(f"/proc/sys/net/{part}" for part in ("ipv4", "ipv6", "netfilter"))
        )
        found = sorted(line.removeprefix("/proc/sys/").partition(":") for line in said.splitlines())
        lines = [f"{path.replace('/', '.')} = {value}" for path, _colon, value in found]
        return "\n".join(line for line in lines if "nf_conntrack_count" not in line and "stable_secret" not in line)

    # ---- faults

    def spoil(self) -> None:
        """Somebody else flushes everything that serves."""
        if self.variant.mode == "ipvs":
            self.sh("ipvsadm -C")
            return
        self.sh("nft flush ruleset")
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            self.sh(f"{tool} -t nat -F")

    def fault(self, what: str, number: int, argument: str = "") -> None:
        """From now on, something happens to the ``number``-th transaction that is committed, of either family.

        :param what: ``before`` or ``after`` it the run is killed; ``spoil``: the first of its lines that has
            ``argument`` in it is made one that is refused; ``refuse``: it fails with ``argument`` as its message.
        """
        self.bin.mkdir(exist_ok=True)
        (self.bin / "count").write_text("0")
        for name in self.variant.commit.values():
            wrapper = self.bin / name
            real = shutil.which(name)
            wrapper.write_text(_WRAPPER.format(real=real, bin=self.bin, what=what, number=number, argument=argument))
            wrapper.chmod(0o755)

    def heal(self) -> int:
        """No more faults; how many transactions were committed or tried since ``fault``."""
        tried = int((self.bin / "count").read_text())
        shutil.rmtree(self.bin)
        return tried

    # ---- packets

    def probe(self, client: str, address: str, port: int = 80, proto: str = "TCP", count: int = 4) -> Counter[str]:
        """New flows -> how often each outcome was seen: ``POD:PORT``, ``reject``, ``drop`` and others of worker.py."""
        worker = self.lab.workers[CLIENTS[client][0]]
        spec = {"proto": proto, "address": address, "port": port, "count": count, "timeout": 0.6}
        (got,) = worker.ask(op="probe", probes=[spec])
        seen: Counter[str] = Counter()
        for outcomes in got.values():
            for outcome, times in outcomes.items():
                seen[outcome.split("|")[0]] += times
        return seen


# One process instead of ten, which take their time in User Mode Linux. Only tables that exist: to name another one
# would make it.
_NEXT = "# another table\n"
_EVERY_RULE = f"""
nft -s list ruleset
printf {shlex.quote(_NEXT)}
if [ -e /proc/net/ip_vs ]; then
    ipvsadm -S -n
    ipset save
fi
for tool in ip ip6; do
    for table in $(sort /proc/net/${{tool}}_tables_names); do
        printf {shlex.quote(_NEXT)}
        ${{tool}}tables-legacy-save -t $table
    done
done
"""


def _normal(saved: str) -> str:
    """What iptables-save says, without comments and counters, the chains in the order of their names."""
    lines = [line for line in saved.splitlines() if not line.startswith("#")]
    chains = sorted(line.split(" [")[0] for line in lines if line.startswith(":"))
    rules = [line for line in lines if not line.startswith(":")]
    return "\n".join(chains + sorted(rules, key=lambda line: line.split(" ")[:2]))


def _normal_nft(listed: str) -> str:
    """What nft lists, each element and each rule in a line of its own behind the name of what it is in."""
    lines, inside, elements = [], "", ""
    for line in listed.splitlines():
        text = line.strip()
        if elements or text.startswith("elements = {"):
            elements += text
            if text.endswith("}"):
                found = elements.partition("{")[2].rpartition("}")[0].split(",")
                lines += sorted(f"{inside} element {one.strip()}" for one in found)
                elements = ""
        elif line.startswith("\t") and text.endswith("{"):
            inside = text.rstrip(" {")
            lines.append(inside)
        elif text not in ("", "}"):
            lines.append(f"{inside if line.startswith(chr(9) * 2) else ''} {text}")
    return "\n".join(lines)


_WRAPPER = """#!/bin/sh
# Stands for {real}, and does to one of its transactions what a test wants.
case " $* " in
*" --test "* | *" --check "* | *" list "* | *" --version "*) exec {real} "$@" ;;
esac
number=$(($(cat {bin}/count) + 1))
echo $number >{bin}/count
[ $number = {number} ] || exec {real} "$@"
case {what} in
before)
    kill -9 $PPID
    ;;
after)
    {real} "$@"
    kill -9 $PPID
    ;;
spoil)
    sed '0,/{argument}/s/\\(.*{argument}.*\\)/\\1 --nonsense/' | {real} "$@"
    ;;
refuse)
    cat >/dev/null
    echo '{argument}' >&2
    exit 1
    ;;
esac
"""


# ------------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="module")
def services_lab() -> Any:
    """One lab for a file of tests."""
    with ServicesLab() as lab:
        yield lab


@pytest.fixture(scope="module")
def module_server(services_lab: ServicesLab) -> Any:
    """Runs modules in the lab's node-a."""
    with ModuleServer(services_lab.node) as server:
        yield server


@pytest.fixture(params=EVERY)
def node(
    request: pytest.FixtureRequest, services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path
) -> ServicesNode:
    """A node without any rules, in each variant."""
    return _node(EVERY[request.param], services_lab, module_server, tmp_path)


@pytest.fixture(params=[name for name in VARIANTS if name != "userspace"])
def rules_node(
    request: pytest.FixtureRequest, services_lab: ServicesLab, module_server: ModuleServer, tmp_path: Path
) -> ServicesNode:
    """The same, in each variant whose transactions are all rules: a step of nginx can't be counted or stopped at."""
    return _node(VARIANTS[request.param], services_lab, module_server, tmp_path)


def _node(variant: Variant, lab: ServicesLab, server: ModuleServer, directory: Path) -> ServicesNode:
    if shutil.which(variant.commit[4]) is None:
        pytest.skip(f"there is no {variant.commit[4]} on this machine")
    return ServicesNode(lab, server, variant, directory)


__all__ = ["EXT", "NODE_IPS", "PODS", "ServicesLab", "ServicesNode", "Variant", "module_server", "node", "service"]

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode asks of a node beside its rules: modules, kernel settings, timeouts; see test_in_uml.py.

``sysctl``, ``ipvsadm`` and the packets of a neighbour are the witnesses.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.in_namespace import inside, namespace, run, sh
from lab.ground import Ground
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import preflight_settings as names
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ServicenetError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight import problems
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.preflight_model import PreflightOptions
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import (
    ipvs_preflight,
    ipvs_timeouts,
    service_addresses,
    sysctl,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.iptables_tool import LEGACY
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.preflight_facts import gather
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.sysctl import Settings

__all__ = ["namespace"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

OPTIONS = PreflightOptions("ipvs", conntrack_max_per_core=0, conntrack_tcp_established_timeout=0)
VIP = "10.96.0.10"


def timeouts() -> list[int]:
    """Those of TCP, of TCP after a FIN, and of UDP, as ipvsadm sees them."""
    return [int(seconds) for seconds in re.findall(r"\d+", sh("ipvsadm -L --timeout"))]


def settings() -> dict[str, str]:
    """Every setting of IPVS and of ARP, and every timeout, as others see them."""
    text = sh("sysctl -a -r ^net.ipv4.(vs|conf.[a-z0-9]*.arp_|ip_forward)")
    found = dict(line.split(" = ", 1) for line in text.splitlines())
    return {**found, "timeouts": str(timeouts())}


def wanted(options: PreflightOptions) -> list[tuple[str, str]]:
    """What preflight would set on this node."""
    report = problems(gather(run, [], besides=names.IPVS).facts, [], options)
    return [(change.name, change.new) for change in report.changes]


def test_settings_are_made_and_put_back_exactly(tmp_path: Path) -> None:
    before = settings()
    asked = OPTIONS._replace(
        ipvs_strict_arp=True, ipvs_tcp_timeout=1800, ipvs_tcpfin_timeout=30, ipvs_udp_timeout=int(timeouts()[2])
    )
    changes = dict(wanted(asked))
    assert settings() == before, "asking changed something"
    path = tmp_path / "sysctls.json"
    Settings(str(path)).apply(changes.items())
    now = settings()
    expected = {
        **dict.fromkeys(("vs.conntrack", "vs.expire_nodest_conn", "vs.expire_quiescent_template"), "1"),
        "conf.all.arp_ignore": "1",
        "conf.all.arp_announce": "2",
    }
    assert {name: now[f"net.ipv4.{name}"] for name in expected} == expected
    assert timeouts() == [1800, 30, int(before["timeouts"].strip("[]").split(", ")[2])]
    assert "ipvs/udp" not in changes
    # A second run has nothing to do and writes nothing.
    written = path.stat()
    assert wanted(asked) == []
    assert Settings(str(path)).apply(changes.items()) == []
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    restored, left = Settings(str(path)).restore()
    assert settings() == before
    assert {one.name for one in restored} == set(changes)
    assert left == []
    assert not path.exists()


def test_only_what_is_asked_for_is_set() -> None:
    names_of = {name for name, _value in wanted(OPTIONS)}
    assert not {name for name in names_of if name.startswith("ipvs/") or "arp" in name}
    assert {name for name, _value in wanted(OPTIONS._replace(ipvs_udp_timeout=77))} - names_of == {"ipvs/udp"}


def test_a_timeout_that_somebody_else_set_later_is_left(tmp_path: Path) -> None:
    state = Settings(str(tmp_path / "sysctls.json"))
    old = timeouts()
    state.apply([("ipvs/tcp", "1800"), ("ipvs/udp", "60")])
    sh("ipvsadm --set 999 0 0")
    assert [one.name for one in state.restore()[0]] == ["ipvs/udp"]
    assert timeouts() == [999, *old[1:]]


def test_a_timeout_that_the_kernel_refuses_is_named() -> None:
    before = timeouts()
    with pytest.raises(ServicenetError, match="The timeout ipvs/tcp can't be set to 4294967295 seconds: Invalid"):
        sysctl.write("ipvs/tcp", "4294967295")
    assert timeouts() == before


def test_timeouts_are_those_of_the_network_namespace() -> None:
    sysctl.write("ipvs/tcp", "1234")
    assert ipvs_timeouts.read("ipvs/tcp") == "1234"
    here = timeouts()
    assert here[0] == 1234
    assert re.findall(r"\d+", sh("unshare -n ipvsadm -L --timeout"))[0] != "1234"


# ---- strict ARP


class Neighbours(Ground):
    """A node that holds a VIP, and a neighbour on the same network."""

    def build(self) -> None:
        """Two namespaces and a wire."""
        for name in ("node", "near"):
            self.add(name)
        self.wire("near", "eth0", "node", "eth0")
        self.ip("node", "addr add 198.18.1.1/24 dev eth0")
        self.ip("near", "addr add 198.18.1.2/24 dev eth0", f"route add {VIP} dev eth0")
        with inside(self.ns("node")):
            service_addresses.add(service_addresses.make_device(), [VIP])


@pytest.fixture
def neighbours() -> Iterator[Neighbours]:
    """Such two, for a test."""
    with Neighbours() as ground:
        yield ground


def outcome(ground: Neighbours) -> int:
    """The errno of a connection from the neighbour to the VIP, where nobody listens."""
    ground.ip("near", "neigh flush all")
    with inside(ground.ns("near")), socket.socket() as client:
        client.settimeout(60)
        return client.connect_ex((VIP, 80))


def test_strict_arp_lets_the_node_answer_for_its_own_addresses_only(neighbours: Neighbours, tmp_path: Path) -> None:
    assert outcome(neighbours) == errno.ECONNREFUSED
    state = Settings(str(tmp_path / "sysctls.json"))
    with inside(neighbours.ns("node")):
        arp = [(name, value) for name, value in wanted(OPTIONS._replace(ipvs_strict_arp=True)) if "arp" in name]
        state.apply(arp)
    assert outcome(neighbours) == errno.EHOSTUNREACH
    with inside(neighbours.ns("node")):
        state.restore()
    assert outcome(neighbours) == errno.ECONNREFUSED


# ---- modules


def traces() -> list[str]:
    """Whatever a try could leave behind."""
    tools = ("ipvsadm -S -n", "ipset save", "iptables-legacy-save", "ip6tables-legacy-save")
    return [line for tool in tools for line in sh(tool).splitlines() if not line.startswith("#")]


def run_with_modules(argv: list[str], data: str | None = None) -> tuple[int, str, str]:
    """The command runner of a node that has the modules of User Mode Linux at their place."""
    return run(["modprobe", "-d", "/run/modules", *argv[1:]] if argv[0] == "modprobe" else argv, data)


def test_a_fit_kernel_lacks_nothing_and_a_try_leaves_nothing() -> None:
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        sh(f"{tool} -t mangle -S")  # a try makes this table, empty as it is
    sh("ipset create FOREIGN hash:ip")
    sh("ipvsadm -A -f 1 -6 -s rr")  # the mark that is asked about first
    before = traces()
    assert ipvs_preflight.lacking(run_with_modules, ["rr", "wlc", "mh"], (4, 6), LEGACY) == []
    assert ipvs_preflight.lacking(run, ["rr"], (4, 6), LEGACY, load=False) == []
    assert traces() == before


def test_a_scheduler_that_is_missing_is_named_and_loaded_where_it_can_be() -> None:
    if not Path("/run/modules").exists():
        pytest.skip("the modules of this kernel are where modprobe finds them")
    assert ipvs_preflight.lacking(run, ["rr", "lblcr"], (4,), LEGACY) == ["ip_vs_lblcr"]
    assert ipvs_preflight.lacking(run_with_modules, ["rr", "lblcr"], (4,), LEGACY) == []
    sh("ipvsadm -A -f 1 -s lblcr")

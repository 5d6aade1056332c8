# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPVS through generic netlink, against a kernel that has it: this one's, or that of User Mode Linux (test_in_uml.py).

``ipvsadm`` is the witness of what the kernel holds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from integration.in_namespace import namespace, sh
from uml.machine import has_ip_vs

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import NetlinkError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import (
    Operation,
    Real,
    Server,
    Virtual,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs import Ipvs

__all__ = ["namespace"]
pytestmark = pytest.mark.skipif(not has_ip_vs(), reason="this kernel has no ip_vs")

WEB = Server(4, "TCP", "10.96.0.10", 80)
WEB6 = Server(6, "UDP", "fd00:10:96::a", 53)
MARKED = Server(6, mark=0x5E000011)
FOREIGN = "-A -t 10.96.9.9:443 -s wlc\n-a -t 10.96.9.9:443 -r 10.128.9.9:443 -m -w 7\n"


def listed() -> set[str]:
    """What ipvsadm saves."""
    return set(sh("ipvsadm -S -n").splitlines())


@pytest.fixture
def ipvs() -> Iterator[Ipvs]:
    """IPVS of this test's network namespace, with a virtual server of somebody else."""
    sh("ipvsadm -R", FOREIGN)
    with Ipvs() as opened:
        yield opened


def test_servers_are_made_and_read(ipvs: Ipvs) -> None:
    before = listed()
    ipvs.apply(
        [
            Operation("add", WEB, "rr"),
            Operation("add", WEB, real=Real("10.128.0.1", 8080)),
            Operation("add", WEB, real=Real("10.128.0.2", 8081, 5)),
            Operation("add", WEB6, "wrr", 600),
            Operation("add", WEB6, real=Real("fd80::1", 5353)),
            Operation("add", MARKED, "sh", 10800),
            Operation("add", MARKED, real=Real("fd80::1", 8443)),
        ]
    )
    assert listed() - before == {
        "-A -t 10.96.0.10:80 -s rr",
        "-a -t 10.96.0.10:80 -r 10.128.0.1:8080 -m -w 1",
        "-a -t 10.96.0.10:80 -r 10.128.0.2:8081 -m -w 5",
        "-A -u [fd00:10:96::a]:53 -s wrr -p 600",
        "-a -u [fd00:10:96::a]:53 -r [fd80::1]:5353 -m -w 1",
        "-A -f 1577058321 -6 -s sh -p 10800 -b sh-fallback",
        "-a -f 1577058321 -6 -r [fd80::1]:8443 -m -w 1",
    }
    assert before <= listed()
    held = ipvs.read()
    assert held[WEB] == Virtual("rr", 0, (Real("10.128.0.1", 8080), Real("10.128.0.2", 8081, 5)))
    assert held[WEB6] == Virtual("wrr", 600, (Real("fd80::1", 5353),))
    assert held[MARKED] == Virtual("sh", 10800, (Real("fd80::1", 8443),))


def test_one_change_is_one_operation(ipvs: Ipvs) -> None:
    ipvs.apply([Operation("add", WEB, "rr"), Operation("add", WEB, real=Real("10.128.0.1", 8080))])
    before = listed()
    ipvs.apply([Operation("edit", WEB, real=Real("10.128.0.1", 8080, 0))])
    assert listed() ^ before == {f"-a -t 10.96.0.10:80 -r 10.128.0.1:8080 -m -w {weight}" for weight in (0, 1)}
    ipvs.apply([Operation("edit", WEB, "wlc", 60), Operation("delete", WEB, real=Real("10.128.0.1", 8080))])
    assert ipvs.read()[WEB] == Virtual("wlc", 60)
    ipvs.apply([Operation("delete", WEB)])
    assert WEB not in ipvs.read()
    assert listed() == set(FOREIGN.splitlines())


def test_hundreds_of_operations_go_in_one_call(ipvs: Ipvs) -> None:
    reals = [Real(f"10.128.{i // 250}.{i % 250 + 1}", 8080) for i in range(700)]
    ipvs.apply([Operation("add", WEB, "rr"), *(Operation("add", WEB, real=real) for real in reals)])
    assert set(ipvs.read()[WEB].reals) == set(reals)


def test_a_refused_operation_is_named(ipvs: Ipvs) -> None:
    with pytest.raises(NetlinkError, match=r"10\.128\.0\.1:8080 of TCP 10\.96\.0\.10:80") as refused:
        ipvs.apply([Operation("delete", WEB, real=Real("10.128.0.1", 8080))])
    assert refused.value.code in (errno.ENOENT, errno.ESRCH)
    with pytest.raises(NetlinkError, match="nosuch"):
        ipvs.apply([Operation("add", WEB, "nosuch")])
    assert listed() == set(FOREIGN.splitlines())

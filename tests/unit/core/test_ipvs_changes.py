# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode does for a change: its own operations, in an order that sends no packet a wrong way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import passes, snapshot
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_changes import Marks, Plan, plan
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import Operation, Real, Server
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings

from . import clusters

VIEW = NodeView("node-a", "z1", ("198.18.1.1",))
SETTINGS = Settings(VIEW)
WEB = Server(4, "TCP", "10.96.0.1", 80)
REAL = "4/real/any/tcp/10.96.0.1/80/10.128.0.1/8080"
DNS = "4/real/any/udp/10.96.0.2/53/10.128.0.1/53"
NOTHING = Plan([], [], [], [], [], [], [])


def planned(changes: Changes) -> Plan:
    return plan(changes, Marks(SETTINGS, {}))


def test_one_changed_endpoint_is_one_operation() -> None:
    new = Operation("add", WEB, real=Real("10.128.0.1", 8080, 3))
    assert planned({REAL: (None, 3)}) == NOTHING._replace(servers=[new])
    assert planned({REAL: (1, 3)}) == NOTHING._replace(servers=[new._replace(verb="edit")])


def test_an_endpoint_of_tcp_drains_and_one_of_udp_goes_at_once() -> None:
    drained = Operation("edit", WEB, real=Real("10.128.0.1", 8080, 0))
    assert planned({REAL: (1, None), "4/server/any/tcp/10.96.0.1/80": (("rr", 0), None)}).removed == [drained]
    gone = planned({"4/server/any/udp/10.96.0.2/53": (("rr", 0), None), DNS: (1, None)}).removed
    assert [(one.verb, one.real is not None) for one in gone] == [("delete", True), ("delete", False)]


def test_a_range_holds_only_when_all_that_it_allows_is_there() -> None:
    place = "198.19.1.1,tcp:80"
    entries = planned(
        {f"4/set/LIMIT/{place}": (None, ""), f"4/set/ALLOW/{place},198.18.0.0/16": (None, ""), REAL: (None, 1)}
    ).entries
    assert entries == [f"add SERVICENET-ALLOW-4 {place},198.18.0.0/16", f"add SERVICENET-LIMIT-4 {place}"]


def test_a_node_port_is_an_entry_for_all_addresses_with_the_mark_of_its_server() -> None:
    changes: Changes = {
        "6/set/NP/tcp:30001": (None, "marked, masqueraded"),
        "6/server/host/tcp/-/30001": (None, ("rr", 0)),
    }
    made = planned(changes)
    (server,) = made.marked
    assert server.server.mark & 1 << SETTINGS.masquerade_bit
    assert made.entries == [
        f"add SERVICENET-NP-6 {half},tcp:30001 skbmark {server.server.mark:#x}" for half in ("::/1", "8000::/1")
    ]
    withdrawn = planned({"6/set/NP/tcp:30001": ("marked", None)}).withdrawn
    assert withdrawn == ["del SERVICENET-NP-6 ::/1,tcp:30001", "del SERVICENET-NP-6 8000::/1,tcp:30001"]


@given(st.integers(0, 31), st.sets(st.text("ab", max_size=3), max_size=8))
def test_no_two_marks_have_one_number(bit: int, names: set[str]) -> None:
    settings = Settings(VIEW, masquerade_bit=bit)
    alone = {name: Marks(settings, {}).of(name) for name in names}
    # All of them taken by others, to force another choice.
    marks = Marks(settings, {f"other {name}": number for name, number in alone.items()})
    numbers = [marks.of(name) for name in sorted(names)]
    assert len({*numbers, *alone.values()}) == len(numbers) + len({*alone.values()})
    assert not [number for number in numbers if number & 1 << bit]
    assert [marks.of(name, masqueraded=True) for name in sorted(names)] == [number | 1 << bit for number in numbers]


@given(clusters.clusters())
def test_every_real_server_comes_after_its_virtual_server(objects: list[dict[str, object]]) -> None:
    program = passes.full(snapshot.build(objects), VIEW, IpvsCompiler(SETTINGS)).new
    made = planned({name: (None, content) for name, content in program.items()})
    for operations in (made.marked, made.servers):
        known: set[Server] = set()
        for operation in operations:
            if operation.real is None:
                assert operation.server not in known
                known.add(operation.server)
            assert operation.server in known
    marks = {int(line.split(" ")[-1], 16) for line in made.entries if " skbmark 0x5" in line}
    assert {one.server.mark for one in made.marked} >= marks

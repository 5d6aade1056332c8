# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ipvs mode does for a change: its own operations, in an order that sends no packet a wrong way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import passes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs import IpvsCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_changes import (
    IPSET,
    IPVS,
    Marks,
    Part,
    plan,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import (
    RETIRE,
    Operation,
    Real,
    Server,
    Virtual,
    line,
    operation,
    taken_back,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes, Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

from . import clusters
from .ipvs_kernel import Model

VIEW = NodeView("node-a", "z1", ("198.18.1.1",))
SETTINGS = Settings(VIEW)
WEB = Server(4, "TCP", "10.96.0.1", 80)
REAL = "4/real/any/tcp/10.96.0.1/80/10.128.0.1/8080"
FOREIGN = {
    Server(4, "TCP", "198.18.1.1", 443): Virtual("wlc", 0, (Real("10.128.9.9", 443, 7),)),
    Server(4, mark=0x5E000001): Virtual("rr", 0),
}


def planned(changes: Changes) -> list[Part]:
    return plan(changes, Marks(SETTINGS, {}))


def lines_of(parts: list[Part], where: str) -> list[str]:
    return [line for part in parts if part.where == where for line in part.lines]


def program(objects: list[dict[str, object]]) -> Program:
    return passes.full(build_snapshot(objects), VIEW, IpvsCompiler(SETTINGS)).new


def test_one_changed_endpoint_is_one_operation() -> None:
    new = Operation("add", WEB, real=Real("10.128.0.1", 8080, 3))
    gone = new._replace(verb="delete")
    assert planned({REAL: (None, 3)}) == [
        Part(IPVS, [line(new)], [line(gone._replace(real=Real("10.128.0.1", 8080, 0)))], [REAL])
    ]
    old = new._replace(verb="edit", real=Real("10.128.0.1", 8080, 1))
    assert planned({REAL: (1, 3)}) == [Part(IPVS, [line(new._replace(verb="edit"))], [line(old)], [REAL])]


def test_an_operation_is_itself_again_behind_its_line() -> None:
    for one in (Operation("add", WEB, "rr", 600), Operation("edit", WEB, real=Real("fd80::1", 8080, 3))):
        assert operation(line(one)) == one


def test_only_what_was_done_is_taken_back() -> None:
    """A virtual server that was refused is somebody else's; a real server that only retired gets its weight back."""
    api, real = Server(4, "TCP", "10.96.0.2", 80), Real("10.128.0.1", 8080, 3)
    forth = [
        Operation("add", api, "rr"),
        Operation("add", WEB, "rr"),
        Operation(RETIRE, WEB, real=real._replace(weight=0)),
    ]
    undo = [Operation("add", WEB, real=real), Operation("delete", WEB), Operation("delete", api)]
    lines = [line(one) for one in forth], [line(one) for one in undo]
    back = [undo[0], undo[0]._replace(verb="edit")]
    assert taken_back(*lines) == [*back, *undo[1:]]
    assert taken_back(*lines, [forth[1]]) == [undo[1]]
    assert taken_back(*lines, [forth[0], forth[2]._replace(verb="edit")]) == [*back, undo[2]]
    assert taken_back(*lines, []) == []


def test_a_range_holds_only_when_all_that_it_allows_is_there() -> None:
    place = "198.19.1.1,tcp:80"
    limit, allow = f"4/set/LIMIT/{place}", f"4/set/ALLOW/{place},198.18.0.0/16"
    come = lines_of(planned({limit: (None, ""), allow: (None, ""), REAL: (None, 1)}), IPSET)
    assert come == [f"add SERVICENET-ALLOW-4 {place},198.18.0.0/16", f"add SERVICENET-LIMIT-4 {place}"]
    gone = lines_of(planned({allow: ("", None), limit: ("", None)}), IPSET)
    assert gone == [f"del SERVICENET-LIMIT-4 {place}", f"del SERVICENET-ALLOW-4 {place},198.18.0.0/16"]


def test_a_node_port_is_an_entry_for_all_addresses_with_the_mark_of_its_server() -> None:
    changes: Changes = {
        "6/set/NP/tcp:30001": (None, "marked, masqueraded"),
        "6/server/host/tcp/-/30001": (None, "rr 0"),
    }
    marks, servers, entries = planned(changes)
    mark = operation(servers.lines[0]).server.mark
    assert mark & 1 << SETTINGS.masquerade_bit
    assert marks.lines == [f"add SERVICENET-MARK-6 94.{mark >> 16 & 255}.{mark >> 8 & 255}.{mark & 255}"]
    assert entries.lines == [f"add SERVICENET-NP-6 {half},tcp:30001 skbmark {mark:#x}" for half in ("::/1", "8000::/1")]
    (withdrawn,) = planned({"6/set/NP/tcp:30001": ("marked", None)})
    assert withdrawn.lines == ["del SERVICENET-NP-6 ::/1,tcp:30001", "del SERVICENET-NP-6 8000::/1,tcp:30001"]


def test_what_drains_loses_its_weight_when_no_packet_has_its_mark_any_more() -> None:
    """A virtual server refuses what it has nobody for, and another mode may serve the node port already."""
    withdrawn, drained = planned(
        {
            "4/real/pod/tcp/-/30001/10.128.0.1/8080": (1, 0),
            "4/set/NP/tcp:30001": ("marked", None),
        }
    )
    assert (withdrawn.where, drained.where) == (IPSET, IPVS)
    assert [operation(one).real for one in drained.lines] == [Real("10.128.0.1", 8080, 0)]


def test_a_mark_that_a_killed_run_left_stays_if_its_server_comes_now() -> None:
    entry, server, unused = "4/set/NP/tcp:30001", "4/server/pod/tcp/-/30001", "4/mark/0x5e000001"
    changes: Changes = {server: (None, "rr 0"), unused: ("unused", None)}
    for known, gone in ((0x5E000001, []), (0x5E000002, ["del SERVICENET-MARK-4 94.0.0.1"])):
        lines = lines_of(plan(changes, Marks(SETTINGS, {entry: known})), IPSET)
        assert lines == [f"add SERVICENET-MARK-4 94.0.0.{known & 255}", *gone]


@given(st.integers(0, 31), st.sets(st.text("ab", max_size=3), max_size=8))
def test_no_two_marks_have_one_number(bit: int, names: set[str]) -> None:
    settings = Settings(VIEW, masquerade_bit=bit)
    alone = {name: Marks(settings, {}).of(name) for name in names}
    # All of them taken by others, to force another choice.
    marks = Marks(settings, {}, alone.values())
    numbers = [marks.of(name) for name in sorted(names)]
    assert len({*numbers, *alone.values()}) == len(numbers) + len({*alone.values()})
    assert not [number for number in numbers if number & 1 << bit]
    assert [marks.of(name, masqueraded=True) for name in sorted(names)] == [number | 1 << bit for number in numbers]


@given(clusters.clusters(), clusters.clusters(), st.integers(0, 10**9))
def test_from_any_state_to_any_other_even_if_it_is_killed_on_the_way(
    first: list[dict[str, object]], second: list[dict[str, object]], kill: int
) -> None:
    model = Model(SETTINGS)
    model.servers.update(FOREIGN)
    for objects in (first, second):
        wanted = program(objects)
        parts = model.parts(wanted)
        # Killed between two lines, and begun again by a run that knows nothing of it.
        left = kill % (sum(len(part.lines) for part in parts) + 1)
        for part in parts:
            model.do(part, part.lines[:left])
            left = max(0, left - len(part.lines))
        for part in model.parts(wanted):
            model.do(part, part.lines)
        seen = model.held().program
        assert {name: content for name, content in seen.items() if "/sets/" not in name} == wanted
        assert not [part for part in model.parts(wanted) if part.lines]
        assert FOREIGN.items() <= model.servers.items()
    for part in model.parts({}):
        model.do(part, part.lines)
    assert model.servers == FOREIGN
    assert model.addresses == {"198.18.1.1": "eth0"}
    assert not any(model.sets.values())


@given(clusters.clusters(), clusters.clusters())
def test_every_part_can_be_taken_back(first: list[dict[str, object]], second: list[dict[str, object]]) -> None:
    model = Model(SETTINGS)
    for part in model.parts(program(first)):
        model.do(part, part.lines)
    before = model.held()
    parts = model.parts(program(second))
    for part in parts:
        model.do(part, part.lines)
    for part in reversed(parts):
        model.do(part, [line for line in part.undo if not line.startswith("destroy")])
    assert model.held() == before

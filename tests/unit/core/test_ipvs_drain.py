# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who drains, who goes and who stays in the ipvs mode, for any state of the kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_drain import (
    Decision,
    Draining,
    decide,
    dumped,
    loaded,
    releasable,
    revived,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import (
    Operation,
    Real,
    Server,
    Virtual,
)

WEB = Server(4, "TCP", "10.96.0.1", 80)
DNS = Server(4, "UDP", "10.96.0.2", 53)
PIPE = Server(6, "SCTP", "fd00:10:96::3", 9)
MARKED = Server(4, mark=0x5E000001)
LIMIT = 600
HERE, THERE = ("10.128.0.1", 8080), ("10.128.0.2", 8080)
NO_ONE: frozenset[tuple[str, int]] = frozenset()
IDLE = Decision([], {}, frozenset())

Held = dict[Server, Virtual]


def holding(server: Server, *reals: Real) -> Held:
    return {server: Virtual("rr", 0, reals)}


def weight_0(server: Server, where: tuple[str, int]) -> Operation:
    return Operation("edit", server, real=Real(*where, 0))


def removal(server: Server, where: tuple[str, int]) -> Operation:
    return Operation("delete", server, real=Real(*where, 0))


def test_what_is_wanted_is_left_alone() -> None:
    held = holding(WEB, Real(*HERE, 3, 5, 7), Real(*THERE))
    assert decide(held, {WEB: {HERE, THERE}}, {}, 100, LIMIT) == IDLE


@pytest.mark.parametrize("connections", [0, 1])
def test_one_that_leaves_takes_no_new_connections_first(connections: int) -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 1, connections))
    expected = Decision([weight_0(WEB, THERE)], {Draining(WEB, *THERE): 100}, frozenset())
    assert decide(held, {WEB: {HERE}}, {}, 100, LIMIT) == expected


@pytest.mark.parametrize(("active", "inactive"), [(1, 0), (0, 1)])
def test_one_with_connections_stays_until_the_limit(active: int, inactive: int) -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 0, active, inactive))
    since = {Draining(WEB, *THERE): 100}
    assert decide(held, {WEB: {HERE}}, since, 699, LIMIT) == Decision([], since, frozenset())
    assert decide(held, {WEB: {HERE}}, since, 700, LIMIT) == Decision([removal(WEB, THERE)], {}, frozenset())


def test_one_without_connections_goes() -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 0))
    since = {Draining(WEB, *THERE): 100}
    assert decide(held, {WEB: {HERE}}, since, 101, LIMIT) == Decision([removal(WEB, THERE)], {}, frozenset())


def test_the_time_of_one_that_nobody_remembers_begins_now() -> None:
    held = holding(WEB, Real(*THERE, 0, 1))
    unknown = Decision([], {Draining(WEB, *THERE): 5000}, frozenset())
    assert decide(held, {WEB: {HERE}}, {}, 5000, LIMIT) == unknown
    assert decide(held, {WEB: {HERE}}, {Draining(WEB, *THERE): 9999}, 5000, LIMIT) == unknown


@pytest.mark.parametrize("server", [DNS, PIPE])
def test_udp_and_sctp_are_not_waited_for(server: Server) -> None:
    held = holding(server, Real(*HERE, 1, 9, 9), Real(*THERE, 1, 9, 9))
    assert decide(held, {server: {HERE}}, {}, 100, LIMIT).operations == [removal(server, THERE)]
    assert decide(held, {}, {}, 100, LIMIT) == Decision([Operation("delete", server)], {}, frozenset())


def test_the_protocol_of_a_mark_is_told() -> None:
    held = holding(MARKED, Real(*THERE, 1, 0, 1))
    assert decide(held, {MARKED: NO_ONE}, {}, 100, LIMIT).operations == [weight_0(MARKED, THERE)]
    assert decide(held, {MARKED: NO_ONE}, {}, 100, LIMIT, {MARKED}).operations == [removal(MARKED, THERE)]


def test_no_limit_waits_for_nobody() -> None:
    held = holding(WEB, Real(*HERE, 1, 9), Real(*THERE, 1, 9))
    assert decide(held, {WEB: {HERE}}, {}, 100, 0).operations == [removal(WEB, THERE)]
    assert decide(held, {}, {}, 100, 0).operations == [Operation("delete", WEB)]


def test_a_virtual_server_goes_with_its_last_connection() -> None:
    held = holding(WEB, Real(*HERE, 1, 1), Real(*THERE))
    first = decide(held, {}, {}, 100, LIMIT)
    assert first.operations == [weight_0(WEB, HERE), weight_0(WEB, THERE)]
    assert first.staying == {WEB}
    held = holding(WEB, Real(*HERE, 0, 1), Real(*THERE, 0))
    second = decide(held, {}, first.since, 200, LIMIT)
    assert second == Decision([removal(WEB, THERE)], {Draining(WEB, *HERE): 100}, frozenset([WEB]))
    third = decide(holding(WEB, Real(*HERE, 0)), {}, second.since, 300, LIMIT)
    assert third == Decision([Operation("delete", WEB)], {}, frozenset())


def test_what_comes_back_is_changed_and_not_made_anew() -> None:
    held = holding(WEB, Real(*HERE, 0, 3))
    operations = [
        Operation("add", WEB, "rr"),
        Operation("add", WEB, real=Real(*HERE)),
        Operation("add", WEB, real=Real(*THERE)),
        Operation("add", DNS, "rr"),
        Operation("add", DNS, real=Real(*HERE)),
        Operation("delete", WEB, real=Real(*HERE)),
    ]
    verbs = [one.verb for one in revived(operations, held)]
    assert verbs == ["edit", "edit", "add", "add", "add", "delete"]
    assert [one._replace(verb="") for one in revived(operations, held)] == [one._replace(verb="") for one in operations]


def test_addresses_go_when_nothing_drains_there() -> None:
    addresses = ["fd00:10:96::3", "10.96.0.9", "10.96.0.1"]
    assert releasable(addresses, frozenset()) == sorted(addresses)
    assert releasable(addresses, {WEB}) == ["10.96.0.9", "fd00:10:96::3"]
    assert releasable(addresses, {MARKED}) == ["fd00:10:96::3"]


SERVERS = st.sampled_from([WEB, DNS, PIPE, MARKED])
PLACES = st.sampled_from([HERE, THERE, ("10.128.0.3", 8080), ("fd80::1", 9)])
REALS = st.lists(
    st.builds(lambda place, *numbers: Real(*place, *numbers), PLACES, *[st.integers(0, 3)] * 3),
    max_size=4,
    unique_by=lambda real: real[:2],
)
HELD = st.dictionaries(SERVERS, st.builds(Virtual, st.just("rr"), st.just(0), REALS.map(tuple)))
WANTED = st.dictionaries(SERVERS, st.frozensets(PLACES))


def after(held: Held, operations: list[Operation]) -> Held:
    """The kernel after the operations; refuses what it would refuse."""
    new = dict(held)
    for one in operations:
        if one.real is None:
            assert one.verb == "delete"
            del new[one.server]
            continue
        reals = {real[:2]: real for real in new[one.server].reals}
        old = reals.pop(one.real[:2])
        if one.verb == "edit":
            reals[one.real[:2]] = old._replace(weight=one.real.weight)
        new[one.server] = new[one.server]._replace(reals=tuple(reals.values()))
    return new


@given(HELD, WANTED, st.integers(0, 2), st.integers(0, 5), st.data())
def test_a_decision_holds_and_ends(held: Held, wanted: Any, limit: int, now: int, data: st.DataObject) -> None:
    keys = [Draining(server, *real[:2]) for server, virtual in held.items() for real in virtual.reals]
    since = data.draw(st.dictionaries(st.sampled_from(keys), st.integers(0, 9))) if keys else {}
    first = decide(held, wanted, since, now, limit)
    left = after(held, first.operations)
    # Wanted ones are untouched, and no connection of TCP is cut before the limit.
    for server, virtual in held.items():
        for real in virtual.reals:
            if real[:2] in wanted.get(server, ()):
                assert real in left[server].reals
            elif limit and server in (WEB, MARKED) and (real.active or real.inactive or real.weight):
                remembered = since.get(Draining(server, *real[:2]), now)
                if real.weight or now - remembered < limit:
                    assert real._replace(weight=0) in left[server].reals
    # What is remembered is what drains, and nothing else does.
    draining = {
        Draining(server, *real[:2])
        for server, virtual in left.items()
        for real in virtual.reals
        if real[:2] not in wanted.get(server, ())
    }
    assert set(first.since) == draining
    assert first.staying == {server for server in left if server not in wanted}
    # At once again, only those that have no connections go; after that there is nothing to do, and nothing to write.
    second = decide(left, wanted, first.since, now, limit)
    assert all(one.verb == "delete" for one in second.operations)
    left = after(left, second.operations)
    assert decide(left, wanted, second.since, now, limit) == Decision([], second.since, second.staying)
    # In the end nothing is left that nobody wants.
    late = decide(left, wanted, second.since, now + limit, limit)
    left = after(left, late.operations)
    assert set(left) <= set(wanted)
    assert not [real for server, virtual in left.items() for real in virtual.reals if real[:2] not in wanted[server]]
    assert (late.since, late.staying) == ({}, frozenset())


@given(HELD, WANTED, st.randoms())
def test_the_order_of_what_is_read_means_nothing(held: Held, wanted: Any, random: Any) -> None:
    shuffled = list(held.items())
    random.shuffle(shuffled)
    mixed = {server: virtual._replace(reals=virtual.reals[::-1]) for server, virtual in shuffled}
    assert decide(mixed, wanted, {}, 1, 2) == decide(held, wanted, {}, 1, 2)


@given(st.dictionaries(st.builds(lambda server, place: Draining(server, *place), SERVERS, PLACES), st.integers(0)))
def test_what_drains_survives_a_file(since: dict[Draining, int]) -> None:
    assert loaded(json.loads(json.dumps(dumped(since)))) == since


@pytest.mark.parametrize("broken", [None, 7, {}, [[]], [7], [[4, "TCP", "10.96.0.1", 80, 0, "10.128.0.1", 8080, "1"]]])
def test_what_is_broken_counts_as_nothing(broken: object) -> None:
    assert loaded(broken) == {}

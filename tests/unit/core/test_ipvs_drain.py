# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who drains, who goes and who stays in the ipvs mode, for any state of the kernel."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_drain import (
    Limit,
    drain_name,
    graceful,
    lingering,
    needed_by,
    retiring,
    with_leftovers,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import Real, Server, Virtual
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes, Program

WEB, DNS = Server(4, "TCP", "10.96.0.1", 80), Server(4, "UDP", "10.96.0.2", 53)
PIPE, MARKED = Server(6, "SCTP", "fd00:10:96::3", 9), Server(4, mark=0x5E000001)
NAMES = {
    WEB: "4/server/any/tcp/10.96.0.1/80",
    DNS: "4/server/any/udp/10.96.0.2/53",
    PIPE: "6/server/any/sctp/fd00:10:96::3/9",
    MARKED: "4/server/stray/tcp/-/0x5e000001",
}
ADDRESSES = {server: f"{server.family}/address/{server.address}" for server in NAMES if server.address}
HERE, THERE = ("10.128.0.1", 8080), ("10.128.0.2", 8080)
HOUR = 3600

Held = dict[Server, Virtual]


def real_name(server: Server, place: tuple[str, int]) -> str:
    return f"{NAMES[server].replace('/server/', '/real/')}/{place[0]}/{place[1]}"


def since_name(server: Server, place: tuple[str, int]) -> str:
    return drain_name(server, Real(*place))


def holding(server: Server, *reals: Real) -> Held:
    return {server: Virtual("rr", 0, reals)}


def program(held: Held) -> Program:
    """The containers of servers, real servers and addresses."""
    made: Program = {}
    for server, virtual in held.items():
        made[NAMES[server]] = "rr 0"
        made.update({real_name(server, real[:2]): real.weight for real in virtual.reals})
    return made


def decided(held: Held, wanted: Program, since: Program, limit: Limit, current: Program | None = None) -> Changes:
    """What is to be done to get from what is held to what is wanted."""
    current = {**program(held), **(current or {})}
    changes: Changes = {
        name: (current.get(name), wanted.get(name))
        for name in {**current, **wanted}
        if current.get(name) != wanted.get(name)
    }
    return graceful(changes, {NAMES[server]: (server, virtual) for server, virtual in held.items()}, since, limit)


def without(server: Server, place: tuple[str, int] = HERE) -> Program:
    """The virtual server is wanted with one real server only."""
    return {NAMES[server]: "rr 0", real_name(server, place): 1}


def test_what_is_wanted_is_left_alone() -> None:
    held = holding(WEB, Real(*HERE, 1, 5, 7), Real(*THERE, 1, 5))
    assert decided(held, program(held), {}, Limit(100, HOUR)) == {}


@pytest.mark.parametrize(("active", "inactive"), [(1, 0), (0, 1)])
def test_one_that_leaves_with_connections_takes_no_new_ones(active: int, inactive: int) -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 3, active, inactive))
    assert decided(held, without(WEB), {}, Limit(100, HOUR)) == {
        real_name(WEB, THERE): (3, 0),
        since_name(WEB, THERE): (None, 100),
    }


@pytest.mark.parametrize(("active", "inactive"), [(1, 0), (0, 1)])
def test_one_with_connections_stays_until_the_limit(active: int, inactive: int) -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 0, active, inactive))
    since = {since_name(WEB, THERE): 100}
    assert retiring({real_name(WEB, THERE): (0, None)}, Limit(100, HOUR)) == frozenset()
    assert decided(held, without(WEB), since, Limit(100 + HOUR - 1, HOUR)) == {}
    assert decided(held, without(WEB), since, Limit(100 + HOUR, HOUR)) == {
        real_name(WEB, THERE): (0, None),
        since_name(WEB, THERE): (100, None),
    }


def test_one_without_connections_goes_if_it_still_has_none_then() -> None:
    limit = Limit(100, HOUR)
    web = holding(WEB, Real(*HERE), Real(*THERE))
    changes = decided(web, without(WEB), {}, limit)
    assert changes == {real_name(WEB, THERE): (1, None)}
    assert retiring(changes, limit) == {real_name(WEB, THERE)}
    assert retiring(changes, Limit(100, 0)) == frozenset()
    everything = decided(web, {}, {}, limit)
    assert retiring(everything, limit) == {NAMES[WEB], real_name(WEB, HERE), real_name(WEB, THERE)}
    assert retiring(decided(holding(DNS, Real(*HERE)), {}, {}, limit), limit) == frozenset()


def test_one_that_drained_goes_without_more_ado() -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 0))
    assert decided(held, without(WEB), {since_name(WEB, THERE): 100}, Limit(101, HOUR)) == {
        real_name(WEB, THERE): (0, None),
        since_name(WEB, THERE): (100, None),
    }


@pytest.mark.parametrize("remembered", [{}, {since_name(WEB, THERE): 9999}])
def test_the_time_of_one_that_nobody_remembers_begins_now(remembered: Program) -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 0, 1))
    key = since_name(WEB, THERE)
    assert decided(held, without(WEB), remembered, Limit(5000, HOUR)) == {key: (remembered.get(key), 5000)}


@pytest.mark.parametrize("server", [DNS, PIPE])
def test_udp_and_sctp_are_not_waited_for(server: Server) -> None:
    held = holding(server, Real(*HERE, 1, 9, 9), Real(*THERE, 1, 9, 9))
    assert decided(held, without(server), {}, Limit(100, HOUR)) == {real_name(server, THERE): (1, None)}
    everything = {**program(held), ADDRESSES[server]: True}
    gone = decided(held, {}, {}, Limit(100, HOUR), {ADDRESSES[server]: True})
    assert gone == {name: (content, None) for name, content in everything.items()}


def test_no_limit_waits_for_nobody() -> None:
    held = holding(WEB, Real(*HERE, 1, 9), Real(*THERE, 0, 9))
    assert decided(held, {}, {}, Limit(100, 0)) == {name: (content, None) for name, content in program(held).items()}


def test_a_virtual_server_and_its_address_go_with_the_last_connection() -> None:
    here = {ADDRESSES[WEB]: True, "4/address/10.96.0.9": True, "6/address/fd00:10:96::3": True}
    others = {"4/address/10.96.0.9": (True, None), "6/address/fd00:10:96::3": (True, None)}
    held = holding(WEB, Real(*HERE, 1, 1), Real(*THERE))
    assert decided(held, {}, {}, Limit(100, HOUR), here) == {
        real_name(WEB, HERE): (1, 0),
        since_name(WEB, HERE): (None, 100),
        real_name(WEB, THERE): (1, None),
        **others,
    }
    held = holding(WEB, Real(*HERE, 0, 1), Real(*THERE, 0))
    since = {since_name(WEB, place): 100 for place in (HERE, THERE)}
    assert decided(held, {}, since, Limit(200, HOUR), here) == {
        real_name(WEB, THERE): (0, None),
        since_name(WEB, THERE): (100, None),
        **others,
    }
    last = decided(holding(WEB, Real(*HERE, 0)), {}, {since_name(WEB, HERE): 100}, Limit(300, HOUR), here)
    assert last[NAMES[WEB]] == ("rr 0", None)
    assert last[ADDRESSES[WEB]] == (True, None)


def test_a_virtual_server_that_only_drains_remembers_no_client() -> None:
    held = {WEB: Virtual("wlc", 600, (Real(*HERE, 1, 2), Real(*THERE)))}
    changes = decided(held, {}, {}, Limit(100, HOUR), {NAMES[WEB]: "wlc 600"})
    assert changes == {
        NAMES[WEB]: ("wlc 600", "wlc 0"),
        real_name(WEB, HERE): (1, 0),
        real_name(WEB, THERE): (1, None),
        since_name(WEB, HERE): (None, 100),
    }
    held = {WEB: Virtual("wlc", 0, (Real(*HERE, 0, 2),))}
    since = {since_name(WEB, HERE): 100}
    assert decided(held, {}, since, Limit(200, HOUR), {NAMES[WEB]: "wlc 0"}) == {}


def test_a_mark_keeps_the_addresses_of_its_family() -> None:
    here = {ADDRESSES[WEB]: True, ADDRESSES[PIPE]: True}
    held = holding(MARKED, Real(*HERE, 0, 1))
    since = {since_name(MARKED, HERE): 100}
    assert decided(held, {}, since, Limit(200, HOUR), here) == {ADDRESSES[PIPE]: (True, None)}


@pytest.mark.parametrize("server", [WEB, MARKED])
def test_what_refuses_stays_with_a_virtual_server_and_what_leads_to_it_goes(server: Server) -> None:
    with_it = ["4/sets/VIP", "4/sets/MARK", "4/sets/INT", "4/chain/filter/INPUT"]
    with_it += ["4/chain/filter/SERVICENET-IPVS-INPUT", NAMES[server], ADDRESSES[WEB], "4/device/servicenet0"]
    without_it = ["4/set/INT/10.96.0.1,tcp:80", "4/chain/mangle/PREROUTING", "4/chain/nat/POSTROUTING"]
    without_it += [ADDRESSES[PIPE], NAMES[PIPE], "6/sets/VIP", "6/chain/filter/INPUT"]
    assert [name for name in with_it + without_it if needed_by(name, [NAMES[server]])] == with_it
    assert not [name for name in with_it + without_it if needed_by(name, [])]


def test_one_that_comes_back_is_forgotten() -> None:
    held = holding(WEB, Real(*HERE), Real(*THERE, 0, 3))
    wanted = program(holding(WEB, Real(*HERE), Real(*THERE)))
    assert decided(held, wanted, {since_name(WEB, THERE): 100}, Limit(200, HOUR)) == {
        real_name(WEB, THERE): (0, 1),
        since_name(WEB, THERE): (100, None),
    }


def test_what_lingers_is_told_from_what_is_wanted() -> None:
    held = {**holding(WEB, Real(*HERE), Real(*THERE, 0, 1)), **holding(MARKED, Real(*HERE, 0, 1))}
    everything = {**program(held), ADDRESSES[WEB]: True}
    since = {since_name(WEB, THERE): 100, since_name(MARKED, HERE): 100}
    assert lingering({**everything, **since}) == {
        real_name(WEB, THERE): 0,
        NAMES[MARKED]: "rr 0",
        real_name(MARKED, HERE): 0,
        ADDRESSES[WEB]: True,
        **since,
    }
    assert lingering(program(holding(WEB, Real(*HERE)))) == {}


def test_a_pass_that_does_not_look_at_what_drains_takes_it_away_as_well() -> None:
    entry, other = "4/set/INT/10.96.0.9,tcp:80", "4/address/10.96.0.9"
    held = {**holding(WEB, Real(*HERE), Real(*THERE, 0)), **holding(MARKED, Real(*HERE, 0))}
    node = {**program(held), ADDRESSES[WEB]: True, "4/set/INT/10.96.0.1,tcp:80": "", entry: "", other: True}
    assert with_leftovers({}, node) == {
        real_name(WEB, THERE): (0, None),
        NAMES[MARKED]: ("rr 0", None),
        real_name(MARKED, HERE): (0, None),
    }
    # Without an entry of a set, nobody wants an address; and what comes back stays.
    changes: Changes = {entry: ("", None), real_name(WEB, THERE): (0, 1)}
    assert with_leftovers(changes, node) == {
        **changes,
        NAMES[MARKED]: ("rr 0", None),
        real_name(MARKED, HERE): (0, None),
        other: (True, None),
    }
    back: Changes = {real_name(MARKED, THERE): (None, 1), real_name(WEB, THERE): (0, 1)}
    assert with_leftovers(back, node) == {**back, real_name(MARKED, HERE): (0, None)}
    assert with_leftovers({}, {**program(holding(WEB, Real(*HERE))), other: True}) == {}


PLACES = st.sampled_from([HERE, THERE, ("10.128.0.3", 8080), ("fd80::1", 9)])
REALS = st.lists(
    st.builds(lambda place, *numbers: Real(*place, *numbers), PLACES, *[st.integers(0, 3)] * 3),
    max_size=4,
    unique_by=lambda real: real[:2],
)
HELD = st.dictionaries(st.sampled_from([*NAMES]), st.builds(Virtual, st.just("rr"), st.just(0), REALS.map(tuple)))
WANTED = st.dictionaries(st.sampled_from([*NAMES]), st.frozensets(PLACES))


class Node:
    """What a node holds, and what is done to it."""

    def __init__(self, held: Held, wanted: dict[Server, Any], since: Program) -> None:
        self.held, self.since = held, since
        self.addresses: Program = {ADDRESSES[server]: True for server in held if server in ADDRESSES}
        self.wanted: Program = {}
        for server, places in wanted.items():
            self.wanted[NAMES[server]] = "rr 0"
            self.wanted.update({real_name(server, place): 1 for place in places})
            if server in ADDRESSES:
                self.wanted[ADDRESSES[server]] = True

    def decide(self, limit: Limit) -> Changes:
        return decided(self.held, self.wanted, self.since, limit, self.addresses)

    def do(self, changes: Changes) -> None:
        """A virtual server never goes before its real servers, and none has real servers without being there."""
        connections = {
            real_name(server, real[:2]): real[3:] for server, virtual in self.held.items() for real in virtual.reals
        }
        everything = {**program(self.held), **self.since, **self.addresses}
        for name, (old, new) in changes.items():
            assert everything.get(name) == old
            everything[name] = new
        everything = {name: content for name, content in everything.items() if content is not None}
        self.since = {name: content for name, content in everything.items() if "/drain/" in name}
        self.addresses = {name: content for name, content in everything.items() if "/address/" in name}
        self.held = {server: Virtual("rr", 0) for server, name in NAMES.items() if name in everything}
        for name, content in everything.items():
            if "/real/" in name:
                (server,) = (one for one, own in NAMES.items() if name.startswith(own.replace("/server/", "/real/")))
                address, port = name.rsplit("/", 2)[1:]
                real = Real(address, int(port), content, *connections.get(name, (0, 0)))
                self.held[server] = self.held[server]._replace(reals=(*self.held[server].reals, real))

    def real(self, server: Server, place: tuple[str, int]) -> Real | None:
        virtual = self.held.get(server)
        return next((real for real in virtual.reals if real[:2] == place), None) if virtual else None


@given(HELD, WANTED, st.integers(0, 2), st.integers(0, 5), st.data())
def test_a_decision_holds_and_ends(held: Held, wanted: Any, seconds: int, time: int, data: st.DataObject) -> None:
    keys = [drain_name(server, real) for server, virtual in held.items() for real in virtual.reals]
    since = data.draw(st.dictionaries(st.sampled_from([*keys, since_name(WEB, ("10.128.0.9", 1))]), st.integers(0, 9)))
    node = Node(held, wanted, since)
    node.do(node.decide(Limit(time, seconds)))
    for server, virtual in held.items():
        for real in virtual.reals:
            left = node.real(server, real[:2])
            begin = min(since.get(drain_name(server, real), time), time)
            if real[:2] in wanted.get(server, ()):
                assert left == real._replace(weight=1)
            elif server not in (WEB, MARKED) or not seconds:
                assert left is None
            elif real.active + real.inactive and (real.weight or time - begin < seconds):
                assert left == real._replace(weight=0)
                assert server.family == 6 or server not in ADDRESSES or ADDRESSES[server] in node.addresses
            else:
                assert left is None
    # What is remembered is what drains, and nothing else.
    zero = {drain_name(server, real) for server, found in node.held.items() for real in found.reals if not real.weight}
    assert set(node.since) == zero
    # At once again there is nothing to do.
    assert node.decide(Limit(time, seconds)) == {}
    # In the end nothing is left but what is wanted.
    node.do(node.decide(Limit(time + seconds, seconds)))
    assert {**program(node.held), **node.addresses} == node.wanted
    assert node.since == {}

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Transactions of the nftables mode, run on a model of nftables that refuses what the kernel refuses.

The model holds tables, chains and elements. It is read back through the listing that nft would print.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import nftables_changes as subject
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import nftables_listing, passes
from ansible_collections.kubenode.servicenet.plugins.module_utils._core import text_nftables as text
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables import NftablesCompiler
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.nftables_changes import Forget, Remember
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes, Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.resolve import NodeView
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Detector, Settings
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

from . import clusters

VIEW = NodeView("node-a", "z1", ("198.18.1.1",))
COMPILER = NftablesCompiler(Settings(VIEW, Detector(("10.128.0.0/9",))))
COMMAND = re.compile(r"(add|delete|flush) (table|map|set|chain|rule|element) (ip6?) servicenet ?(\S*) ?(.*)")


class Refused(Exception):
    """What nft would answer with an error."""


class Table:
    """One table of the model."""

    def __init__(self, comment: str) -> None:
        self.comment = comment
        self.collections: dict[str, dict[str, str]] = {}
        self.chains: dict[str, tuple[str, list[str]]] = {}


class Model:
    """nftables as far as our transactions use it."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    def commit(self, transaction: str) -> None:
        """All of it or nothing."""
        before = copy.deepcopy(self.tables)
        try:
            lines = iter(transaction.splitlines())
            for line in lines:
                if not line.startswith("#"):
                    self._run(line, lines)
            self._check_references()
        except Refused:
            self.tables = before
            raise
        for remember in subject.deeds(transaction)[0]:
            chain = self.tables[text.ip(remember.family)].chains[f"learn_{remember.seconds}"]
            chain[1][:] = [f"update @affinity {{ ip saddr timeout {remember.seconds}s : ip daddr }}"]

    def _run(self, line: str, lines: Any) -> None:
        match = COMMAND.match(line)
        assert match is not None, line
        verb, kind, family, name, rest = match.groups()
        if kind == "table":
            if verb == "add":
                comment = re.search(r'comment "([^"]*)"', line)
                self.tables.setdefault(family, Table(comment.group(1) if comment else ""))
            elif self.tables.pop(family, None) is None:
                raise Refused(line)
            return
        table = self.tables.get(family)
        if table is None:
            raise Refused(line)
        if kind in ("map", "set") and verb == "delete":
            del table.collections[name]
        elif kind in ("map", "set"):
            table.collections.setdefault(name, {})
        elif kind == "chain" and verb == "add":
            table.chains.setdefault(name, (rest, []))
        elif kind == "element":
            for element in iter(lambda: next(lines), "}"):
                self._element(table, verb, name, element.rstrip(","))
        elif name not in table.chains:
            raise Refused(line)
        elif kind == "rule":
            table.chains[name][1].append(rest)
        elif verb == "flush":
            table.chains[name][1].clear()
        else:
            del table.chains[name]

    @staticmethod
    def _element(table: Table, verb: str, name: str, element: str) -> None:
        if name not in table.collections:
            raise Refused(f"no {name}")
        held, (key, _colon, value) = table.collections[name], element.partition(" : ")
        if verb == "delete":
            if held.pop(key, None) is None:
                raise Refused(f"{name} has no {element}")
        elif held.setdefault(key, value) != value:
            raise Refused(f"{name} has another {element}")

    def _check_references(self) -> None:
        for table in self.tables.values():
            for held in table.collections.values():
                for value in held.values():
                    if value.startswith("goto ") and value[5:] not in table.chains:
                        raise Refused(f"no chain {value[5:]}")
            for _hook, rules in table.chains.values():
                for name in (found for rule in rules for found in re.findall(r"@(\w+)", rule)):
                    if name not in table.collections:
                        raise Refused(f"no {name}")
                if "jump recall" in rules and "recall" not in table.chains:
                    raise Refused("no recall")

    def listing(self, family: int) -> str | None:
        """What nft lists."""
        table = self.tables.get(text.ip(family))
        if table is None:
            return None
        lines = [f"table {text.table(family)} {{", f'\tcomment "{table.comment}"']
        for name, held in table.collections.items():
            lines += [f"\t{'map' if text.COLLECTIONS[name].data else 'set'} {name} {{", "\t\ttype something"]
            if held:
                texts = ",\n".join(f"{key} : {value}" if value else key for key, value in held.items())
                lines += ["\t\telements = { " + texts + " }"]
            lines += ["\t}", ""]
        for name, (hook, rules) in table.chains.items():
            policy = [f"\t\t{hook.strip('{} ')} policy accept;"] if hook else []
            lines += [f"\tchain {name} {{", *policy, *(f"\t\t{rule}" for rule in rules), "\t}", ""]
        return "\n".join([*lines, "}", ""])

    def read(self, compiler: NftablesCompiler = COMPILER) -> Program:
        """Our containers in it."""
        found: Program = {}
        for family in (4, 6):
            listing = self.listing(family)
            if listing is not None:
                found.update(nftables_listing.program(listing, family, compiler))
        return found

    def gaps(self) -> list[str]:
        """Indices that a balancing chain may pick and that no endpoint has."""
        found = []
        for table in self.tables.values():
            for kind in ("service", "nodeport", "outside_service", "outside_nodeport"):
                for key, verdict in table.collections.get(kind, {}).items():
                    if verdict.startswith("goto "):
                        found += self._missing(table, kind, key, int(verdict.rpartition("_")[2]))
        return found

    def torn(self, before: dict[str, Table]) -> list[str]:
        """Indices that a packet under way may pick by what it looked up ``before``, and that no endpoint has any more,
        of frontends that still serve somebody: such a connection would be lost."""
        found = []
        for family, table in before.items():
            now = self.tables.get(family, Table(""))
            for kind in ("service", "nodeport", "outside_service", "outside_nodeport"):
                for key, verdict in table.collections.get(kind, {}).items():
                    ways = {kind, kind.replace("outside_", "")}
                    served = any(now.collections.get(way, {}).get(key, "").startswith("goto ") for way in ways)
                    if served and verdict.startswith("goto "):
                        found += self._missing(now, kind, key, int(verdict.rpartition("_")[2]))
        return found

    def lacking(self, family: int, chains: set[str]) -> set[str]:
        """Those that are not there."""
        table = self.tables.get(text.ip(family))
        return chains - set(table.chains if table else ())

    def unready(self, before: dict[str, Table]) -> list[str]:
        """Chains that a new element leads to, and that had no rules ``before``, in a table that packets go through: one
        under way that looks the element up now would leave the chain as it came."""
        found = []
        for family, table in before.items():
            now = self.tables.get(family, Table(""))
            hooked = any(hook for hook, _rules in table.chains.values()) and now.comment == table.comment
            for kind in ("service", "nodeport", "outside_service", "outside_nodeport") if hooked else ():
                for key, verdict in now.collections.get(kind, {}).items():
                    _before, leads, name = verdict.rpartition("goto ")
                    known = table.collections.get(kind, {}).get(key) == verdict or table.chains.get(name, ("", []))[1]
                    if leads and not known:
                        found.append(name)
        return found

    @staticmethod
    def _missing(table: Table, kind: str, key: str, count: int) -> list[str]:
        *address, number, port = key.split(" . ")
        protocol = {"6": "tcp", "17": "udp", "132": "sctp"}[number]
        endpoints = table.collections[
            kind.replace("service", "endpoint").replace("port", "port_endpoint") + f"_{protocol}"
        ]
        indices = [" . ".join([*address, port, str(index)]) for index in range(count)]
        return [index for index in indices if index not in endpoints]


def wanted(objects: list[dict[str, Any]], compiler: NftablesCompiler = COMPILER) -> Program:
    return {**passes.full(build_snapshot(objects), VIEW, compiler).new, **compiler.frame()}


def difference(old: Program, new: Program) -> Changes:
    return {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}


def nothing_lacks(_family: int, _chains: set[str]) -> set[str]:
    return set()


def apply(model: Model, target: Program, compiler: NftablesCompiler = COMPILER) -> None:
    for transaction in subject.transactions(compiler, difference(model.read(compiler), target), model.lacking):
        if not subject.deeds(transaction.text)[1]:
            before = copy.deepcopy(model.tables)
            model.commit(transaction.text)
            assert model.gaps() == []
            assert model.torn(before) == []
            assert model.unready(before) == []


@settings(max_examples=20)
@given(data=st.data())
def test_transactions_lead_from_any_cluster_to_any_other(data: st.DataObject) -> None:
    model = Model()
    for _step in range(3):
        target = wanted(data.draw(clusters.clusters()))
        apply(model, target)
        assert model.read() == target
    assert subject.transactions(COMPILER, difference(model.read(), target), model.lacking) == []


@settings(max_examples=20)
@given(before=clusters.clusters(), after=clusters.clusters())
def test_what_was_committed_can_be_taken_back(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    model = Model()
    apply(model, wanted(before))
    held = model.read()
    made = subject.transactions(COMPILER, difference(held, wanted(after)), model.lacking)
    made = [transaction for transaction in made if not subject.deeds(transaction.text)[1]]
    for transaction in made:
        model.commit(transaction.text)
    for transaction in reversed(made):
        model.commit(transaction.undo)
        assert model.gaps() == []
    assert model.read() == held


def service(endpoints: int, affinity: str = "None") -> list[dict[str, Any]]:
    ports = [{"name": "http", "port": 80}]
    return [
        {
            "kind": "Service",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIPs": ["10.96.0.1"], "ports": ports, "sessionAffinity": affinity},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "web-0", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [f"10.128.0.{i + 1}"]} for i in range(endpoints)],
        },
    ]


def test_shrinking_deletes_endpoints_only_when_nothing_points_at_them() -> None:
    changes = difference(wanted(service(3)), wanted(service(1)))
    first, second = subject.transactions(COMPILER, changes, nothing_lacks)
    assert "delete element ip servicenet service {\n10.96.0.1 . 6 . 80,\n}" in first.text
    assert "endpoint_tcp {\n10.96.0.1" not in first.text
    assert second.text == "delete element ip servicenet endpoint_tcp {\n10.96.0.1 . 80 . 1,\n10.96.0.1 . 80 . 2,\n}\n"


def test_endpoints_for_the_outside_wait_as_long_as_others_serve_it() -> None:
    own, common = service(1), service(1)
    for made, policy in ((own, "Local"), (common, "Cluster")):
        made[0]["spec"] |= {"externalIPs": ["198.18.0.9"], "externalTrafficPolicy": policy, "type": "LoadBalancer"}
        made[1]["endpoints"][0]["nodeName"] = VIEW.name
    first, second = subject.transactions(COMPILER, difference(wanted(own), wanted(common)), nothing_lacks)
    assert "delete element ip servicenet outside_service {" in first.text
    assert second.text == "delete element ip servicenet outside_endpoint_tcp {\n198.18.0.9 . 80 . 0,\n}\n"


@pytest.mark.parametrize("left", [[], service(0)], ids=["the Service goes", "its last endpoint goes"])
def test_what_serves_nobody_any_more_goes_with_its_endpoints_at_once(left: list[dict[str, Any]]) -> None:
    before = wanted(service(3))
    (only,) = subject.transactions(COMPILER, difference(before, wanted(left)), nothing_lacks)
    model = Model()
    apply(model, before)
    model.commit(only.text)
    assert model.read() == wanted(left)
    model.commit(only.undo)
    assert model.read() == before


def test_a_first_program_that_is_too_big_is_loaded_in_parts_and_hooked_in_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MOST_ELEMENTS", 100)
    target = wanted(service(250, "ClientIP"))
    made = subject.transactions(COMPILER, difference({}, target), nothing_lacks)
    model = Model()
    for transaction in made:
        assert not any(hook for table in model.tables.values() for hook, _rules in table.chains.values())
        model.commit(transaction.text)
    assert len(made) > 5
    assert model.read() == target
    for transaction in reversed(made):
        model.commit(transaction.undo)
    assert model.tables == {}


def test_a_change_sends_only_what_differs() -> None:
    (only,) = subject.transactions(COMPILER, difference(wanted(service(250)), wanted(service(251))), nothing_lacks)
    # The element that leads to them, and the endpoint that comes: in string order the last of the addresses.
    assert len([line for line in only.text.splitlines() if line.endswith(",")]) < 330
    assert "prerouting" not in only.text


def test_a_chain_is_made_before_an_element_leads_to_it() -> None:
    changes = difference(wanted(service(1)), wanted(service(2)))
    first, second = subject.transactions(COMPILER, changes, lambda family, chains: chains if family == 4 else set())
    assert "add rule ip servicenet internal_2 " in first.text
    assert "element" not in first.text
    assert "goto internal_2" in second.text
    assert "internal_2 {" not in second.text
    # What was damaged there is repaired where it is.
    damaged = {**changes, "4/chain/internal_2": ((), None)}
    (only,) = subject.transactions(COMPILER, damaged, nothing_lacks)
    assert "add rule ip servicenet internal_2 " in only.text


def test_a_sticky_service_that_loses_an_endpoint_forgets_its_clients() -> None:
    before, after = wanted(service(2, "ClientIP")), wanted(service(1, "ClientIP"))
    *_others, last = subject.transactions(COMPILER, difference(before, after), nothing_lacks)
    assert subject.deeds(last.text) == ([], [Forget(4, "10.96.0.1 . 6 . 80", "10.128.0.2 . 8080")])


def test_what_remembers_is_there_before_a_service_needs_it() -> None:
    changes = difference(wanted(service(2)), wanted(service(2, "ClientIP")))
    first, second = subject.transactions(COMPILER, changes, nothing_lacks)
    assert subject.deeds(first.text)[0] == [Remember(4, 10800)]
    assert "goto learn_10800" in second.text


# ------------------------------------------------------------------------------------------------------------ drift


@pytest.fixture(name="model")
def _model() -> Model:
    model = Model()
    apply(model, wanted(service(3, "ClientIP")))
    return model


def repaired(model: Model) -> bool:
    """Is it found, and as it should be after a run?"""
    target = wanted(service(3, "ClientIP"))
    differed = model.read() != target
    apply(model, target)
    return differed and model.read() == target and model.gaps() == []


@pytest.mark.parametrize(
    "command",
    [
        "delete element ip servicenet service {\n10.96.0.1 . 6 . 80,\n}",
        "add element ip servicenet service {\n10.99.0.1 . 6 . 80 : drop,\n}",
        "delete element ip servicenet endpoint_tcp {\n10.96.0.1 . 80 . 1,\n}",
        "flush chain ip servicenet internal_sticky_3",
        "flush chain ip servicenet learn_10800",
        "flush chain ip servicenet recall",
        "add rule ip servicenet prerouting counter",
        "add rule ip servicenet internal_sticky_3 accept",
        "add chain ip servicenet mine",
        "delete table ip servicenet",
        "delete table ip servicenet\nadd table ip servicenet",
    ],
)
def test_what_others_altered_is_found_and_repaired(model: Model, command: str) -> None:
    model.commit(command)
    assert repaired(model)


def test_a_rule_that_was_moved_is_drift(model: Model) -> None:
    model.tables["ip"].chains["postrouting"][1].reverse()
    assert repaired(model)


def test_a_table_of_another_version_is_made_anew(model: Model) -> None:
    model.tables["ip"].comment = "servicenet 0"
    assert model.read()["4/table/servicenet"] == "version 0"
    assert repaired(model)


def test_what_is_led_astray_while_a_table_takes_anothers_place_is_dropped_meanwhile(model: Model) -> None:
    model.tables["ip"].comment = "servicenet userspace 1"
    swap, after = subject.transactions(COMPILER, difference(model.read(), wanted(service(2))), model.lacking)
    assert "add element ip servicenet meanwhile {\n10.96.0.1 . 6 . 80,\n}" in swap.text
    for hook in ("input", "forward", "output"):
        assert f"add chain ip servicenet meanwhile_{hook} {{ type filter hook {hook} priority -1; }}" in swap.text
    model.commit(swap.text)
    model.commit(after.text)
    assert not [name for name in model.tables["ip"].chains if "meanwhile" in name]
    assert set(model.tables["ip"].collections) == set(text.COLLECTIONS)


def test_settings_change_chains_and_no_elements(model: Model) -> None:
    other = NftablesCompiler(Settings(VIEW, Detector(("10.128.0.0/9",)), masquerade_bit=3))
    target = wanted(service(3, "ClientIP"), other)
    changes = difference(model.read(other), target)
    # The balancing chain is not as it should be either, and it is no container that anybody wants.
    assert {name for name, (_old, new) in changes.items() if new is None} == {"4/chain/internal_sticky_3"}
    assert not [name for name in changes if "/chain/" not in name]
    apply(model, target, other)
    assert model.read(other) == target


def test_a_family_that_is_no_longer_served_goes(model: Model) -> None:
    other = NftablesCompiler(Settings(VIEW._replace(families=(6,))))
    apply(model, other.frame(), other)
    assert set(model.tables) == {"ip6"}


# ---------------------------------------------------------------------------------------------------------- listings

MEMORY = """table ip servicenet {
\tmap affinity {
\t\ttype ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
\t\tsize 1048576
\t\tflags dynamic,timeout
\t\ttimeout 86400s
\t\telements = { 198.18.0.9 . 10.96.0.1 . 6 . 80 timeout 600s expires 599s996ms : 10.128.0.1 . 8080,
\t\t\t\t198.18.0.9 . 10.96.0.2 . 6 . 80 timeout 600s expires 9s : 10.128.0.1 . 8080,
\t\t\t\t198.18.0.7 . 198.18.1.1 . 6 . 30001 timeout 600s expires 9s : 10.128.0.2 . 8080 }
\t}
}
"""


def test_whom_to_forget() -> None:
    first = Forget(4, "10.96.0.1 . 6 . 80", "10.128.0.1 . 8080")
    second = Forget(4, "6 . 30001", "10.128.0.2 . 8080")
    found = nftables_listing.remembered(MEMORY, 4, [first, second, Forget(4, "10.96.0.2 . 6 . 80", "10.128.0.9 . 80")])
    assert found == [
        ("198.18.0.9 . 10.96.0.1 . 6 . 80", "10.128.0.1 . 8080"),
        ("198.18.0.7 . 198.18.1.1 . 6 . 30001", "10.128.0.2 . 8080"),
    ]


def test_addresses_are_read_back_in_canonical_spelling() -> None:
    listing = (
        f'table ip6 servicenet {{\n\tcomment "servicenet {COMPILER.version}"\n\tset rejected {{\n'
        "\t\telements = { ::0.5.0.6 . 6 . 80, fd00::1 . 17 . 53 }\n\t}\n}\n"
    )
    found = nftables_listing.program(listing, 6, COMPILER)
    assert {name for name in found if "/rejected/" in name} == {
        "6/rejected/::5:6 . 6 . 80",
        "6/rejected/fd00::1 . 17 . 53",
    }


def test_a_hook_that_is_not_ours_is_drift(model: Model) -> None:
    model.tables["ip"].chains["output"] = (
        "{ type nat hook output priority -90; }",
        model.tables["ip"].chains["output"][1],
    )
    assert repaired(model)

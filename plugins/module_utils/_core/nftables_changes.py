# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From changed containers to transactions for nft: only the elements that differ.

A packet that is under way when a transaction commits may look up the chain before and the endpoint after it. So nothing
that an old chain can pick goes in the transaction that takes the chain's last element away, but in a later one: unless
its frontend serves nobody any more, whose last packets may as well be dropped. And it may find an endpoint's element
that leads to a chain, and no rules in it yet: so a chain is made in a transaction before.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, NamedTuple

from . import text_nftables as text
from .nftables import Chain, NftablesCompiler, learning_seconds
from .passes import Changes

Lacking = Callable[[int, "set[str]"], "set[str]"]

_LEARN = ("learn", "nodeport_learn")
_GOTO = " : goto "

# A first program with more elements than this takes several transactions.
MOST_ELEMENTS = 100_000
# One of each kind of balancing chain.
_SAMPLES = ("internal_2", "external_sticky_2", "inside_2", "outside_2", "nodeport_external_2", "nodeport_outside_2")

# What the text of a transaction says in comments, for those parts that are done without nft.
REMEMBER = "# remember "
FORGET = "# forget "


class Transaction(NamedTuple):
    """``text`` for nft and ``undo``, which takes it back; "" if there is nothing to take back."""

    title: str
    text: str
    undo: str


class Remember(NamedTuple):
    """A chain that remembers clients for so many seconds has to hold its rule."""

    family: int
    seconds: int


class Forget(NamedTuple):
    """Clients that were sent to ``backend`` ("address . port") through ``frontend`` ("address . protocol . port", or
    "protocol . port") have to be forgotten."""

    family: int
    frontend: str
    backend: str


def transactions(compiler: NftablesCompiler, changes: Changes, lacking: Lacking) -> list[Transaction]:
    """The transactions in their order: the chains that elements will lead to; all that is new or altered; what nothing
    needs any more; whom to forget.

    :param lacking: tells which of these chains our table of a family does not have yet.
    """
    halves = [_Half(compiler, family, changes, lacking) for family in (4, 6)]
    loading = [h.load() for h in halves]
    made = [
        Transaction("chains", _text(h.ahead() for h in halves), _text(h.unmade() for h in halves)),
        *(
            Transaction("services, loaded", _text([lines]), _text([h.unmade()]))
            for h, load in zip(halves, loading)
            for lines in load
        ),
        Transaction("services", _text(h.forth() for h in halves), _text(h.back() for h in halves)),
        Transaction("what no service needs", _text(h.late() for h in halves), _text(h.back_late() for h in halves)),
        Transaction("memory of session affinity", _text(h.forgotten() for h in halves), ""),
    ]
    return [transaction for transaction in made if transaction.text]


def samples(compiler: NftablesCompiler, families: Iterable[int]) -> dict[str, str]:
    """What has to be possible -> a transaction that uses every form of it, to be checked and never committed. Each has
    what those before it have, and more."""
    text_of = {"its maps and sets": "", "its chains": "", "balancing": ""}
    for family in families:
        where = text.table(family)
        # As if there were none: what another version left does not count.
        maps = [f"add table {where}", f"delete table {where}", f"add table {where}"]
        maps += [text.declaration(family, name, made) for name, made in compiler.collections.items()]
        maps += [text.declaration(family, name, made) for name, made in text.MEANWHILE.items()]
        made_chains = {**compiler.chains(family), **compiler.meanwhile(family)}
        chains = [line for name, made in made_chains.items() for line in _chain(family, name, made)]
        balancing = []
        for name in _SAMPLES:
            balancing += text.chain(family, name, "", compiler.balancing(family, name) or ())
        text_of["its maps and sets"] += _text([maps])
        text_of["its chains"] += _text([maps, chains])
        text_of["balancing"] += _text([maps, chains, balancing])
    return text_of


def _chain(family: int, name: str, made: Chain) -> list[str]:
    return text.chain(family, name, made.hook, made.rules)


def _text(parts_of_families: Iterable[list[str]]) -> str:
    return "".join(f"{line}\n" for lines in parts_of_families for line in lines)


def deeds(transaction: str) -> tuple[list[Remember], list[Forget]]:
    """What a transaction's text asks for besides what nft does."""
    remember, forget = [], []
    for line in transaction.splitlines():
        if line.startswith(REMEMBER):
            family, seconds = line[len(REMEMBER) :].split()
            remember.append(Remember(int(family), int(seconds)))
        elif line.startswith(FORGET):
            family, frontend, backend = line[len(FORGET) :].split("|")
            forget.append(Forget(int(family), frontend, backend))
    return remember, forget


class _Half:
    """The changes of one family."""

    def __init__(self, compiler: NftablesCompiler, family: int, changes: Changes, lacking: Lacking) -> None:
        self.compiler, self.family, self.lacking = compiler, family, lacking
        self.table: tuple[str | None, str | None] | None = None
        self.chains: dict[str, tuple[text.Rules | None, text.Rules | None]] = {}
        self.foreign: list[str] = []
        self.stale: list[str] = []
        self.elements: dict[str, dict[str, tuple[str | None, str | None]]] = {}
        prefix = f"{family}/"
        for name, change in changes.items():
            if not name.startswith(prefix):
                continue
            _family, kind, key = name.split("/", 2)
            if kind == "table":
                self.table = change
            elif kind == "chain":
                self.chains[key] = change
            elif kind == "affinity":
                self.stale.append(str(change[0]))
            elif kind == "foreign":
                self.foreign.append(key)
            else:
                self.elements.setdefault(kind, {})[key] = change
        # The chains that new elements lead to.
        self.destinations = self._find_destinations()
        self.gone = self.table is not None and self.table[1] is None
        self.fresh = self.table is not None and self.table[1] is not None
        # Never a table made anew: there the old one is in force until the new one is, all at once.
        self.big = (
            self.table is not None and self.table[0] is None and sum(map(len, self.elements.values())) > MOST_ELEMENTS
        )
        self.rebuilt = self.fresh and self.table is not None and self.table[0] is not None

    # ---- the parts of transactions

    def ahead(self) -> list[str]:
        """Makes the chains that new elements lead to, for a table that packets go through; and those that remember."""
        damaged = {learning_seconds(chain) for chain, (_old, new) in self.chains.items() if new is None} - {0}
        seconds = sorted({*self._learning_seconds(), *damaged})
        if self.gone or self.rebuilt:
            return []  # where the table is made anew, what remembers follows with it
        chains = [] if self.fresh else sorted(self.lacking(self.family, self._balanced()))
        if not seconds and not chains:
            return []
        return [
            *self._declarations(),
            *(f"add chain {text.table(self.family)} learn_{s}" for s in seconds),
            *(line for name in chains for line in self._made(name)),
            *(f"{REMEMBER}{self.family} {s}" for s in seconds),
        ]

    def forth(self) -> list[str]:
        """Everything new, and what is replaced; what only goes goes now, but for what ``_waits``."""
        if self.gone:
            return [f"delete table {text.table(self.family)}"]
        lines = []
        if self.rebuilt:
            lines.append(f"delete table {text.table(self.family)}")
        if self.big:
            return [*self._declarations(), *self._frame_chains()]
        own = [*self._balancing(), *self._frame_chains(), *self._swap(forth=True)]
        if not own and not self.fresh:
            return []
        lines += [*self._declarations(), *own]
        if self.rebuilt:
            lines += self._meanwhile()
            lines += [f"{REMEMBER}{self.family} {seconds}" for seconds in self._learning_seconds()]
        return lines

    def load(self) -> list[list[str]]:
        """A first program that is too big for one transaction, in several: until ``forth`` hooks it in, no packet
        meets it."""
        loads: list[list[str]] = []
        # Each can be checked without those before it.
        needed = [*self._declarations(), *self._balancing()]
        for kind, changes in self.elements.items() if self.big else ():
            add = [new for _old, new in changes.values() if new is not None]
            parts = (add[start : start + MOST_ELEMENTS] for start in range(0, len(add), MOST_ELEMENTS))
            loads += [[*needed, *text.elements("add", self.family, kind, part)] for part in parts]
        return loads

    def unmade(self) -> list[str]:
        """Takes a table that was not there away again, if it still is there."""
        where = text.table(self.family)
        return [f"add table {where}", f"delete table {where}"] if self.fresh and not self.rebuilt else []

    def back(self) -> list[str]:
        """Takes ``forth`` back. A table that was not there goes."""
        if self.gone or self.rebuilt:
            return []  # nothing is left of what was there
        if self.fresh:
            return self.unmade()
        lines = self._swap(forth=False)
        for name, (old, new) in self.chains.items():
            chain = self._frame().get(name)
            if chain is not None and old is not None and new is not None:
                lines += text.chain(self.family, name, chain.hook, old)
        return lines

    def late(self) -> list[str]:
        """Endpoints that nothing points at any more, and what is not ours in our table."""
        if self.gone:
            return []
        lines = self._no_more_meanwhile() if self.rebuilt else []
        for kind in text.ENDPOINTS:
            lines += text.elements("delete", self.family, kind, self._keys(kind, late=True))
        where = text.table(self.family)
        for chain in self.chains:
            if self.chains[chain][1] is None and not self._is_own(chain):
                lines += [f"flush chain {where} {chain}", f"delete chain {where} {chain}"]
        for what in self.foreign:
            kind, name = what.split(" ", 1)
            lines.append(f"delete {kind} {where} {name}")
        return lines

    def back_late(self) -> list[str]:
        """Puts the endpoints back that ``late`` took."""
        if self.gone:
            return []
        lines = []
        for kind in text.ENDPOINTS:
            taken = (self.elements[kind][key][0] for key in self._keys(kind, late=True))
            lines += text.elements("add", self.family, kind, [old for old in taken if old is not None])
        return lines

    def forgotten(self) -> list[str]:
        """Whom to forget: the clients of endpoints that a frontend has no more."""
        if self.gone or self.fresh:
            return []
        lines = []
        for entry in self.stale:
            key, _colon, backend = entry.partition(" : ")
            lines.append(f"{FORGET}{self.family}|{key.split(' . ', 1)[1]}|{backend}")
        for kind in _LEARN:
            for key, (old, new) in self.elements.get(kind, {}).items():
                if old is not None and new is None:
                    words = key.split(" . ")
                    lines.append(f"{FORGET}{self.family}|{' . '.join(words[:-2])}|{' . '.join(words[-2:])}")
        return lines

    # ---- the parts of those

    def _frame(self) -> dict[str, Chain]:
        return self.compiler.chains(self.family)

    def _is_own(self, chain: str) -> bool:
        return bool(learning_seconds(chain)) or self.compiler.balancing(self.family, chain) is not None

    def _find_destinations(self) -> set[str]:
        return {
            new.split(_GOTO, 1)[1]
            for kind, changes in self.elements.items()
            if self.compiler.collections[kind].data == "verdict"
            for _old, new in changes.values()
            if new is not None and _GOTO in new
        }

    def _learning_seconds(self) -> list[int]:
        """The timeouts of the chains that new elements lead to."""
        return sorted({learning_seconds(chain) for chain in self.destinations} - {0})

    def _table(self) -> str:
        return f'add table {text.table(self.family)} {{ comment "servicenet {self.compiler.mark}"; }}'

    def _declarations(self) -> list[str]:
        where = text.table(self.family)
        lines = [self._table()]
        lines += [text.declaration(self.family, name, made) for name, made in self.compiler.collections.items()]
        # Made before in most cases, but this has to stand for itself when it is checked.
        chains = ["recall", *(f"learn_{seconds}" for seconds in self._learning_seconds()), *sorted(self._balanced())]
        return lines + [f"add chain {where} {name}" for name in chains]

    def _balanced(self) -> set[str]:
        """The balancing chains that new elements lead to."""
        return {name for name in self.destinations if self.compiler.balancing(self.family, name) is not None}

    def _made(self, name: str) -> list[str]:
        rules = self.compiler.balancing(self.family, name)
        return [] if rules is None else text.chain(self.family, name, "", rules)

    def _balancing(self) -> list[str]:
        """The balancing chains of a table that no packet goes through yet, and those found damaged."""
        wanted = {name for name, (_old, new) in self.chains.items() if new is None}
        if self.fresh:
            wanted |= self.destinations
        return [line for name in sorted(wanted) for line in self._made(name)]

    def _frame_chains(self) -> list[str]:
        """The chains of the frame that differ."""
        lines: list[str] = []
        frame = self._frame()
        for name, (old, new) in self.chains.items():
            if new is not None:
                if old and old[0].startswith("hooked in as: "):
                    lines.append(f"delete chain {text.table(self.family)} {name}")
                lines += text.chain(self.family, name, frame[name].hook, new)
        return lines

    def _meanwhile(self) -> list[str]:
        """Sees to it that nothing is refused that meets neither the table of before nor this one."""
        lines: list[str] = []
        for name, kind in (("meanwhile", "service"), ("meanwhile_nodeport", "nodeport")):
            changes = {**self.elements.get(kind, {}), **self.elements.get(f"outside_{kind}", {})}
            lines.append(text.declaration(self.family, name, text.MEANWHILE[name]))
            lines += text.elements("add", self.family, name, [key for key, (_old, new) in changes.items() if new])
        for name, chain in self.compiler.meanwhile(self.family).items():
            lines += _chain(self.family, name, chain)
        return lines

    def _no_more_meanwhile(self) -> list[str]:
        where = text.table(self.family)
        lines = []
        # It can be checked before it is there.
        for name, chain in self.compiler.meanwhile(self.family).items():
            lines += [f"add chain {where} {name} {{ {chain.hook} }}", f"delete chain {where} {name}"]
        for name, made in text.MEANWHILE.items():
            lines += [text.declaration(self.family, name, made), f"delete set {where} {name}"]
        return lines

    def _swap(self, forth: bool) -> list[str]:
        """Deletes and adds elements. Endpoints that only go are left to ``late``."""
        lines: list[str] = []
        deleted: list[str] = []
        for kind in self.compiler.collections:
            changes = self.elements.get(kind, {})
            if forth:
                add = [new for _old, new in changes.values() if new is not None]
                delete = [] if self.rebuilt else self._keys(kind, late=False)
            else:
                add = [old for key, (old, _new) in changes.items() if old is not None and not self._waits(kind, key)]
                delete = [key for key, (_old, new) in changes.items() if new is not None]
            deleted += text.elements("delete", self.family, kind, delete)
            lines += text.elements("add", self.family, kind, add)
        return deleted + lines

    def _keys(self, kind: str, late: bool) -> list[str]:
        """The keys of elements to delete, in the later transaction or in the one before."""
        changes = self.elements.get(kind, {})
        return [key for key, (old, _new) in changes.items() if old is not None and self._waits(kind, key) == late]

    def _waits(self, kind: str, key: str) -> bool:
        """Is this an endpoint that only goes, and may somebody be sent to another one of its frontend meanwhile?"""
        if kind not in text.ENDPOINTS or self.elements[kind][key][1] is not None:
            return False
        before, _kind, protocol = kind.rpartition("endpoint_")
        *frontend, port, _index = key.split(" . ")
        named = " . ".join([*frontend, text.NUMBERS[protocol.upper()], port])
        serving = "nodeport" if "nodeport" in before else "service"
        # What has no endpoints of its own for the outside is served by the others.
        kinds = [serving, f"outside_{serving}"] if before.startswith("outside_") else [serving]
        changes = [self.elements.get(one, {}).get(named) for one in kinds]
        return not all(change is not None and _GOTO not in (change[1] or "") for change in changes)

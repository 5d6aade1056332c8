# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iptables-save and iptables-restore of one family, and which of the two variants of iptables a host uses.

There are two: ``legacy`` with rules of its own in the kernel, and ``nft``, which writes nftables rules. Rules of both
are in force at the same time, but each sees only its own, so ours have to go where the host's are.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import re
from typing import Iterable, NamedTuple, Sequence

from .._core.errors import OptionError, ToolError
from .addresses import has_ipv6
from .legacy_tables import LEGACY, PREFIXES, loaded_tables
from .runner import MissingInKernelError, MissingToolError, Runner, Which, checked, which

NFT = "nft"
VARIANTS = (LEGACY, NFT)

OURS = "SERVICENET"
WAIT_SECONDS = 10
# The first release whose iptables-restore knows -w; before it, two programs at once made the later one fail.
RESTORE_WAITS = (1, 6, 2)

PACKAGE_HINT = "Install the package iptables (RHEL and its kin: iptables-nft)."
# Releases that refuse a table which other programs use as well say so; later ones show and change what is theirs in it.
INCOMPATIBLE = re.compile(r"is incompatible, use 'nft' tool")
SHARED_HINT = "Another program put base chains into this nftables table: move them to a table of another name."
# What iptables-nft says on a kernel without nftables, which can hold no rules of it; the first where it has no netlink
# for packet filters at all.
NO_NFTABLES = re.compile(
    r"Failed to initialize nft: Protocol not supported|Could not fetch rule set generation id: Invalid argument"
)
UNSUPPORTED = re.compile(r"Extension (\S+) revision \d+ not supported")
VERSION = re.compile(r"v(\d+)\.(\d+)(?:\.(\d+))?(?:.*\((\S+)\))?")


class Version(NamedTuple):
    """What ``iptables -V`` says: ``number`` as (1, 8, 9) and the variant."""

    number: tuple[int, ...]
    variant: str


class Programs(NamedTuple):
    """The paths of the programs of one variant in one family."""

    main: str
    save: str
    restore: str


class SavedTable(NamedTuple):
    """A table as iptables-save shows it.

    ``chains``: each chain with its rules in order, as iptables-save writes them but without "-A CHAIN ".
    ``policies``: each chain's policy, "-" for a user chain.
    """

    chains: dict[str, tuple[str, ...]]
    policies: dict[str, str]


class Detection(NamedTuple):
    """``variant`` to use and ``reason`` for it; ``leftover`` is the other one if chains of ours are in it, else ""."""

    variant: str
    reason: str
    leftover: str


def parse_version(text: str) -> Version | None:
    """The version in the output of ``-V``, None if there is none. Releases before 1.8 name no variant: legacy."""
    match = VERSION.search(text)
    if match is None:
        return None
    number = tuple(int(part) for part in match.group(1, 2, 3) if part is not None)
    return Version(number, NFT if match.group(4) == "nf_tables" else LEGACY)


def parse_save(text: str) -> dict[str, SavedTable]:
    """The tables in the output of iptables-save (without -c)."""
    tables: dict[str, SavedTable] = {}
    rules: dict[str, list[str]] = {}
    policies: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if line.startswith("-A "):
            _append, chain, *rule = line.split(" ", 2)
            rules[chain].append(rule[0].rstrip() if rule else "")
        elif line.startswith(":"):
            chain, policy = line[1:].split(" ", 2)[:2]
            rules[chain] = []
            policies[chain] = policy
        elif line.startswith("*"):
            name, rules, policies = line[1:].strip(), {}, {}
        elif line.startswith("COMMIT"):
            tables[name] = SavedTable({chain: tuple(texts) for chain, texts in rules.items()}, policies)
    return tables


def programs(family: int, variant: str, run: Runner, find: Which = which) -> Programs | None:
    """The programs of a variant: those that carry its name, else the plain ones if they are of that variant."""
    prefix = PREFIXES[family]
    named = [find(f"{prefix}-{variant}{part}") for part in ("", "-save", "-restore")]
    if all(named):
        return Programs(*(path or "" for path in named))
    plain = [find(f"{prefix}{part}") for part in ("", "-save", "-restore")]
    if all(plain) and default_variant(family, run, find) == variant:
        return Programs(*(path or "" for path in plain))
    return None


def default_variant(family: int, run: Runner, find: Which = which) -> str:
    """The variant of the plain ``iptables``, which is what people and other programs use; "" if there is none."""
    path = find(PREFIXES[family])
    if path is None:
        return ""
    rc, out, _err = run([path, "-V"])
    version = parse_version(out) if rc == 0 else None
    return version.variant if version is not None else ""


class IptablesTool:
    """One variant of iptables (or ip6tables) on this node.

    :param family: 4 or 6.
    :param variant: ``legacy`` or ``nft``.
    """

    def __init__(self, run: Runner, family: int, variant: str, find: Which = which) -> None:
        self._run = run
        self._find = find
        self.family = family
        self.variant = variant
        self._programs: Programs | None = None
        self._version: Version | None = None

    def available(self) -> bool:
        """Whether the programs are there and the kernel has the family at all (IPv6 may be off)."""
        if self.family == 6 and not has_ipv6():
            return False
        return self._locate() is not None

    def version(self) -> Version:
        """:raises ToolError: the tool is missing or says nothing that can be understood."""
        if self._version is None:
            path = self._tool().main
            version = parse_version(checked(self._run, [path, "-V"]))
            if version is None:
                raise ToolError([path, "-V"], 0, "its answer holds no version.", PACKAGE_HINT)
            self._version = version
        return self._version

    def read(self, tables: Iterable[str]) -> dict[str, SavedTable]:
        """The tables with chains and policies; one that the kernel has not got yet is empty.

        A legacy table that is not loaded is not asked for, since asking would load it.

        :raises ToolError: iptables-save failed.
        """
        wanted = list(tables)
        found = self._list_all() if self.variant == NFT and len(wanted) > 1 else None
        if found is None:
            loaded = loaded_tables(self.family) if self.variant == LEGACY else wanted
            found = {}
            for table in (table for table in wanted if table in loaded):
                found.update(parse_save(self._list(table)))
        return {table: found.get(table, SavedTable({}, {})) for table in wanted}

    def save(self, tables: Iterable[str]) -> dict[str, dict[str, tuple[str, ...]]]:
        """Table -> chain -> its rules, each as iptables-save writes it without "-A CHAIN ". Errors as in ``read``."""
        return {name: table.chains for name, table in self.read(tables).items()}

    def restore(self, text: str) -> None:
        """Load ``text`` on top of what is there: the chains it declares are emptied first, all others stay.

        Atomic per table, not over all of them: one that stands before a refused one in ``text`` is already in force.

        :raises ToolError: it was refused.
        """
        checked(self._run, self._restore_command(), text)

    def test(self, text: str) -> None:
        """Have the tool read ``text`` without loading it.

        :raises ToolError: it doesn't understand it, or the kernel lacks an extension that it uses.
        """
        argv = [*self._restore_command(), "--test"]
        rc, out, err = self._run(argv, text)
        missing = UNSUPPORTED.findall(err)
        if rc != 0 or missing:
            hint = f"Missing in the kernel: {', '.join(missing)}." if missing else ""
            raise ToolError(argv, rc, err or out, hint)

    def _restore_command(self) -> list[str]:
        argv = [self._tool().restore, "--noflush"]
        if self.version().number >= RESTORE_WAITS:
            argv += ["-w", str(WAIT_SECONDS)]
        return argv

    def _list_all(self) -> dict[str, SavedTable] | None:
        """All tables at once, which takes iptables-nft as long as one of them: it asks the kernel for everything. None
        if it can't show one of them, which may be none of those that are wanted."""
        rc, out, err = self._run([self._tool().save], None)
        return None if rc != 0 or INCOMPATIBLE.search(out + err) else parse_save(out)

    def _list(self, table: str) -> str:
        argv = [self._tool().save, "-t", table]
        rc, out, err = self._run(argv, None)
        if rc != 0 and self.variant == NFT and NO_NFTABLES.search(err):
            raise MissingInKernelError(argv, rc, err)
        if rc != 0:
            raise ToolError(argv, rc, err or out, SHARED_HINT if INCOMPATIBLE.search(out + err) else "")
        return out

    def _locate(self) -> Programs | None:
        if self._programs is None:
            self._programs = programs(self.family, self.variant, self._run, self._find)
        return self._programs

    def _tool(self) -> Programs:
        located = self._locate()
        if located is None:
            raise MissingToolError(f"{PREFIXES[self.family]}-{self.variant}", PACKAGE_HINT)
        return located


def _is_ours(chain: str, rule: str) -> bool:
    return chain.startswith(OURS) or f"-j {OURS}" in rule


def _census(run: Runner, family: int, variant: str, find: Which) -> tuple[int, bool]:
    """How many rules of other programs a variant holds (empty chains don't count), and whether chains of ours."""
    located = programs(family, variant, run, find)
    if located is None or (variant == LEGACY and not loaded_tables(family)):
        return 0, False
    rc, text, err = run([located.save])
    if rc != 0 and variant == NFT and NO_NFTABLES.search(err):
        return 0, False
    if rc != 0:
        raise ToolError([located.save], rc, err or text)
    foreign, ours = 0, False
    for table in parse_save(text).values():
        for chain, rules in table.chains.items():
            ours = ours or chain.startswith(OURS)
            foreign += sum(1 for rule in rules if not _is_ours(chain, rule))
    return foreign, ours


def detect(
    run: Runner, families: Sequence[int] = (4, 6), wanted: str = "", find: Which = which, leaving: bool = False
) -> Detection:
    """The variant to use: the one given, else the only one that others use, else that of the plain ``iptables``.

    The variant that the host uses by default is only listed if the other one has rules, so the usual case is cheap
    however many rules of ours there are.

    :param wanted: ``legacy``, ``nft`` or "" to detect.
    :param leaving: our rules are to go: the one that holds them, whatever others have there.
    :raises OptionError: both variants hold rules of other programs and none was given.
    :raises MissingToolError: there is no iptables at all, or not of the variant that was given.
    :raises ToolError: iptables-save failed.
    """
    present = [variant for variant in VARIANTS if programs(families[0], variant, run, find) is not None]
    if not present:
        raise MissingToolError(PREFIXES[families[0]], PACKAGE_HINT)
    if wanted and wanted not in present:
        raise MissingToolError(f"{PREFIXES[families[0]]}-{wanted}", PACKAGE_HINT)
    usual = wanted or default_variant(families[0], run, find) or present[-1]
    other = LEGACY if usual == NFT else NFT
    foreign, ours = _totals(run, families, other, find)
    leftover = other if ours else ""
    if wanted:
        return Detection(wanted, "it was given", leftover)
    if not foreign and not (leaving and ours):
        return Detection(usual, "the node's iptables is of this variant", leftover)
    usual_foreign, usual_ours = _totals(run, families, usual, find)
    if leaving:
        return Detection(usual if usual_ours or not ours else other, "it is to leave", leftover if usual_ours else "")
    if usual_foreign:
        raise OptionError(
            f"Both variants of iptables hold rules of other programs: {usual} ({usual_foreign} rules) and {other}"
            f" ({foreign} rules), and neither sees the other's. Remove one set with iptables-{other} or"
            f" iptables-{usual}, or say which of the two to use."
        )
    return Detection(other, "only this variant holds rules of other programs", usual if usual_ours else "")


def detect_or_expect(run: Runner, families: Sequence[int], option: str, leaving: bool) -> Detection:
    """As ``detect``, by a module's option ``variant``. A node that rules are to come to may have no iptables yet: then
    the variant that it is about to get, and who reads or writes rules is told that it is missing."""
    wanted = "" if option == "auto" else option
    try:
        return detect(run, families, wanted, leaving=leaving)
    except MissingToolError:
        if leaving:
            raise
        return Detection(wanted or NFT, "it is not installed", "")


def _totals(run: Runner, families: Sequence[int], variant: str, find: Which) -> tuple[int, bool]:
    counts = [_census(run, family, variant, find) for family in families]
    return sum(foreign for foreign, _ours in counts), any(ours for _foreign, ours in counts)

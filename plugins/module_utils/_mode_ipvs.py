# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's half of the ipvs mode: virtual servers through netlink, sets through ipset, rules through iptables, and
the addresses of Services on a device of ours.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from ._core import ipvs_changes, ipvs_drain, ipvs_live, ipvs_objects, ipvs_options, ipvs_rules
from ._core.errors import NetlinkError, OptionError, ToolError
from ._core.ipvs import BY_SOURCE, IpvsCompiler, IpvsOptions
from ._core.ipvs_changes import DEVICE, HOLDER, IPSET, IPVS, MAKE_DEVICE, REMOVE_DEVICE, Marks, Part
from ._core.ipvs_drain import Limit
from ._core.ipvs_held import FAMILIES, Held, Kernel, held
from ._core.live import LiveFrontend
from ._core.passes import Changes, Program
from ._core.preflight_settings import IPVS as IPVS_SETTINGS
from ._core.settings import Settings
from ._core.table import PortRules
from ._core.text_iptables import Change
from ._mode import ModeDefaults, Step
from ._node import ipvs_preflight, service_addresses
from ._node.ipset_tool import IpsetTool
from ._node.iptables_tool import IptablesTool, detect_or_expect
from ._node.ipvs import Ipvs, OperationError
from ._node.ipvs_drain_state import DrainState, now
from ._node.ipvs_retire import carry_out
from ._node.legacy_tables import LEGACY, loaded_tables
from ._node.runner import Runner

FRAME = ("sets", "chain")
# What ipset says of the one that it refused.
_LINE = re.compile(r"in line (\d+)")
DRAIN = "what drains"


class IpvsMode(ModeDefaults):
    """Implements ``_mode.Mode``.

    :param drain: how long connections may go on where their endpoint is gone, and where that is remembered.
    :param wanted: the variant of iptables, "auto" to take that of the host.
    :param leaving: the rules are to go.
    """

    name = "ipvs"
    features = (
        *("xt_conntrack", "xt_addrtype", "xt_mark", "xt_bpf", "xt_ipvs"),
        *("REJECT", "MARK", "MASQUERADE"),
    )
    sysctls = IPVS_SETTINGS

    def __init__(
        self,
        settings: Settings,
        run: Runner,
        options: IpvsOptions,
        drain: tuple[int, DrainState],
        wanted: str = "auto",
        leaving: bool = False,
    ) -> None:
        self.settings = settings
        self.compiler = IpvsCompiler(settings, options)
        self.ipset = IpsetTool(run)
        self.warnings: list[str] = []
        self._run, self._wanted, self._leaving = run, wanted, leaving
        self._variant = ""
        self._tools: dict[int, IptablesTool] = {}
        self._drain_seconds, self._drain_state = drain
        self._since: Program = {}
        self._retiring: frozenset[str] = frozenset()
        self._held = Held({}, {}, frozenset(), frozenset(), {})
        # The text of a step -> the containers of its lines.
        self._names: dict[str, list[str]] = {}
        # Those of virtual servers that were to retire, and got a connection before it was their turn.
        self._staying: list[str] = []
        # What the kernel refused last.
        self._refused: ipvs_objects.Operation | None = None

    @property
    def iptables_variant(self) -> str:
        """The variant of iptables, found when it is first needed: a node without anything of this mode needs none."""
        if not self._variant:
            families = self.settings.view.families
            self._variant = detect_or_expect(self._run, families, self._wanted, self._leaving).variant
        return self._variant

    def judge(self, rules: Sequence[PortRules], full: bool, load: bool) -> tuple[list[str], list[str]]:
        """What IPVS lacks for the schedulers of the Services, and Services that get another one than they name."""
        default = self.compiler.options.scheduler
        warnings = ipvs_options.warnings_of(rules, default)
        if any("/address/" in name for name in self._held.program) and not service_addresses.has_device():
            warnings.append(ipvs_preflight.NO_DEVICE)
        if not full:
            return [], warnings
        schedulers = ipvs_options.schedulers_of(rules, default)
        schedulers |= {BY_SOURCE} if any(entry.affinity for entry in rules) else set()
        families = self.settings.view.families
        lacking = ipvs_preflight.lacking(self._run, schedulers, families, self.iptables_variant, load)
        return lacking, warnings

    def tool(self, family: int) -> IptablesTool:
        """iptables of a family."""
        if family not in self._tools:
            self._tools[family] = IptablesTool(self._run, family, self.iptables_variant)
        return self._tools[family]

    def token(self) -> str:
        """IPVS and ipset have no generation: they are always read."""
        return ""

    def read(self) -> Program:
        """Our sets, servers, addresses and chains. Where no set is ours there are no chains, for they name sets."""
        sets = self.ipset.read()
        servers = _servers()
        addresses = {
            address: device
            for address, device in service_addresses.held().items()
            if not ipaddress.ip_address(address).is_link_local
        }
        chains = {}
        for family in FAMILIES if sets else ():
            if self.tool(family).available():
                for table, found in self.tool(family).save(ipvs_rules.HOOKS).items():
                    chains[family, table] = found
        devices = (service_addresses.DEVICE, service_addresses.LOOPBACK)
        kernel = Kernel(sets, servers, addresses, devices, chains)
        self._held = held(kernel, self.settings)
        self._since = self._drain_state.load()
        return {**self._held.program, **self._since}

    def ours(self, program: Program) -> Program:
        """All of it, and the device."""
        there = {HOLDER: True} if service_addresses.has_device() else {}
        return {**program, **there}

    def frontends(self, program: Program) -> list[LiveFrontend]:
        """What servers and entries name."""
        return ipvs_live.frontends(program)

    def complete(self, changes: Changes, current: Program | None) -> Changes:
        """The changes with those of the sets and chains, and without addresses that somebody else gave the node."""
        present = current or {}
        frame = ipvs_rules.frame(self.settings)
        for name in {*frame, *(name for name in present if name.split("/")[1] in FRAME)}:
            if present.get(name) != frame.get(name):
                changes[name] = (present.get(name), frame.get(name))
            else:
                changes.pop(name, None)
        for name in [name for name in changes if name.split("/")[1] == "address"]:
            if name.split("/")[2] in self._held.elsewhere and changes[name][1] is not None:
                del changes[name]
        if not current:  # what is expected is asked for; what drains is so besides
            for name, content in ipvs_drain.lingering({**self._held.program, **self._since}).items():
                changes.setdefault(name, (None, content))
            return changes
        limit = Limit(now(), self._drain_seconds)
        changes = ipvs_drain.with_leftovers(changes, current)
        changes = ipvs_drain.graceful(changes, self._held.servers, self._since, limit)
        self._retiring = ipvs_drain.retiring(changes, limit)
        return changes

    def leave(self, changes: Changes) -> Changes:
        """Of the removal of everything that which cuts no connection. Where some go on, what says whose the servers
        are stays with them; a later removal takes the rest."""
        limit = Limit(now(), self._drain_seconds)
        asked = {name: change for name, change in changes.items() if "/drain/" not in name}
        made = ipvs_drain.graceful(asked, self._held.servers, self._since, limit)
        self._retiring = ipvs_drain.retiring(made, limit)
        staying = [name for name in self._held.servers if name in asked and made.get(name, (None, ""))[1] is not None]
        return {
            name: change
            for name, change in made.items()
            if change[1] is not None or not ipvs_drain.needed_by(name, staying)
        }

    def steps(self, changes: Changes) -> list[Step]:
        """Sets and rules first, which do nothing as long as the sets are empty; see ``ipvs_changes`` for the rest."""
        marks = Marks(self.settings, self._held.marks, self._held.taken)
        parts = ipvs_changes.plan(changes, marks, self._retiring)
        return [
            *self._drain(changes),
            *self._parts([ipvs_changes.sets(changes, wanted=True)]),
            *self._chains(changes, wanted=True),
            *self._parts(parts),
            *self._chains(changes, wanted=False),
            *self._parts([ipvs_changes.sets(changes, wanted=False)]),
        ]

    def _parts(self, parts: Iterable[Part]) -> list[Step]:
        steps = []
        for part in parts:
            if part.lines:
                texts = ("".join(f"{line}\n" for line in lines) for lines in (part.lines, part.undo))
                steps.append(Step(part.where, *texts))
                self._names[steps[-1].text] = part.names
        return steps

    def _drain(self, changes: Changes) -> list[Step]:
        """What is to be remembered of real servers that drain."""
        changed = {name: new for name, (_old, new) in changes.items() if "/drain/" in name}
        if not changed:
            return []
        after = {name: begin for name, begin in {**self._since, **changed}.items() if begin is not None}
        return [Step(DRAIN, json.dumps(after), json.dumps(self._since))]

    def _chains(self, changes: Changes, wanted: bool) -> list[Step]:
        by_table: dict[tuple[int, str], dict[str, Change]] = {}
        for name, change in changes.items():
            which, kind, *key = name.split("/")
            if kind == "chain" and (change[1] is not None) == wanted:
                by_table.setdefault((int(which), key[0]), {})[key[1]] = change
        made = []
        for (family, table), forth in sorted(by_table.items()):
            if self.tool(family).available():
                back = {chain: (new, old) for chain, (old, new) in forth.items()}
                texts = ipvs_rules.transaction(table, forth), ipvs_rules.transaction(table, back)
                made.append(Step(f"{self._name(family)} (table {table})", *texts))
        return made

    def _name(self, family: int) -> str:
        return f"{'ip6tables' if family == 6 else 'iptables'}-{self.iptables_variant}"

    def test(self, step: Step) -> None:
        """iptables-restore --test, where the sets that rules name are there and it loads no table."""
        if step.where in (IPSET, IPVS, DEVICE, DRAIN) or not self._held.program:
            return
        tool = self.tool(6 if step.where.startswith("ip6") else 4)
        if tool.variant != LEGACY or step.text.splitlines()[0][1:] in loaded_tables(tool.family):
            tool.test(step.text)

    def apply(self, step: Step, undo: bool = False) -> None:
        """Does the lines of a step, or takes them back. One that is refused is taken back as far as it went."""
        lines = (step.undo if undo else step.text).splitlines()
        if step.where in (IPSET, DEVICE) and not undo:
            lines = ipvs_changes.without_needed(lines, self._names[step.text], self._staying)
        if step.where == IPSET:
            self._apply_ipset(step, lines, undo)
        elif step.where == IPVS:
            self._apply_ipvs(step, undo)
        elif step.where == DRAIN:
            self._drain_state.save(json.loads(step.undo if undo else step.text))
        elif step.where == DEVICE:
            _apply_addresses(lines, [] if undo else step.undo.splitlines())
        else:
            self.tool(6 if step.where.startswith("ip6") else 4).restore(step.undo if undo else step.text)

    def _apply_ipset(self, step: Step, lines: list[str], undo: bool) -> None:
        try:
            self.ipset.restore("".join(f"{line}\n" for line in lines))
        except ToolError:
            if not undo:
                self.ipset.take_back(step.undo)
            raise

    def _apply_ipvs(self, step: Step, undo: bool) -> None:
        lines, back = step.text.splitlines(), step.undo.splitlines()
        with Ipvs() as ipvs:
            if undo:
                ipvs.attempt(ipvs_objects.taken_back(lines, back))
                return
            operations = [ipvs_objects.operation(line) for line in lines]
            try:
                staying = carry_out(ipvs, operations)
            except OperationError as error:
                self._refused = error.operation
                ipvs.attempt(ipvs_objects.taken_back(lines, back, error.done))
                raise ToolError([IPVS], error.code, str(error)) from None
            self._staying += [
                name
                for one, name in zip(operations, self._names[step.text])
                if one.real is None and one.server in staying
            ]

    def culprit(self, error: ToolError, step: Step) -> str:
        """The container of what was refused, "" for a chain, which is no Service's."""
        lines = enumerate(zip(step.text.splitlines(), self._names.get(step.text, ())), 1)
        return next((name for number, (line, name) in lines if self._is_refused(step.where, number, line, error)), "")

    def _is_refused(self, where: str, number: int, line: str, error: ToolError) -> bool:
        """Is this the line of a step that the error is about?"""
        if where == IPSET:
            found = _LINE.search(error.stderr)
            return found is not None and int(found.group(1)) == number
        if where == IPVS:
            return self._refused is not None and ipvs_objects.operation(line).about == self._refused.about
        return f"the address {line.rpartition(' ')[2]}:" in error.stderr


def _servers() -> dict[ipvs_objects.Server, ipvs_objects.Virtual]:
    """All virtual servers of the node; none if its kernel has no IPVS."""
    try:
        with Ipvs() as ipvs:
            return ipvs.read()
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        return {}


def _apply_addresses(lines: list[str], back: list[str]) -> None:
    """Puts addresses on our device and takes them away; where one is refused, ``back`` is done."""
    try:
        _change_addresses(lines)
    except NetlinkError as error:
        with suppress(NetlinkError):
            _change_addresses(back)
        raise ToolError([DEVICE], error.code, str(error)) from error


def _change_addresses(lines: list[str]) -> None:
    wanted = [line.split(" ")[1] for line in lines if line.startswith("add ")]
    unwanted = [line.split(" ")[1] for line in lines if line.startswith("remove ")]
    if wanted or MAKE_DEVICE in lines:
        service_addresses.add(service_addresses.make_device(), wanted)
    if unwanted:
        there = service_addresses.held()
        for device in (service_addresses.DEVICE, service_addresses.LOOPBACK):
            service_addresses.remove(device, [one for one in unwanted if there.get(one) == device])
    if REMOVE_DEVICE in lines:
        service_addresses.remove_device()


def make_mode(params: dict[str, Any]) -> Callable[[Settings, Runner], IpvsMode]:
    """From a module's options: a function that makes the mode."""
    if params["ipvs_scheduler"] not in ipvs_options.SCHEDULERS:
        raise OptionError(f"ipvs_scheduler is none of {', '.join(ipvs_options.SCHEDULERS)}.")
    options = IpvsOptions(params["ipvs_scheduler"], params["ipvs_local_fallback"])

    def make(settings: Settings, run: Runner) -> IpvsMode:
        state = DrainState(os.path.join(params["state_dir"], "ipvs_drain.json"))
        drain = params["ipvs_drain_seconds"], state
        return IpvsMode(settings, run, options, drain, params["variant"], params.get("state") == "absent")

    return make

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node's half of the userspace mode: rules through nft, proxies through an nginx of our own, and their ports.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from ._core import nftables_live, text_nginx
from ._core.errors import OptionError, ServicenetError, ToolError
from ._core.live import LiveFrontend
from ._core.passes import Changes, Program
from ._core.settings import Settings
from ._core.table import PortRules
from ._core.text_nginx import HEAD, LIVE, PROXY, RESERVED, Build, ProxyOptions
from ._core.userspace import UserspaceCompiler
from ._mode import ModeDefaults, Step
from ._mode_nftables import NftablesMode
from ._node import files, listeners, reserved_ports
from ._node.nginx import Nginx
from ._node.runner import MissingToolError, Runner

PROXIES = "nginx (proxies)"
# Of its own accord.
MOST_WORKERS = 8


class Ports:
    """The ports of backend sets: chosen at random once, and kept in a state file.

    :param path: the state file.
    :param span: the first and the last port to choose from.
    :param nginx: serves them.
    """

    def __init__(self, path: str, span: tuple[int, int], nginx: Nginx) -> None:
        self._path, self._span, self._nginx = path, span, nginx
        self._known: dict[str, int] | None = None
        # In the order in which they are given away, the next one last.
        self._free: list[int] | None = None
        self._sockets: list[listeners.Socket] | None = None

    def _load(self) -> dict[str, int]:
        value = files.read_json(self._path).value
        given = value.get("ports") if isinstance(value, dict) else None
        known: dict[str, int] = {}
        used: set[int] = set()
        for key, port in (given or {}).items() if isinstance(given, dict) else ():
            if isinstance(port, int) and self._span[0] <= port <= self._span[1] and port not in used:
                known[key] = port
                used.add(port)
        if known and not self._nginx.live():
            # While nothing held them, as after a boot, somebody else may have come first.
            others = self._of_others()
            known = {key: port for key, port in known.items() if port not in others}
        return known

    def _in_use(self) -> list[listeners.Socket]:
        """The sockets that have a port of the span; those that the kernel chose one for are as much in the way."""
        if self._sockets is None:
            self._sockets = listeners.with_ports(range(self._span[0], self._span[1] + 1))
        return self._sockets

    def _of_others(self) -> set[int]:
        """The ports of the span that somebody else has. What is nobody's any more is mostly left of our own proxies,
        and does not keep a new one from waiting there."""
        found = [one for one in self._in_use() if one.inode]
        mine = self._nginx.sockets() if found else set()
        return {one.port for one in found if one.inode not in mine}

    def port_of(self, key: str) -> int:
        """Its port; a free one if it has none yet.

        :raises OptionError: there is none left.
        """
        if self._known is None:
            self._known = self._load()
        if key not in self._known:
            if self._free is None:
                busy = {one.port for one in self._in_use()} | reserved_ports.read() | set(self._known.values())
                self._free = [port for port in range(self._span[0], self._span[1] + 1) if port not in busy]
                random.shuffle(self._free)
            if not self._free:
                raise OptionError("Every port of userspace_ports is taken: give a wider range.")
            self._known[key] = self._free.pop()
        return self._known[key]

    def ours(self) -> set[int]:
        """The ports that we have reserved."""
        value = files.read_json(self._path).value
        return set(value.get("reserved", [])) if isinstance(value, dict) else set()

    def keep(self, wanted: dict[str, int]) -> None:
        """Reserves these ports and no other of ours, and remembers them; none: forgets everything."""
        there, ours = reserved_ports.read(), self.ours()
        mine = (set(wanted.values()) - there) | (ours & set(wanted.values()))
        if wanted:
            files.write_json(self._path, {"ports": wanted, "reserved": sorted(mine)})
        reserve = (there - ours) | set(wanted.values())
        if reserve != there:
            reserved_ports.write(reserve)
        if not wanted:
            files.remove(self._path)


class UserspaceMode(ModeDefaults):
    """Implements ``_mode.Mode``."""

    name = "userspace"
    iptables_variant = ""

    def __init__(self, settings: Settings, run: Runner, options: ProxyOptions, nginx: Nginx, ports: Ports) -> None:
        self.options, self.nginx, self.ports = options, nginx, ports
        self.compiler = UserspaceCompiler(settings, options, ports.port_of)
        self.rules = NftablesMode(settings, run, self.compiler)
        self._build: Build | None = None
        self._missing: MissingToolError | None = None
        # The file as a plan goes by it, from its first look on: another run may remove it meanwhile.
        self._seen: str | None = None
        missing = [f for f in settings.view.families if not any((":" in a) == (f == 6) for a in settings.view.node_ips)]
        self._warnings = [
            f"No address of this node is known for IPv{family}: Services are refused there. Give node_ips."
            for family in missing
            if settings.view.name
        ]

    @property
    def warnings(self) -> list[str]:
        """What making the mode showed, and what a reload had to cut."""
        return [*self._warnings, *self.nginx.warnings]

    def token(self) -> str:
        """That of nftables, nginx's and that of the reserved ports."""
        rules, live = self.rules.token(), self.nginx.live()
        held = hashlib.sha256(repr(sorted(reserved_ports.read())).encode()).hexdigest()[:16]
        return f"{rules}|{live}|{held}" if rules else ""

    def read(self) -> Program:
        """Our tables, the configuration of nginx, and our ports."""
        program = self.rules.read()
        self._seen = None
        program.update(self._held())
        if self.nginx.live():
            program[LIVE] = "live"
        reserved = reserved_ports.read()
        known = {text_nginx.port_of(block) for name, block in program.items() if name.startswith(PROXY)}
        for port in (known | self.ports.ours()) & reserved:
            program[f"{RESERVED}{port}"] = "reserved"
        return program

    def _held(self) -> Program:
        if self._seen is None:
            self._seen = self.nginx.configuration()
        return text_nginx.parse(self._seen)

    def ours(self, program: Program) -> Program:
        """All of it, without tables that another mode has taken over."""
        return self.rules.ours(program)

    def tracked(self, rules: Any) -> Any:
        """With the proxies as their only backends."""
        return self.compiler.tracked(rules)

    def frontends(self, program: Program) -> list[LiveFrontend]:
        """What the elements name, with the endpoints behind the proxies."""
        behind = {
            text_nginx.port_of(block): text_nginx.backends_of(block)
            for name, block in program.items()
            if name.startswith(PROXY)
        }
        elements = {name: content for name, content in program.items() if name[0] in "46"}
        return [
            live._replace(backends=tuple(sorted({one for _a, port in live.backends for one in behind.get(port, [])})))
            for live in nftables_live.frontends(elements)
        ]

    def complete(self, changes: Changes, current: Program | None) -> Changes:
        """The changes with those of the rules' frame and of nginx's head."""
        changes = self.rules.complete(changes, current)
        if current is None and not any(name.startswith(PROXY) for name in changes):
            return changes
        held = self._held() if current is None else current
        if current is None:
            held[LIVE] = "live"
        proxies = {name for name in held if name.startswith(PROXY)}
        proxies -= {name for name, (_old, new) in changes.items() if new is None}
        proxies |= {name for name, (_old, new) in changes.items() if name.startswith(PROXY) and new is not None}
        wanted: Program = {}
        if proxies:
            head = text_nginx.head(len(proxies), self.options, self._built(), self.nginx.log)
            wanted = {HEAD: head, LIVE: "live"}
        for name in (HEAD, LIVE):
            if held.get(name) != wanted.get(name):
                changes[name] = (held.get(name), wanted.get(name))
            else:
                changes.pop(name, None)
        return changes

    def _built(self) -> Build:
        if self._build is None:
            try:
                self._build = self.nginx.build()
            except MissingToolError as error:
                self._build, self._missing = Build(), error
        return self._build

    def judge(self, _rules: Sequence[PortRules], _full: bool, load: bool) -> tuple[list[str], list[str]]:
        """Whether nginx is there, if proxies need it; in check mode the run may be about to install it."""
        if self._missing is None:
            return [], []
        if load:
            raise self._missing
        return [], [str(self._missing)]

    def steps(self, changes: Changes) -> list[Step]:
        """Proxies that are new, and old ones still; the rules; then the proxies that nothing leads to go."""
        rules = self.rules.steps({name: change for name, change in changes.items() if name[0] in "46"})
        ours = {name: change for name, change in changes.items() if name[0] not in "46"}
        if not ours:
            return rules
        held = self._held()
        wanted = {**held, **{name: new for name, (_old, new) in ours.items()}}
        wanted = {name: content for name, content in wanted.items() if content is not None}
        old, new = text_nginx.configuration(held), text_nginx.configuration(wanted)
        both = text_nginx.configuration({**held, **wanted})
        first = [Step(PROXIES, both, old)] if both and (both != old or _beside(ours)) else []
        last = [Step(PROXIES, new, both)] if new != both or not new else []
        return [*first, *rules, *last]

    def test(self, step: Step) -> None:
        """nginx -t or nft --check."""
        if step.where != PROXIES:
            self.rules.test(step)
        elif step.text and self.nginx.available() and self._missing is None:
            self.nginx.test(step.text)

    def apply(self, step: Step, undo: bool = False) -> None:
        """Commits rules; or reserves ports and makes nginx serve; or lets nginx end as its connections do."""
        if step.where != PROXIES:
            self.rules.apply(step, undo)
            return
        text = step.undo if undo else step.text
        before = text_nginx.ports(self.nginx.configuration())
        try:
            if text:
                self.ports.keep(text_nginx.ports(text))
                try:
                    self.nginx.serve(text)
                except ServicenetError:
                    self.ports.keep(before)
                    raise
            else:
                self.nginx.drain()
                self.ports.keep({})
        except ToolError:
            raise
        except ServicenetError as error:
            raise ToolError([PROXIES], 1, str(error)) from error

    def culprit(self, error: ToolError, step: Step) -> str:
        """The element that nft names, or the proxy that nginx does."""
        return text_nginx.blamed(step.text, str(error)) if step.where == PROXIES else self.rules.culprit(error, step)


def _beside(changes: Changes) -> bool:
    """Is something else than the file not as it should be?"""
    return any(name == LIVE or name.startswith(RESERVED) for name in changes)


def make_mode(params: dict[str, Any]) -> Callable[[Settings, Runner], UserspaceMode]:
    """From a module's options: a function that makes the mode."""
    low, _dash, high = str(params["userspace_ports"]).partition("-")
    if not (low.isdigit() and high.isdigit() and 1024 <= int(low) < int(high) <= 65535):
        raise OptionError("userspace_ports is no range of ports such as 12000-29999.")
    # Each holds a socket for every proxy of UDP.
    workers = params["userspace_workers"] or min(os.cpu_count() or 1, MOST_WORKERS)
    options = ProxyOptions(
        params["userspace_connect_timeout"],
        params["userspace_udp_timeout"],
        params["userspace_drain_seconds"],
        params["userspace_max_connections"],
        workers,
        (int(low), int(high)),
        params["userspace_no_endpoints"] == "accept",
    )
    for name in ("connect_timeout", "udp_timeout", "drain_seconds", "max_connections", "max_old_workers"):
        if params[f"userspace_{name}"] < 1:
            raise OptionError(f"userspace_{name} has to be at least 1.")

    def make(settings: Settings, run: Runner) -> UserspaceMode:
        # A state file does not keep where it is.
        state_dir = params.get("state_dir") or "/var/lib/servicenet"
        nginx = Nginx(run, state_dir, params.get("run_dir") or "/run/servicenet", params["userspace_max_old_workers"])
        path = os.path.join(state_dir, "userspace_ports.json")
        return UserspaceMode(settings, run, options, nginx, Ports(path, options.ports, nginx))

    return make

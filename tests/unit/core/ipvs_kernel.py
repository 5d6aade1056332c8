# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of what a kernel does with the parts of a plan of the ipvs mode: sets, virtual servers, and one device."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import ipvs_changes, ipvs_objects, ipvs_rules
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_changes import Marks, Part, plan
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_held import Held, Kernel, held
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import Operation, Server, Virtual
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.passes import Changes, Program
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.settings import Settings

DEVICE = "servicenet0"


class Model:
    """An empty node, but for addresses of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sets: dict[str, dict[str, int]] = {}
        self.servers: dict[Server, Virtual] = {}
        self.addresses: dict[str, str] = {"198.18.1.1": "eth0"}

    def held(self) -> Held:
        """What the mode sees of it."""
        return held(Kernel(self.sets, self.servers, self.addresses, (DEVICE, "lo"), {}), self.settings)

    def parts(self, wanted: Program) -> list[Part]:
        """What the mode would do to get there; chains are left out."""
        seen = self.held()
        frame = {name: content for name, content in ipvs_rules.frame(self.settings).items() if "/sets/" in name}
        whole: Program = {**wanted, **frame}
        changes: Changes = {
            name: (seen.program.get(name), whole.get(name))
            for name in {**seen.program, **whole}
            if seen.program.get(name) != whole.get(name)
        }
        marks = Marks(self.settings, seen.marks, seen.taken)
        return [ipvs_changes.sets(changes, wanted=True), *plan(changes, marks)]

    def do(self, part: Part, lines: Iterable[str]) -> None:
        """Lines of a part, as the tools do them."""
        for line in lines:
            if line == "#":
                continue
            if part.where == ipvs_changes.IPSET:
                self._entry(*line.split(" "))
            elif part.where == ipvs_changes.IPVS:
                self._operation(ipvs_objects.operation(line))
            elif line.startswith("add "):
                self.addresses[line[4:]] = DEVICE
            else:
                self.addresses.pop(line[7:], None)

    def _entry(self, verb: str, name: str, entry: str = "", *rest: str) -> None:
        if verb == "create":
            self.sets.setdefault(name, {})
        elif verb == "add":
            self.sets[name][entry] = int(rest[1].split("/")[0], 16) if rest else self.sets[name].get(entry, 0)
        else:
            self.sets[name].pop(entry, None)

    def _operation(self, operation: Operation) -> None:
        server, real = operation.server, operation.real
        virtual = self.servers.get(server)
        if real is None:
            assert (virtual is None) == (operation.verb == "add"), operation
            if operation.verb == "delete":
                del self.servers[server]
            else:
                reals = virtual.reals if virtual else ()
                self.servers[server] = Virtual(operation.scheduler, operation.persistent, reals)
            return
        assert virtual is not None, operation
        others = tuple(one for one in virtual.reals if one[:2] != real[:2])
        assert (len(others) == len(virtual.reals)) == (operation.verb == "add"), operation
        left = others if operation.verb == "delete" else tuple(sorted((*others, real)))
        self.servers[server] = virtual._replace(reals=left)

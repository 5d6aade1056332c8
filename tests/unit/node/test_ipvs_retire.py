# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What retires goes only if it has no connections, whatever comes between looking and deleting."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.ipvs_objects import (
    RETIRE,
    Operation,
    Real,
    Server,
)
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.ipvs_retire import carry_out

WEB, API = Server(4, "TCP", "10.96.0.1", 80), Server(4, "TCP", "10.96.0.2", 80)
ONE, TWO = Real("10.128.0.1", 80), Real("10.128.0.2", 80)


class Kernel:
    """Virtual servers, their real servers, and a client that comes just before a real server gets the weight 0."""

    def __init__(self, late: Sequence[tuple[Server, Real]] = ()) -> None:
        self.servers = {WEB: {ONE[:2]: ONE, TWO[:2]: TWO}, API: {ONE[:2]: ONE}}
        self.late = late

    def apply(self, operations: Sequence[Operation]) -> None:
        for one in operations:
            if one.real is None:
                assert one.verb == "delete"
                del self.servers[one.server]
            elif one.verb == "edit":
                busy = (one.server, one.real._replace(weight=1)) in self.late
                self.servers[one.server][one.real[:2]] = one.real._replace(active=int(busy))
            else:
                assert one.verb == "delete"
                assert self.servers[one.server].pop(one.real[:2]).active == 0

    def reals(self, server: Server) -> list[Real]:
        return sorted(self.servers[server].values())


def retire(server: Server, *reals: Real) -> list[Operation]:
    return [*(Operation(RETIRE, server, real=real._replace(weight=0)) for real in reals), Operation(RETIRE, server)]


def test_without_connections_everything_goes() -> None:
    kernel = Kernel()
    carry_out(kernel, [*retire(WEB, ONE, TWO), *retire(API, ONE)])
    assert kernel.servers == {}


def test_one_real_server_goes_and_the_others_stay() -> None:
    kernel = Kernel()
    carry_out(kernel, retire(WEB, ONE)[:1])
    assert kernel.servers == {WEB: {TWO[:2]: TWO}, API: {ONE[:2]: ONE}}


def test_a_connection_that_came_late_keeps_its_servers() -> None:
    kernel = Kernel(late=[(WEB, TWO)])
    carry_out(kernel, [*retire(WEB, ONE, TWO), *retire(API, ONE)])
    assert kernel.servers == {WEB: {TWO[:2]: TWO._replace(weight=0, active=1)}}


def test_what_is_deleted_goes_first_and_asks_nobody() -> None:
    kernel = Kernel(late=[(WEB, ONE)])
    delete = [Operation("delete", WEB, real=ONE), Operation("delete", WEB, real=TWO)]
    carry_out(kernel, [*delete, Operation(RETIRE, WEB), Operation("delete", API)])
    assert kernel.servers == {}

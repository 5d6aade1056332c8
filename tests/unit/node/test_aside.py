# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work in other processes: it comes back as it was, whatever becomes of the process, and nothing stays behind."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.table import Backend, Target
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import aside
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.aside import Aside, on_all_processors

HERE = os.getpid()


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def _processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})


def refuse() -> int:
    raise BlockingIOError


def who_did(items: Sequence[int]) -> tuple[int, list[int]]:
    return os.getpid(), list(items)


@pytest.mark.usefixtures("_processors")
@pytest.mark.parametrize("count", [3000, 3001, 5000])
def test_each_processor_gets_a_part_and_the_order_stays(count: int) -> None:
    found = on_all_processors(who_did, range(count))

    assert [item for _pid, items in found for item in items] == list(range(count))
    assert len({pid for pid, _items in found}) == 3
    assert found[0][0] == os.getpid()


@pytest.mark.usefixtures("_processors")
@pytest.mark.parametrize("count", [0, 1, 1999])
def test_little_is_done_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", refuse)

    assert on_all_processors(who_did, range(count)) == [(os.getpid(), list(range(count)))]


def test_a_node_gives_no_more_than_four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))

    assert len(on_all_processors(who_did, range(100_000))) == 4


def test_what_comes_back_is_what_was_found() -> None:
    found = [Target("balance", (Backend("10.0.0.1", 80, True),)), ObjectError("Service", "shop/web", "it is broken")]

    target, refused = Aside(lambda: found).result()

    assert target == found[0]
    assert isinstance(target.backends[0], Backend)
    assert (str(refused), refused.kind, refused.key, refused.reason) == (
        "Service shop/web: it is broken",
        "Service",
        "shop/web",
        "it is broken",
    )


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3)])
def test_where_the_process_dies_the_work_is_done_here(end: Any) -> None:
    def work() -> str:
        if os.getpid() != HERE:
            end()
        return "done"

    assert Aside(work).result() == "done"


def test_nobody_has_to_be_told_of_children() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert Aside(os.getpid).result() != os.getpid()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_process_that_dies_while_it_answers_has_said_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(aside._Pickler):
        def dump(self, thing: Any) -> None:
            self.write(pickle.dumps(thing)[:-1])
            os.kill(os.getpid(), signal.SIGKILL)

        def __init__(self, stream: Any, protocol: int) -> None:
            super().__init__(stream, protocol)
            self.write = lambda data: (stream.write(data), stream.flush())

    monkeypatch.setattr(aside, "_Pickler", Dying)

    assert Aside(lambda: [os.getpid()] * 100_000).result() == [os.getpid()] * 100_000


def test_a_work_that_fails_fails_here() -> None:
    def work() -> str:
        raise ObjectError("Service", "shop/web", f"it is broken, says {os.getpid()}")

    begun = Aside(work)

    with pytest.raises(ObjectError, match=f"says {os.getpid()}"):
        begun.result()


def test_where_no_process_is_to_be_had_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", refuse)

    assert Aside(os.getpid).result() == os.getpid()


def test_more_than_a_pipe_holds_comes_back() -> None:
    assert aside.Aside(lambda: "x" * 10_000_000).result() == "x" * 10_000_000

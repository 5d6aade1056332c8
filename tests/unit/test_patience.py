# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients of the lab tell a silent server from a machine that stood still."""

from __future__ import annotations

import asyncio
import time

import pytest
from lab.patience import within


def test_time_in_which_nothing_ran_is_no_silence() -> None:
    async def answer() -> str:
        await asyncio.sleep(0.01)
        return "there"

    async def ask() -> str:
        asyncio.get_running_loop().call_soon(time.sleep, 1)
        return await within(0.3, answer())

    assert asyncio.run(ask()) == "there"


def test_silence_ends_what_waits_for_its_end() -> None:
    ended: list[str] = []

    async def answer() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("let go")

    async def ask() -> list[str]:
        with pytest.raises(TimeoutError):
            await within(0.05, answer())
        return [*ended]

    assert asyncio.run(ask()) == ["let go"]


def test_what_goes_wrong_is_told() -> None:
    async def answer() -> None:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(within(1, answer()))

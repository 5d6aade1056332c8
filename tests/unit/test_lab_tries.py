# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often a client of the lab tries: until chance has chosen everything that it may choose."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Callable, Sequence

import lab
import pytest

ASKED = {"proto": "TCP", "address": "10.96.0.1", "port": 80, "count": 4, "timeout": 1.0}


Tried = Callable[[int, Sequence[str], Sequence[str]], "dict[str, int]"]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Tried:
    """What a client meets that waits for some outcomes, where chance chooses among others and no time passes."""
    # It is a program, and finds what is beside it.
    monkeypatch.syspath_prepend(lab.__path__[0])
    worker = importlib.import_module("lab.worker")

    async def at_once(_seconds: float) -> None:
        """Instead of asyncio.sleep."""

    def run(seed: int, chosen_of: Sequence[str], until: Sequence[str]) -> dict[str, int]:
        chance = random.Random(seed)

        async def one(*_flow: object) -> str:
            return chance.choice(chosen_of)

        monkeypatch.setattr(worker, "one", one)
        monkeypatch.setattr(worker.asyncio, "sleep", at_once)
        met: dict[str, int] = asyncio.run(worker.tries_from(ASKED | {"until": list(until)}, ""))
        return met

    return run


@pytest.mark.parametrize("seed", range(50))
def test_a_loss_that_is_chosen_like_a_backend_is_waited_for(tried: Tried, seed: int) -> None:
    met = tried(seed, ["a|x", "b|x", "c|x", "drop"], ["a", "b", "c", "drop"])
    assert set(met) == {"a|x", "b|x", "c|x", "drop"}


@pytest.mark.parametrize("seed", range(50))
def test_losses_that_are_chosen_often_do_not_end_the_tries(tried: Tried, seed: int) -> None:
    met = tried(seed, ["a|x", "drop", "drop"], ["a", "drop"])
    assert set(met) == {"a|x", "drop"}


@pytest.mark.parametrize("seed", range(50))
def test_one_time_out_among_answers_proves_nothing(tried: Tried, seed: int) -> None:
    met = tried(seed, ["a|x"] * 30 + ["drop"], ["a"])
    assert set(met) == {"a|x"}


@pytest.mark.parametrize("until", [[], ["a"], ["a", "drop"]])
def test_silence_ends_the_tries(tried: Tried, until: list[str]) -> None:
    met = tried(1, ["drop"], until)
    assert set(met) == {"drop"}
    assert met["drop"] <= 8

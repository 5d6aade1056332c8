# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns_message
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns_message import MessageError

QUESTION = b"\3web\7example\0" + struct.pack("!HH", 33, 1)
HEAD = struct.pack("!6H", 7, 0x8583, 1, 1, 0, 0)


def test_a_question_asks_for_recursion_and_offers_a_larger_message() -> None:
    assert dns_message.question(7, "web.example.", "SRV") == (
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + QUESTION + b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    )


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["x" * 60] * 5), "\u00e4" * 64, "a.\udc80"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(MessageError):
        dns_message.question(7, name, "A")


def test_an_answer_is_read_with_its_compressed_names() -> None:
    data = struct.pack("!3H", 0, 100, 80) + b"\1a\xc0\x0c"
    answer = b"\xc0\x0c" + struct.pack("!HHIH", 33, 1, 5, len(data)) + data
    message = dns_message.read(HEAD + QUESTION + answer)
    assert (message.identity, message.rcode, message.truncated, message.authoritative) == (7, "NXDOMAIN", False, True)
    assert [tuple(r) for r in message.answer] == [("web.example.", "SRV", "0 100 80 a.web.example.", 5)]


def test_a_name_that_leads_round_in_a_circle_is_refused() -> None:
    with pytest.raises(MessageError, match="circle"):
        dns_message.read(HEAD + QUESTION + bytes([0xC0, len(HEAD + QUESTION)]) + b"\0" * 10)


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_read(data: bytes) -> None:
    for start in (b"", HEAD, HEAD + QUESTION):
        with contextlib.suppress(MessageError):
            dns_message.read(start + data)

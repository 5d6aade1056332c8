# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._core import dns_zonefile
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns_records import Record
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.dns_zonefile import (
    Zone,
    next_serial,
    read,
    render,
    update,
)

NOW = 1_800_000_000


def zone(*addresses: str) -> Zone:
    records = [Record(f"a{i}.example.", "A", address, 5) for i, address in enumerate(addresses)]
    return Zone(
        "example.", (Record("example.", "NS", "ns.example.", 5), *records), 5, "ns.example.", "hostmaster.example."
    )


def written(*addresses: str, serial: int = NOW) -> str:
    return render(zone(*addresses), serial)


def test_the_soa_comes_first_and_the_digest_of_what_is_between_last() -> None:
    lines = written("10.0.0.1").splitlines(keepends=True)
    assert lines[1] == f"example. 5 IN SOA ns.example. hostmaster.example. {NOW} 7200 1800 86400 5\n"
    digest = hashlib.sha256("".join(lines[2:-1]).encode()).hexdigest()
    assert lines[-1] == f'_snapshot.example. 5 IN TXT "{digest}"\n'


def test_what_was_written_is_read_again() -> None:
    found = read(written("10.0.0.1", "10.0.0.2"))
    assert found is not None
    assert found.serial == NOW
    assert found.lines == tuple(dns_zonefile.record_lines(zone("10.0.0.1", "10.0.0.2")))


def test_the_same_records_leave_the_file_as_it_is() -> None:
    done = update(zone("10.0.0.1"), written("10.0.0.1", serial=7), 7, NOW)
    assert (done.text, done.serial) == (None, 7)


def test_other_records_get_a_greater_serial() -> None:
    done = update(zone("10.0.0.2"), written("10.0.0.1"), 0, NOW)
    assert done.serial == NOW + 1
    assert done.text == written("10.0.0.2", serial=NOW + 1)
    assert set(done.after) - set(done.before) == {"a0.example. 5 IN A 10.0.0.2\n"}


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_file_that_was_cut_off_is_written_anew_with_another_serial(cut: int) -> None:
    whole = written("10.0.0.1", "10.0.0.2")
    done = update(zone("10.0.0.1", "10.0.0.2"), whole[:cut], NOW, NOW)
    assert done.text is not None
    assert done.serial == NOW + 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rubbish",
        "\x00\xff" * 100,
        written("10.0.0.1").replace("10.0.0.1", "10.0.0.9"),
        written("10.0.0.1") + "more. 5 IN A 10.0.0.3\n",
        written("10.0.0.1").replace(" 5 IN SOA", " 6 IN SOA"),
        written("10.0.0.1").replace(" 5 IN TXT", " 6 IN TXT"),
    ],
)
def test_a_file_that_was_altered_is_written_anew(text: str) -> None:
    done = update(zone("10.0.0.1"), text, NOW, NOW)
    assert done.text == written("10.0.0.1", serial=NOW + 1)


def test_a_file_that_was_deleted_gets_a_serial_that_no_server_has() -> None:
    assert update(zone("10.0.0.1"), None, NOW + 50, NOW).serial == NOW + 51


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=2), st.integers(0, 2**33))
def test_a_serial_is_always_new_and_never_zero(used: list[int], now: int) -> None:
    serial = next_serial(used, now)
    assert 0 < serial < 2**32
    assert serial not in used


def test_the_serial_wraps() -> None:
    assert next_serial([2**32 - 1], 0) == 1

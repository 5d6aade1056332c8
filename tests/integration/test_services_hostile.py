# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Malformed objects beside good ones, and snapshots that are hostile as a whole: what is good is programmed, what is
bad is named, and a snapshot that can't be trusted changes nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from fixtures import malformed
from integration.services_lab import ServicesNode, module_server, node, service, services_lab, vip

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.snapshot_build import build_snapshot

__all__ = ["module_server", "node", "services_lab"]

GOOD = (
    service("web", 210, {"pod-a1": "ready", "pod-b1": "ready"}),
    service("api", 211, {"pod-b2": "ready"}, target=9090),
)


def assert_good_ones_carry_packets(node: ServicesNode) -> None:
    """GOOD answers, in both families."""
    for family in (4, 6):
        assert set(node.probe("pod", vip(210, family), count=32)) == {"pod-a1:8080", "pod-b1:8080"}
        assert set(node.probe("ext", vip(211, family), proto="UDP")) == {"pod-b2:9090"}


def text_of(lines: Iterable[bytes], header: dict[str, Any] | None = None) -> bytes:
    """The text of a snapshot with these lines, whose digest is right."""
    ordered = sorted(set(lines))
    digest = hashlib.sha256(b"".join(line + b"\n" for line in ordered)).hexdigest()
    head = {"schema": 1, "counts": {}, "digest": digest, **(header or {})}
    return b"\n".join([json.dumps(head).encode(), *ordered, b""])


def lines_of(*objects: list[dict[str, Any]]) -> list[bytes]:
    """The lines of a snapshot of good objects."""
    return list(build_snapshot([raw for some in objects for raw in some]).lines)


def test_a_hundred_malformed_objects_keep_no_good_one_from_its_packets(node: ServicesNode) -> None:
    manifests = node.directory / "manifests"
    manifests.mkdir()
    malformed.write(manifests)
    for number, objects in enumerate(GOOD):
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        (manifests / f"good-{number}.json").write_text(items)
    read = node.start_module(
        "cluster_snapshot", {"source": "manifests", "manifests": [str(manifests)], "dest": str(node.snapshot)}
    ).wait()
    assert not read.get("failed"), read["msg"]
    assert len(malformed.objects()) + len(malformed.documents()) >= 100
    warnings = "\n".join(read["warnings"])
    for case in malformed.objects():
        assert case.key in warnings, case.what
    node.run()
    assert_good_ones_carry_packets(node)
    # Of the fixture's own Services, this one has endpoints in the lab.
    assert set(node.probe("pod", "10.96.0.6", count=32)) == {"pod-a1:8080", "pod-a2:8080"}
    assert "hostile" not in node.rules()
    assert not node.run()["changed"]


def test_malformed_services_in_a_snapshot_are_named_and_left_out(node: ServicesNode) -> None:
    """No snapshot that this collection writes has them; another one may, its digest being right."""
    bad = {}
    for case in malformed.objects():
        if case.kind == "Service" and case.key:
            namespace, _slash, name = case.key.partition("/")
            line = {"kind": "Service", "metadata": {"namespace": namespace, "name": name}, **_without_head(case.raw)}
            bad[case.key] = json.dumps(line, separators=(",", ":")).encode()
    node.snapshot.write_bytes(gzip.compress(text_of([*lines_of(*GOOD), *bad.values()])))
    result = node.run()
    assert_good_ones_carry_packets(node)
    named = {key for key in bad if any(key in warning for warning in result["warnings"])}
    programmed = {line.split(" ")[0].split(":")[0] for line in _after(node, result)}
    # Each is named, or it is harmless and programmed.
    assert bad.keys() - named - programmed == set()
    assert len(named) > 30


HEAD = b'{"kind":"Service","metadata":{"namespace":"shop","name":"x"}'
NO_JSON = {
    "broken": HEAD + b',"spec":',
    "deep": HEAD + b',"spec":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": HEAD + b',"spec":"\xff\xfe"}',
}


@pytest.mark.parametrize("what", NO_JSON)
def test_a_service_whose_line_is_no_json_is_named_and_left_out(node: ServicesNode, what: str) -> None:
    node.snapshot.write_bytes(gzip.compress(text_of([*lines_of(*GOOD), NO_JSON[what]])))
    result = node.run()
    assert any("shop/x: its line of the snapshot is no JSON" in warning for warning in result["warnings"])
    assert max(map(len, result["warnings"])) < 1000
    assert_good_ones_carry_packets(node)
    assert not node.run()["changed"]


def _without_head(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in ("kind", "metadata", "apiVersion")}


def _after(node: ServicesNode, _result: dict[str, Any]) -> list[str]:
    """The Services that a first run would program, as the diff names them."""
    node.lab.reset()
    for path in node.state_dir.iterdir():
        path.unlink()
    return list(node.check()["diff"]["after"].splitlines())


def with_line(line: bytes) -> Callable[[], bytes]:
    """A snapshot of GOOD with one more line, whose digest is right."""
    return lambda: gzip.compress(text_of([*lines_of(*GOOD), line]))


def damaged(change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """A good snapshot, whose text is changed afterwards."""
    return lambda: gzip.compress(change(text_of(lines_of(*GOOD))))


# What is wrong -> (the file, a word of the sentence that says so)
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "snapshot"),
    "not gzip": (lambda: text_of(lines_of(*GOOD)), "not a whole gzip file"),
    "gzip cut off": (lambda: gzip.compress(text_of(lines_of(*GOOD)))[:-20], "not a whole gzip file"),
    "gzip damaged": (lambda: _flipped(gzip.compress(text_of(lines_of(*GOOD)))), "snapshot"),
    "a byte altered": (damaged(lambda text: text.replace(b"10.128.0.11", b"10.128.0.12")), "altered"),
    "a line missing": (damaged(lambda text: text.rpartition(b'{"kind":"Service"')[0]), "altered"),
    "cut off": (damaged(lambda text: text[:-40]), "cut off"),
    "no header": (damaged(lambda text: text.partition(b"\n")[2]), "header"),
    "header is no JSON": (damaged(lambda text: b"{" + text), "header"),
    "header is a list": (damaged(lambda text: b"[]\n" + text.partition(b"\n")[2]), "header"),
    "a later schema": (lambda: gzip.compress(text_of(lines_of(*GOOD), {"schema": 99})), "schema 99"),
    "a line that is no object": (with_line(b"hello"), "does not begin with"),
    "a line of another kind": (with_line(b'{"kind":"Secret","metadata":{"name":"x"}}'), "does not begin with"),
    "a hostile name": (with_line(b'{"kind":"Service","metadata":{"namespace":"a","name":"../x"}}'), "does not begin"),
    "a Node of broken JSON": (with_line(b'{"kind":"Node","metadata":{"name":"node-a"},"spec":'), "is no JSON"),
    "a ServiceCIDR of broken JSON": (with_line(b'{"kind":"ServiceCIDR","metadata":{"name":"c"},"spec":'), "is no JSON"),
}


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize("what", FILES)
def test_a_hostile_snapshot_changes_nothing(node: ServicesNode, what: str) -> None:
    """It is refused in a sentence, as a whole."""
    make, word = FILES[what]
    node.give(*GOOD)
    node.run()
    before = node.rules(), node.generation()
    state = {path.name: path.read_bytes() for path in node.state_dir.iterdir()}
    node.snapshot.write_bytes(make())
    said = node.fail()
    assert word in said
    assert len(said) < 1000
    assert {path.name: path.read_bytes() for path in node.state_dir.iterdir()} == state
    assert (node.rules(), node.generation()) == before
    node.give(*GOOD)
    assert not node.run()["changed"]


def test_no_snapshot_is_an_error(node: ServicesNode) -> None:
    assert "There is no snapshot at" in node.fail()
    node.snapshot.mkdir()
    assert str(node.snapshot) in node.fail()
    assert "servicenet" not in node.rules().lower()
    assert not node.state_dir.exists()


def test_names_as_long_as_they_come(node: ServicesNode) -> None:
    """Names that no API server takes are refused by name, which is shortened; the longest that it takes work."""
    longest = service("n" * 63, 212, {"pod-a2": "ready"})
    for raw in longest:
        raw["metadata"]["namespace"] = "m" * 63
    endless = service("e" * 100_000, 213, {"pod-a2": "ready"})
    node.give(*GOOD, longest)
    lines = [*lines_of(*GOOD, longest)]
    line = json.dumps(
        {"kind": "Service", "metadata": {"namespace": "shop", "name": "e" * 100_000}, "spec": endless[0]["spec"]},
        separators=(",", ":"),
    )
    node.snapshot.write_bytes(gzip.compress(text_of([*lines, line.encode()])))
    result = node.run()
    assert any("eeeee" in warning for warning in result["warnings"])
    assert max(map(len, result["warnings"])) < 1000
    assert_good_ones_carry_packets(node)
    assert set(node.probe("pod", vip(212))) == {"pod-a2:8080"}
    assert not node.run()["changed"]


# ---- the guard


def test_the_loss_of_most_services_is_refused_on_the_node(node: ServicesNode) -> None:
    many = [service(f"s{n}", n, {"pod-a1": "ready"}) for n in range(20, 30)]
    node.give(*many)
    node.run(max_removed_percent=50)
    before = node.rules(), node.generation()
    for gone in (many[:4], []):
        node.give(*gone)
        message = node.fail(max_removed_percent=50)
        assert f"lacks {10 - len(gone)} of 10 Services" in message
        assert "max_removed_percent" in message
        assert (node.rules(), node.generation()) == before
    node.give(*[service(f"s{n}", n, {}) for n in range(20, 30)])
    assert "20 of 20 ready endpoints" in node.fail(max_removed_percent=50)
    assert (node.rules(), node.generation()) == before
    assert set(node.probe("pod", vip(20))) == {"pod-a1:8080"}
    node.give(*many[:5])
    assert node.run(max_removed_percent=50)["services_changed_count"] == 5
    node.give()
    assert node.run(max_removed_percent=100)["changed"]

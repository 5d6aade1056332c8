# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""YAML: the values that Kubernetes would read, and limits that no document gets past."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster.yaml_documents import (
    MAX_ALIASED,
    MAX_DEPTH,
    YamlError,
    read_document,
)

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@example({"<<": None})
def test_what_was_written_is_read(value: Any) -> None:
    # Quoted and tagged, because PyYAML leaves texts plain that are numbers to Kubernetes, 0E0 for one.
    assert read_document(yaml.safe_dump(value, allow_unicode=True, default_style='"')) == value


@given(VALUES)
def test_json_is_yaml(value: Any) -> None:
    assert read_document(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("~", None),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("-12", -12),
        ("0", 0),
        ("1.5e3", 1500.0),
        ("0x", "0x"),
        ("0b_", "0b_"),
        ("1.2.3", "1.2.3"),
        ("10.96.0.1", "10.96.0.1"),
        ("22:22", "22:22"),
        ("2026-01-01", "2026-01-01"),
        ("Yes", True),
        ("oFF", "oFF"),
        ("y", True),
        ("N", False),
        ("n: 1", {"false": 1}),
        ("'yes'", "yes"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("!!int 0x10", 16),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ('"<<": 1', {"<<": 1}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read_document(text) == value
    assert type(read_document(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # PyYAML 6.0.4 has a limit of its own.
        ("[" * 100_000 + "]" * 100_000, "nested deeper|maximum nesting depth"),
        ("- " * 100_000, "nested deeper"),
        ("a: &a [*a]", "without its anchor"),
        ("a: 1\na: 2", "the key 'a' twice"),
        ("[a]: 1", "as a key"),
        ("1.5: a", "neither text nor a whole number"),
        ("!!python/object/apply:os.system [id]", "the tag"),
        ("!!binary aGFsbG8=", "the tag"),
        ("!!int x", "not what its tag says"),
        ("-.inf", "which JSON does not have"),
        ("1e999", "too big"),
        ("<<: a", "merges"),
        ("a: [", "is no YAML"),
        ("a: \x00", "is no YAML"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(YamlError, match=reason):
        read_document(text)


def test_depth_is_allowed_up_to_the_limit() -> None:
    assert read_document("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(YamlError, match=f"deeper than {MAX_DEPTH}"):
        read_document("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_aliases_are_allowed_up_to_a_number_of_values() -> None:
    thousand = "a: &a [" + "x, " * 999 + "]\n"
    many = thousand + "b: [" + "*a, " * (MAX_ALIASED // 1000) + "]"
    assert len(read_document(many)["b"]) == MAX_ALIASED // 1000
    with pytest.raises(YamlError, match="through its aliases"):
        read_document(many.replace("b: [", "b: [*a, "))

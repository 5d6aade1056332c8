# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes to a node runs on Python 3.8, the oldest that ansible-core 2.18 manages.

This looks for what a newer Python accepts without a word; `ansible-test sanity` imports everything with each Python
that is on the machine, but not every machine has an old one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# Since 3.9 or 3.10.
NEW_METHODS = frozenset(["removeprefix", "removesuffix", "bit_count"])
NEW_MODULES = frozenset(["graphlib", "tomllib", "zoneinfo"])
NEW_KEYWORDS = {"zip": "strict", "dataclass": "slots", "dataclasses.dataclass": "slots"}
NEW_FUNCTIONS = frozenset(["functools.cache", "itertools.pairwise", "itertools.batched", "math.lcm"])
# These take type arguments in annotations, which nobody evaluates, but not while a program runs.
BUILTIN_GENERICS = frozenset(["dict", "frozenset", "list", "set", "tuple", "type"])
GENERIC_MODULES = frozenset(["collections", "collections.abc", "contextlib", "re"])


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those of annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from evaluated(child)


def _none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def too_new(text: str) -> Iterator[str]:
    """What in a program Python 3.8 would refuse, with its line."""
    tree = ast.parse(text, feature_version=(3, 8))
    if tree.body and "from __future__ import annotations" not in text:
        yield "1: lacks `from __future__ import annotations`"
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    generics = BUILTIN_GENERICS | {a.name for node in imports if node.module in GENERIC_MODULES for a in node.names}
    for node in imports:
        for alias in node.names:
            if f"{node.module}.{alias.name}" in NEW_FUNCTIONS or node.module in NEW_MODULES:
                yield f"{node.lineno}: imports {node.module}.{alias.name}"
    for node in evaluated(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in generics:
            yield f"{node.lineno}: evaluates {ast.unparse(node)}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and (_none(node.left) or _none(node.right)):
            yield f"{node.lineno}: evaluates {ast.unparse(node)}"
        if isinstance(node, ast.Attribute) and (node.attr in NEW_METHODS or ast.unparse(node) in NEW_FUNCTIONS):
            yield f"{node.lineno}: uses {ast.unparse(node)}"
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: imports {alias.name}" for alias in node.names if alias.name in NEW_MODULES)
        if isinstance(node, ast.Call):
            keyword = NEW_KEYWORDS.get(ast.unparse(node.func))
            if keyword in [given.arg for given in node.keywords if given.arg]:
                yield f"{node.lineno}: gives {ast.unparse(node.func)} the argument {keyword}"


def test_plugins_need_no_newer_python(checkout: Path) -> None:
    found = []
    for path in sorted((checkout / "plugins").rglob("*.py")):
        found += [f"{path.relative_to(checkout)}:{what}" for what in too_new(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x = 1", "1: lacks `from __future__ import annotations`"),
        ("Pairs = dict[str, int]", "2: evaluates dict[str, int]"),
        ("from collections.abc import Mapping\nKnown = Mapping[str, int]", "3: evaluates Mapping[str, int]"),
        ("class A(list[int]):\n    pass", "2: evaluates list[int]"),
        ("Maybe = int | None", "2: evaluates int | None"),
        ("x = 'ab'.removeprefix('a')", "2: uses 'ab'.removeprefix"),
        ("from functools import cache", "2: imports functools.cache"),
        ("import functools\nf = functools.cache(len)", "3: uses functools.cache"),
        ("import zoneinfo", "2: imports zoneinfo"),
        ("zip([1], [2], strict=True)", "2: gives zip the argument strict"),
    ],
)
def test_news_are_found(text: str, wrong: str) -> None:
    given = text if wrong.startswith("1: lacks") else f"from __future__ import annotations\n{text}"
    assert list(too_new(given)) == [wrong]


def test_newer_syntax_is_refused() -> None:
    with pytest.raises(SyntaxError):
        list(too_new("match 1:\n    case 1:\n        pass"))


def test_annotations_may_be_new() -> None:
    text = "from __future__ import annotations\ndef f(a: dict[str, int] | None) -> list[int]:\n    b: set[int] = set()"
    assert list(too_new(text)) == []

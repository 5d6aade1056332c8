# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""YAML read as Kubernetes reads it, and as what a stranger may have written: plain JSON values out, whatever goes in.

PyYAML's own constructors recurse (a deep nesting ends the process) and share what an alias names (a small file can
stand for billions of values). So only its parser is used: the values are built from its events, in a loop, with limits.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import math
import re
import traceback
from typing import Any, NamedTuple

try:
    import yaml
    from yaml.events import (
        AliasEvent,
        MappingEndEvent,
        MappingStartEvent,
        ScalarEvent,
        SequenceEndEvent,
        SequenceStartEvent,
    )
except ImportError:
    YAML_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    YAML_IMPORT_ERROR = None

MAX_DEPTH = 100
MAX_ALIASED = 1_000_000

_TAG = "tag:yaml.org,2002:"
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    word: value
    for words, value in ((("true", "yes", "y", "on"), True), (("false", "no", "n", "off"), False))
    for base in words
    for word in (base, base.capitalize(), base.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|0b[01][01_]*|0o?[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_A_NUMBER = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


class YamlError(ValueError):
    """What is wrong with a document, as the end of a sentence."""


def read_document(text: str) -> Any:
    """The value of a text with one YAML document: dicts with text keys, lists, texts, numbers, booleans, None.

    As in Kubernetes, dates are texts, and a key that is there twice is an error. Raises ``YamlError``.
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.add(event)
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        where = f" in its line {mark.line + 1}" if mark is not None else ""
        problem = getattr(wrong, "problem", None) or getattr(wrong, "reason", None) or "it can't be parsed"
        raise YamlError(f"is no YAML: {' '.join(str(problem).split())}{where}") from None
    return builder.value


class _Open(NamedTuple):
    """A list or mapping that is not closed yet; ``keys`` holds the key whose value is awaited, None for a
    merge."""

    value: Any
    anchor: str | None
    count_before: int
    keys: list[str | None]
    merged: list[dict[str, Any]]


class _Builder:
    """Puts the values of one document together."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._aliased = 0

    def add(self, event: Any) -> None:
        if isinstance(event, ScalarEvent):
            self._count += 1
            value = _scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            # In quotes it is a key like any other.
            self._put(value, key=True, merge=value == "<<" and event.implicit[0])
        elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
            self._start(event)
        elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
            self._end()
        elif isinstance(event, AliasEvent):
            self._alias(event.anchor)

    def _start(self, event: Any) -> None:
        self._count += 1
        mapping = isinstance(event, MappingStartEvent)
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(f"is nested deeper than {MAX_DEPTH} levels")
        if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            raise YamlError(f"has the tag {_shown(event.tag)}, which Kubernetes does not know")
        self._open.append(_Open({} if mapping else [], event.anchor, self._count, [], []))

    def _end(self) -> None:
        closed = self._open.pop()
        for base in closed.merged:
            for key, value in base.items():
                closed.value.setdefault(key, value)
        if closed.anchor:
            self._anchors[closed.anchor] = (closed.value, self._count - closed.count_before + 1)
        self._put(closed.value, key=False)

    def _alias(self, anchor: str | None) -> None:
        if anchor is None or anchor not in self._anchors:
            raise YamlError(f"has the alias {_shown(f'*{anchor}')} without its anchor before it")
        value, count = self._anchors[anchor]
        self._count += count
        self._aliased += count
        if self._aliased > MAX_ALIASED:
            raise YamlError(f"stands for more than {MAX_ALIASED} values through its aliases")
        self._put(value, key=not isinstance(value, (dict, list)))

    def _put(self, value: Any, key: bool, merge: bool = False) -> None:
        """Puts a finished value where it belongs; ``key``: it may be a key, ``merge``: it is that of a merge."""
        if not self._open:
            self.value = value
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.keys:
            name = parent.keys.pop()
            if name is None:
                parent.merged.extend(_bases(value))
            else:
                parent.value[name] = value
        elif not key:
            raise YamlError("has a list or a mapping as a key")
        else:
            name = _key(value)
            if name in parent.value:
                raise YamlError(f"has the key {_shown(name)} twice")
            parent.keys.append(None if merge else name)


def _bases(value: Any) -> list[dict[str, Any]]:
    bases = value if isinstance(value, list) else [value]
    if not all(isinstance(base, dict) for base in bases):
        raise YamlError("merges (<<) something that is no mapping")
    return bases


def _key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise YamlError("has a key that is neither text nor a whole number")


def _scalar(event: Any) -> Any:
    text, tag = event.value, event.tag
    if tag is None or tag == "!":
        return _plain(text) if tag is None and event.implicit[0] else text
    if tag == _TAG + "str":
        return text
    value = _plain(text)
    kinds: dict[str, tuple[type, ...]] = {
        _TAG + "null": (type(None),),
        _TAG + "bool": (bool,),
        _TAG + "int": (int,),
        _TAG + "float": (int, float),
    }
    if tag not in kinds:
        raise YamlError(f"has the tag {_shown(tag)}, which Kubernetes does not know")
    if not isinstance(value, kinds[tag]):
        raise YamlError(f"has the value {_shown(text)}, which is not what its tag says")
    return value


def _plain(text: str) -> Any:
    """The value of a scalar without quotes."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _NOT_A_NUMBER.match(text):
        raise YamlError(f"has the number {text}, which JSON does not have")
    if len(text) > 100:
        return text
    if _INTEGER.match(text):
        return _integer(text.replace("_", ""))
    return _float(text) if _FLOAT.match(text) else text


def _integer(text: str) -> int:
    digits = text.lstrip("-+")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    value = int(digits, 8) if octal else int(digits, 0)
    return -value if text[0] == "-" else value


def _float(text: str) -> float:
    value = float(text.replace("_", ""))
    if math.isinf(value):
        raise YamlError(f"has the number {text}, which is too big")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What reading any object begins with: its name for messages, its metadata, and a reader that names it in its errors.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from . import values
from .errors import ObjectError
from .values import Broken

T = TypeVar("T")


def object_key(raw: object) -> str:
    """namespace/name of any object, fit for a message even if the object is hostile."""
    found = raw.get("metadata") if isinstance(raw, Mapping) else None
    if not isinstance(found, Mapping):
        return "(without metadata)"
    parts = [found[part] for part in ("namespace", "name") if found.get(part) is not None]
    return "/".join(
        part if isinstance(part, str) and len(part) <= 253 and part.isprintable() else values.shown(part)
        for part in parts
    ) or "(without a name)"  # fmt: skip


def reader(kind: str, read: Callable[[Mapping[str, Any]], T]) -> Callable[[object], T]:
    """Turns ``Broken`` into an ``ObjectError`` that names the object."""

    def checked(raw: object) -> T:
        try:
            return read(values.mapping(raw, "the object"))
        except Broken as wrong:
            raise ObjectError(kind, object_key(raw), str(wrong)) from None

    return checked


def metadata(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of an object."""
    return values.mapping(raw.get("metadata"), "metadata")


def filled(**fields: Any) -> dict[str, Any]:
    """The fields that say something, in their order: a canonical object has no others."""
    return {name: value for name, value in fields.items() if value}

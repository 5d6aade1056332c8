# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which objects of a cluster get into the snapshot: those of some namespaces, and Services that an expression picks.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError, OptionError
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.objects import object_key

try:
    import jmespath
    import jmespath.exceptions
except ImportError:
    JMESPATH_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    JMESPATH_IMPORT_ERROR = None

CLUSTER_WIDE = ("Node", "ServiceCIDR")


class Selection:
    """A JMESPath expression over Services.

    One that begins with ``[`` is asked of a list that holds the Service (``[?spec.type=='LoadBalancer']``), any other
    of the Service itself (``spec.type == 'LoadBalancer'``). The Service is picked if the answer is true as JMESPath
    means it.
    """

    def __init__(self, expression: str) -> None:
        try:
            self._compiled = jmespath.compile(expression)
        except jmespath.exceptions.JMESPathError as wrong:
            raise OptionError(f"select is not a JMESPath expression: {' '.join(str(wrong).split())}.") from None
        self._of_list = expression.lstrip().startswith("[")

    def picks(self, service: Mapping[str, Any]) -> bool:
        """Is the Service picked? Raises ``ObjectError`` if the expression can't be asked of it."""
        try:
            answer = self._compiled.search([service] if self._of_list else service)
        except (jmespath.exceptions.JMESPathError, TypeError, ValueError, AttributeError, RecursionError) as wrong:
            reason = f"select can't be asked of it: {' '.join(str(wrong).split())[:200]}"
            raise ObjectError("Service", object_key(service), reason) from None
        return not (answer is None or answer is False or answer == "" or answer == [] or answer == {})


def chosen(
    objects: Iterable[Mapping[str, Any]],
    namespaces: Iterable[str],
    selection: Selection | None,
    pods: bool,
    refused: list[ObjectError],
) -> Iterator[Mapping[str, Any]]:
    """The objects of the namespaces, with only the Services that ``selection`` picks; without either, all.

    Services of which the expression can't be asked are appended to ``refused``.
    """
    wanted = frozenset(namespaces)
    for raw in objects:
        kind = raw.get("kind")
        if (kind == "Pod" and not pods) or (wanted and not _is_in(raw, wanted)):
            continue
        if kind == "Service" and selection is not None:
            try:
                if not selection.picks(raw):
                    continue
            except ObjectError as wrong:
                refused.append(wrong)
                continue
        yield raw


def _is_in(raw: Mapping[str, Any], namespaces: frozenset[str]) -> bool:
    """Broken objects count as in: they are refused by name later."""
    metadata = raw.get("metadata")
    if raw.get("kind") in CLUSTER_WIDE or not isinstance(metadata, Mapping):
        return True
    name = metadata.get("name") if raw.get("kind") == "Namespace" else metadata.get("namespace") or "default"
    return not isinstance(name, str) or name in namespaces

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps what the Python of a node compiles: imported by Python itself when it starts with this directory in PYTHONPATH.

Ansible sends every module as an archive of sources, and Python compiles all of it each time, which is half of what a
task costs. Here compiled code is found again by the content of its source. A traceback names the archive in which the
source came first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import marshal
import os
import sys
import zipimport
from types import CodeType

# What the node's Python starts is none of our business.
del os.environ["PYTHONPATH"]
sys.path.remove(os.path.dirname(__file__))
PLACE = os.environ.pop("SERVICENET_COMPILED")
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _kept(path: str, source: bytes) -> CodeType:
    """Takes the place of the function that compiles a file of an archive. The hash depends on the version of Python."""
    kept = os.path.join(PLACE, f"{importlib.util.source_hash(source).hex()}-{len(source)}")
    with contextlib.suppress(OSError), open(kept, "rb") as stream:
        return marshal.load(stream)  # type: ignore[no-any-return]
    code: CodeType = _compile(path, source)
    # The nodes of a lab have processes of the same number.
    mine = f"{kept}.{os.urandom(8).hex()}"
    with contextlib.suppress(OSError), open(mine, "wb") as stream:
        marshal.dump(code, stream)
        os.replace(mine, kept)
    return code


zipimport._compile_source = _kept  # type: ignore[attr-defined]

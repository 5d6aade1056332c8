# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports from the archive in which Ansible sends a module: Python's own way compiles every source twice.

zipimport asks itself for the name of a module's file before it runs the module, and compiles the source for either. A
module of this collection brings some sixty sources, so that this is a tenth of a second.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import pkgutil
import sys
from typing import Any
from zipimport import ZipImportError, zipimporter


def compile_once() -> None:
    """From here on, what is imported of this collection is compiled once. Without an archive nothing changes."""
    package = sys.modules[str(__package__)]
    if isinstance(package.__loader__, zipimporter):
        sys.meta_path.insert(0, _Finder(f"{package.__name__}."))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the sources of a package that lies in an archive; all else is left to whoever is asked next."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def find_spec(self, fullname: str, path: Any = None, _target: Any = None) -> Any:
        """As ``importlib`` asks for it."""
        for place in path or () if fullname.startswith(self._prefix) else ():
            archive = pkgutil.get_importer(place)
            if not isinstance(archive, zipimporter):
                continue
            try:
                is_package = archive.is_package(fullname)
            except ZipImportError:
                continue
            own = os.path.join(place, fullname.rpartition(".")[2])
            file = os.path.join(own, "__init__.py") if is_package else f"{own}.py"
            return importlib.util.spec_from_file_location(
                fullname,
                file,
                loader=_Loader(archive, file),
                submodule_search_locations=[own] if is_package else None,
            )
        return None


class _Loader(importlib.abc.ExecutionLoader):
    """Runs one source of an archive."""

    def __init__(self, archive: zipimporter, file: str) -> None:
        self._archive, self._file = archive, file

    def get_source(self, fullname: str) -> str | None:
        """The source."""
        return self._archive.get_source(fullname)

    def get_filename(self, _fullname: str) -> str:
        """What a traceback names."""
        return self._file

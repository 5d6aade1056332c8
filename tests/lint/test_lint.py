# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every linter is a test, so that its verdict is counted with all others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from collection_tree import collections_path
from tools import tracked, verdict

COLLECTION = "ansible_collections.kubenode.servicenet"

TOOLS: dict[str, tuple[str, ...]] = {
    "ruff check": ("ruff", "check", "--quiet", "--output-format=concise", "."),
    "ruff format": ("ruff", "format", "--check", "--output-format=concise", "."),
    "reuse": ("reuse", "lint"),
    "yamllint": ("yamllint", "--strict", "."),
    "antsibull-changelog": ("antsibull-changelog", "lint"),
    "antsibull-docs": (
        *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck"),
        *("--validate-collection-refs=self", "--disallow-unknown-collection-refs", "."),
    ),
}


@pytest.mark.parametrize("command", TOOLS.values(), ids=TOOLS.keys())
def test_tool(command: tuple[str, ...], checkout: Path) -> None:
    verdict(command, checkout)


def test_mypy_on_the_collection(checkout: Path, cache: Path) -> None:
    # The collection's own names are only known where it stands below ansible_collections.
    settings = ("--config-file", str(checkout / "pyproject.toml"), "--cache-dir", str(cache / "mypy"))
    verdict(("mypy", *settings, "--package", f"{COLLECTION}.plugins"), collections_path())


def test_mypy_on_the_test_runner(checkout: Path, cache: Path) -> None:
    files = [name for name in tracked(checkout, "tests/*.py") if name.count("/") == 1 or name.startswith("tests/lint/")]
    settings = ("--cache-dir", str(cache / "mypy-tests"))
    verdict(("mypy", *settings, *files), checkout, MYPYPATH="tests")


def test_ansible_lint(checkout: Path, cache: Path) -> None:
    verdict(
        ("ansible-lint", "--offline", "--strict", "--nocolor", "-q"),
        checkout,
        ANSIBLE_COLLECTIONS_PATH=str(collections_path()),
        ANSIBLE_HOME=str(cache / "ansible"),
    )


def test_shellcheck(checkout: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed; tests/provision/packages test installs it")
    shells = ("#!/usr/bin/env bash", "#!/bin/bash", "#!/bin/sh")
    scripts = [name for name in tracked(checkout) if first_line(checkout / name).startswith(shells)]
    assert scripts
    verdict(("shellcheck", "--external-sources", *scripts), checkout)


def first_line(path: Path) -> str:
    """The first line of a file, or an empty text if that is no text."""
    with path.open("rb") as stream:
        return stream.readline(200).decode("utf-8", "replace")


# These have no room for a header: texts for people, recorded data, checksums, and what tools write. REUSE.toml speaks
# for them.
WITHOUT_HEADER = (".gitignore", "REUSE.toml", "LICENSES/", "changelogs/changelog.yaml", "changelogs/fragments/")
WITHOUT_HEADER_ENDINGS = (".md", ".gz", ".json", ".png", "go.sum")


# REUSE-IgnoreStart: the next lines are no statement about this file.
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
# REUSE-IgnoreEnd


def test_licence_headers(checkout: Path) -> None:
    bare = [
        name
        for name in tracked(checkout)
        if not name.startswith(WITHOUT_HEADER)
        and not name.endswith(WITHOUT_HEADER_ENDINGS)
        and "/cases/" not in name
        and (checkout / name).stat().st_size > 0
        and LICENCE not in (checkout / name).read_text(errors="replace")[:600]
    ]
    assert not bare, "these files do not say under which licence they are: " + ", ".join(bare)

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests: which files are read, how they are parted into documents, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures import malformed

from ansible_collections.kubenode.servicenet.plugins.module_utils._cluster import manifests
from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ObjectError, OptionError


def read(*paths: Path) -> tuple[list[dict[str, Any]], list[str]]:
    refused: list[ObjectError] = []
    files = manifests.find_files([str(path) for path in paths])
    return list(manifests.read_manifests(files, refused)), [str(wrong) for wrong in refused]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [raw["metadata"]["name"] for raw in found]


def test_files_of_directories_are_sorted_and_read_once(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "deep/er/c.json", ".hidden.yaml", ".git/d.yaml", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "odd").write_text("{}")
    found = manifests.find_files([str(tmp_path / "b.yaml"), str(tmp_path), str(tmp_path / "odd")])
    assert [Path(path).name for path in found] == ["b.yaml", "a.yml", "c.json", "odd"]


def test_paths_that_lead_nowhere_are_errors(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"There is no .*/nothing"):
        manifests.find_files([str(tmp_path / "nothing")])
    with pytest.raises(OptionError, match="has no file that ends in"):
        manifests.find_files([str(tmp_path)])


def test_documents_are_parted_as_yaml_says(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(
        "%YAML 1.2\n# nothing yet\n---\nkind: A\nmetadata: {name: a}\n--- # next\nkind: B\nmetadata: {name: b}\n...\n"
        "# between\n---\n---\n--- {kind: C, metadata: {name: c}}\n---\nkind: D\nmetadata:\n  name: d\n"
        "  text: |\n    ---\n    x\n  more: a---b\n"
    )
    found, refused = read(path)
    assert names(found) == ["a", "b", "c", "d"]
    assert found[3]["metadata"]["text"] == "---\nx\n"
    assert refused == []


def test_a_byte_order_mark_and_dos_lines_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "dos.yaml"
    path.write_bytes(b"\xef\xbb\xbfkind: A\r\nmetadata: {name: a}\r\n---\r\nkind: B\r\nmetadata: {name: b}\r\n")
    assert names(read(path)[0]) == ["a", "b"]


def test_a_broken_document_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("kind: A\nmetadata: {name: a}\n---\nkind: [\n---\nkind: C\nmetadata: {name: c}\n")
    found, refused = read(path)
    assert names(found) == ["a", "c"]
    assert len(refused) == 1
    assert refused[0].startswith(f"Manifest {path} document 2 (line 3): is no YAML")


def test_lists_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({"kind": "List", "items": [{"kind": "Service", "metadata": {"name": "a"}}]})
    )
    (tmp_path / "b.yaml").write_text(
        "kind: ServiceList\nitems:\n- metadata: {name: b}\n- {metadata: {name: c}, kind: Service}\n"
    )
    (tmp_path / "c.yaml").write_text("kind: ServiceList\nitems: null\n")
    found, refused = read(tmp_path)
    assert [(raw["kind"], raw["metadata"]["name"]) for raw in found] == [("Service", name) for name in "abc"]
    assert refused == []


def test_a_file_that_is_too_big_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_BYTES", 10)
    (tmp_path / "big.yaml").write_text("kind: Service\n")
    with pytest.raises(OptionError, match="split it"):
        read(tmp_path)


@pytest.mark.parametrize("document", malformed.documents(), ids=lambda document: document.what)
def test_what_is_no_object_is_refused_by_its_place(document: malformed.Document, tmp_path: Path) -> None:
    path = tmp_path / f"one{document.suffix}"
    path.write_bytes(document.data)
    found, refused = read(path)
    assert found == []
    assert len(refused) == 1
    assert refused[0].startswith(f"Manifest {path} document 1 (line 1)")
    assert refused[0].isprintable()
    assert len(refused[0]) < len(str(path)) + 200

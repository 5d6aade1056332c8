# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes docs/reference of the documentation of modules and roles, one page each: `make docs`.

    python tests/pages/reference.py [DIRECTORY]

What ansible-doc says is what the page shows, so options of fragments and of argument_specs are in it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collection_tree import CHECKOUT, collections_path

COLLECTION = "kubenode.servicenet"
REFERENCE = CHECKOUT / "docs" / "reference"
HEADER = """<!--
Copyright (c) 2026, the kubenode.servicenet developers
GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->
<!-- Made by `make docs` of the documentation in the code; change that. -->
"""
_MARKUP = re.compile(r"\b([A-Z]{1,2})\(((?:\\.|[^()\\])*)\)")


def documented() -> dict[str, dict[str, Any]]:
    """What ansible-doc knows of this collection: kind ("module", "role") -> short name -> its documentation."""
    program = Path(sys.executable).parent / "ansible-doc"
    environment = os.environ | {"ANSIBLE_COLLECTIONS_PATH": str(collections_path())}
    command = [str(program), "--metadata-dump", COLLECTION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ansible-doc could not read the documentation: {done.stderr.strip()}")
    found = json.loads(done.stdout)["all"]
    return {
        kind: {name.removeprefix(f"{COLLECTION}."): doc for name, doc in sorted(found[kind].items())}
        for kind in ("module", "role")
    }


def marked(text: str) -> str:
    """Ansible's markup as Markdown."""

    def replaced(match: re.Match[str]) -> str:
        # RV(ignore:name) is how a fragment names a return value that not every module of it has.
        kind, inner = (
            match[1],
            match[2].removeprefix("ignore:").replace("\\)", ")").replace("\\(", "(").replace("\\\\", "\\"),
        )
        if kind == "M" and inner.startswith(f"{COLLECTION}."):
            return f"[{inner}]({inner.rpartition('.')[2]}.md)"
        if kind == "P" and inner.startswith(f"{COLLECTION}.") and inner.endswith("#role"):
            name = inner.removesuffix("#role").rpartition(".")[2]
            return f"[{name}](role_{name}.md)"
        if kind in ("B", "I"):
            return f"*{inner}*"
        return f"`{inner}`" if kind in ("C", "E", "M", "O", "P", "RV", "V") else match[0]

    return _MARKUP.sub(replaced, text)


def _texts(told: Any) -> list[str]:
    """A description, which may be one text or a list of them."""
    return [marked(str(text).strip()) for text in ([told] if isinstance(told, str) else told or [])]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "*required*"
    default = option.get("default")
    if default is None:
        return ""
    return _cell(f"`{default}`" if isinstance(default, str) and default else f"`{json.dumps(default)}`")


def _rows(options: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """A row for each option, and below it for each of its suboptions."""
    for name, option in sorted(options.items()):
        text = " ".join(_texts(option.get("description")))
        if option.get("choices"):
            shown = option["choices"]
            text += f" One of {', '.join(f'`{choice}`' for choice in shown)}."
        if option.get("aliases"):
            text += f" Also called {', '.join(f'`{alias}`' for alias in option['aliases'])}."
        yield f"| `{inside}{name}` | {_type(option)} | {_default(option)} | {_cell(text)} |"
        yield from _rows(option.get("options") or {}, f"{inside}{name}.")


def _returned(values: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    for name, value in sorted(values.items()):
        text = _cell(" ".join(_texts(value.get("description"))))
        when = _cell(marked(str(value.get("returned", ""))))
        yield f"| `{inside}{name}` | {_type(value)} | {when} | {text} |"
        yield from _returned(value.get("contains") or {}, f"{inside}{name}.")


def _listed(texts: list[str]) -> list[str]:
    return [f"- {text}" for text in texts]


def module_page(name: str, documentation: Mapping[str, Any]) -> str:
    """The page of one module."""
    doc = documentation["doc"]
    lines = [HEADER, f"# Module {COLLECTION}.{name}", "", f"{marked(doc['short_description'])}.", ""]
    lines += [*_listed(_texts(doc["description"])), ""]
    if doc.get("requirements"):
        lines += ["It needs:", "", *_listed(_texts(doc["requirements"])), ""]
    lines += [
        "## Options",
        "",
        "| option | type | default | |",
        "|---|---|---|---|",
        *_rows(doc.get("options") or {}),
        "",
    ]
    if doc.get("notes"):
        lines += ["## Notes", "", *_listed(_texts(doc["notes"])), ""]
    if doc.get("attributes"):
        lines += ["## Attributes", "", "| attribute | support | |", "|---|---|---|"]
        for attribute, told in sorted(doc["attributes"].items()):
            text = " ".join([*_texts(told.get("description")), *_texts(told.get("details"))])
            lines.append(f"| {attribute} | {told.get('support', '')} | {_cell(text)} |")
        lines.append("")
    lines += ["## Examples", "", "```yaml", str(documentation["examples"]).strip(), "```", ""]
    if documentation.get("return"):
        lines += ["## Return values", "", "| value | type | returned | |", "|---|---|---|---|"]
        lines += [*_returned(documentation["return"]), ""]
    return "\n".join(lines)


def role_page(name: str, documentation: Mapping[str, Any]) -> str:
    """The page of one role, with all of its entry points."""
    lines = [HEADER, f"# Role {COLLECTION}.{name}", ""]
    lines += [f"Its README, with examples: [roles/{name}](../../roles/{name}/README.md).", ""]
    for entry, spec in sorted(documentation["entry_points"].items(), key=lambda item: (item[0] != "main", item[0])):
        if entry != "main":
            lines += [f"## tasks_from: {entry}", ""]
        lines += [f"{marked(spec['short_description'])}.", "", *_listed(_texts(spec.get("description"))), ""]
        if spec.get("options"):
            lines += ["| variable | type | default | |", "|---|---|---|---|", *_rows(spec["options"]), ""]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """All pages of the reference: file name -> text."""
    found = documented()
    made = {f"{name}.md": module_page(name, doc) for name, doc in found["module"].items()}
    made |= {f"role_{name}.md": role_page(name, doc) for name, doc in found["role"].items()}
    lines = [HEADER, "# Reference", "", "| module | |", "|---|---|"]
    for name, doc in found["module"].items():
        lines.append(f"| [{name}]({name}.md) | {marked(doc['doc']['short_description'])} |")
    lines += ["", "| role | |", "|---|---|"]
    for name, doc in found["role"].items():
        lines.append(f"| [{name}](role_{name}.md) | {marked(doc['entry_points']['main']['short_description'])} |")
    return made | {"README.md": "\n".join([*lines, ""])}


def main() -> None:
    """Write the pages, and take away those of what is no more."""
    directory = Path(sys.argv[1]) if sys.argv[1:] else REFERENCE
    directory.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in directory.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()

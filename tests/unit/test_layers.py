# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may import whom, walked through the syntax trees: nothing of the collection is executed.

docs/design.md has the layers. What is imported decides what Ansible ships to a node and what can be tested without one,
so a breach is a fault even where everything still works.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

COLLECTION = ("ansible_collections", "kubenode", "servicenet")
UTILS = (*COLLECTION, "plugins", "module_utils")
MODULES = (*COLLECTION, "plugins", "modules")
LAYERS = ("_core", "_node", "_cluster")
ON_THE_CONTROLLER = ("cluster_snapshot", "endpoint_slices")
FOR_MODULES = ("_module", "_services_module", "_state_modules", "_dns_modules", "_unchanged_module")
MODES = ("iptables", "nftables", "ipvs", "userspace")
ONLY_FOR_A_CHANGE = (("_runner",), ("_programming",), ("_services",), ("_core", "snapshot"), ("_core", "passes"))
# A mode whose rules are another one's, with proxies as the only endpoints.
BUILT_ON = {"userspace": {"nftables"}}

# The pure core computes and does nothing else. io and gzip are here for bytes in memory; opening is caught below.
PURE = frozenset(
    """
    __future__ abc base64 binascii bisect collections contextlib copy dataclasses datetime decimal difflib enum
    fractions functools gzip hashlib heapq html io ipaddress itertools json math numbers operator re shlex string struct
    textwrap types typing unicodedata zlib
    """.split()  # noqa: SIM905 - sixty quotation marks would hide the words
)
# Reaching outside without an import, and the clock.
IMPURE_NAMES = frozenset(["open", "exec", "eval", "compile", "__import__", "input", "print", "breakpoint"])
IMPURE_ATTRIBUTES = frozenset(["open", "now", "utcnow", "today"])
# Modules and module_utils run inside Ansible's own process, which starts programs, ends and speaks for them.
NOT_IN_PLUGINS = frozenset(["subprocess", "multiprocessing", "pty"])

Name = tuple[str, ...]


@dataclass(frozen=True)
class Import:
    """One imported thing: its whole dotted name in parts, where it stands, and whether it may be missing."""

    name: Name
    line: int
    guarded: bool


class Source:
    """One file of ``plugins/`` and what it imports.

    :param plugins: the directory ``plugins``.
    :param path: the file.
    """

    def __init__(self, plugins: Path, path: Path) -> None:
        self.shown = str(path.relative_to(plugins.parent))
        parts = path.relative_to(plugins).with_suffix("").parts
        self.package_itself = parts[-1] == "__init__"
        self.name: Name = (*COLLECTION, "plugins", *(parts[:-1] if self.package_itself else parts))
        self.tree = ast.parse(path.read_text(), filename=self.shown, feature_version=(3, 8))
        self.imports = list(self._imports(self.tree, guarded=False))

    def within(self, *layer: str) -> bool:
        """Whether this file is of a layer of module_utils."""
        return self.name[: len(UTILS) + len(layer)] == (*UTILS, *layer)

    def _imports(self, node: ast.AST, guarded: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(tuple(alias.name.split(".")), child.lineno, guarded) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = self._base(child)
                yield from (Import((*base, alias.name), child.lineno, guarded) for alias in child.names)
            else:
                yield from self._imports(child, guarded or isinstance(child, ast.Try) or _only_for_types(child))

    def _base(self, node: ast.ImportFrom) -> Name:
        module = tuple(node.module.split(".")) if node.module else ()
        if node.level == 0:
            return module
        up = node.level - 1 if self.package_itself else node.level
        return (*self.name[: len(self.name) - up], *module)


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


class Plugins:
    """All Python files below a directory ``plugins``, by dotted name."""

    def __init__(self, plugins: Path) -> None:
        found = [Source(plugins, path) for path in sorted(plugins.rglob("*.py"))]
        self.sources = {source.name: source for source in found}

    def layer(self, *layer: str) -> list[Source]:
        """The files of one layer of module_utils."""
        return [source for source in self.sources.values() if source.within(*layer)]

    def modules(self) -> list[Source]:
        """The files of the modules."""
        return [s for s in self.sources.values() if s.name[: len(MODULES)] == MODULES and not s.package_itself]

    def target(self, imported: Import) -> Name | None:
        """The file of the collection that an import leads to: a module, or the module that a name is taken from."""
        for name in (imported.name, imported.name[:-1]):
            if name in self.sources:
                return name
        return None

    def reach(self, start: Name) -> set[Name]:
        """The files of the collection that Ansible ships with this one."""
        seen: set[Name] = set()
        ahead = [start]
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += [found for found in map(self.target, self.sources[name].imports) if found]
        return seen


def _own(name: Name) -> bool:
    return name[: len(COLLECTION)] == COLLECTION


def _mode_of(name: Name) -> str | None:
    """The mode whose file this is: ``_core/nftables.py`` and ``_core/nftables_maps.py`` are of mode nftables."""
    if name[: len(UTILS) + 1] != (*UTILS, "_core") or len(name) != len(UTILS) + 2:
        return None
    return next((mode for mode in MODES if name[-1] == mode or name[-1].startswith(f"{mode}_")), None)


def core_is_pure(plugins: Plugins) -> Iterator[str]:
    """The core imports itself, relatively, and what only computes; it opens nothing and asks no clock."""
    for source in plugins.layer("_core"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and _own(tuple((node.module or "").split("."))):
                yield f"{source.shown}:{node.lineno} imports the collection by its full name"
            if isinstance(node, ast.Name) and node.id in IMPURE_NAMES:
                yield f"{source.shown}:{node.lineno} uses {node.id}"
            if isinstance(node, ast.Attribute) and node.attr in IMPURE_ATTRIBUTES:
                yield f"{source.shown}:{node.lineno} uses .{node.attr}"
        for found in source.imports:
            inside = found.name[: len(UTILS) + 1] == (*UTILS, "_core")
            if not inside and found.name[0] not in PURE:
                yield f"{source.shown}:{found.line} imports {'.'.join(found.name)}"
            if not inside and _own(found.name):
                yield f"{source.shown}:{found.line} reaches out of the core"


def sides_are_apart(plugins: Plugins) -> Iterator[str]:
    """What touches a node and what talks to a cluster know the core, not each other, nor who calls them."""
    for side in ("_node", "_cluster"):
        for source in plugins.layer(side):
            for found in source.imports:
                known = found.name[: len(UTILS) + 1] in ((*UTILS, side), (*UTILS, "_core"))
                if _own(found.name) and not known:
                    yield f"{source.shown}:{found.line} imports {'.'.join(found.name[len(UTILS) :])}"
                if side == "_node" and found.name[0] == "ansible":
                    yield f"{source.shown}:{found.line} imports ansible"


def daemons_need_no_ansible(plugins: Plugins) -> Iterator[str]:
    """What serves modules alone says so in its name; all else at the top of module_utils runs without Ansible."""
    for source in plugins.sources.values():
        if source.within() and len(source.name) == len(UTILS) + 1 and source.name[-1] not in FOR_MODULES:
            reached = sorted(plugins.reach(source.name))
            for found in (found for name in reached for found in plugins.sources[name].imports):
                if found.name[0] == "ansible":
                    yield f"{source.shown} leads to {'.'.join(found.name[:2])}"


def libraries_are_guarded(plugins: Plugins) -> Iterator[str]:
    """A library from PyPI may be missing: only the cluster's side and filters use one, and they can say so."""
    for source in plugins.sources.values():
        for found in source.imports:
            if found.name[0] in ("kubernetes", "yaml", "netaddr", "jmespath", "urllib3", "requests"):
                if not (source.within("_cluster") or source.name[4] == "filter"):
                    yield f"{source.shown}:{found.line} imports {found.name[0]}"
                elif not found.guarded:
                    yield f"{source.shown}:{found.line} imports {found.name[0]} unguarded"


def modes_are_apart(plugins: Plugins) -> Iterator[str]:
    """A mode knows no other mode, and a module of one mode ships no other, by whatever way."""
    for source in plugins.layer("_core"):
        mode = _mode_of(source.name)
        if mode:
            others = {other for other in map(_mode_of, plugins.reach(source.name)) if other} - {
                mode,
                *BUILT_ON.get(mode, ()),
            }
            yield from (f"{source.shown} leads to mode {other}" for other in sorted(others))
    for source in plugins.modules():
        mode = next((mode for mode in MODES if source.name[-1] == f"{mode}_services"), None)
        if mode:
            others = {other for other in map(_mode_of, plugins.reach(source.name)) if other} - {
                mode,
                *BUILT_ON.get(mode, ()),
            }
            yield from (f"{source.shown} ships mode {other}" for other in sorted(others))


def modules_ship_one_side(plugins: Plugins) -> Iterator[str]:
    """A module works on a node or talks to a cluster; none brings the code for both along."""
    for source in plugins.modules():
        sides = {
            name[len(UTILS)]
            for name in plugins.reach(source.name)
            if name[: len(UTILS)] == UTILS and len(name) > len(UTILS)
        }
        if {"_node", "_cluster"} <= sides:
            yield f"{source.shown} ships both _node and _cluster"


def modules_are_thin(plugins: Plugins) -> Iterator[str]:
    """A module imports Ansible, private files at the top of module_utils, the errors, and its own mode or side."""
    for source in plugins.modules():
        for found in source.imports:
            target = plugins.target(found)
            if target is None and _own(found.name):
                yield f"{source.shown}:{found.line} imports {'.'.join(found.name)}, which is not there"
            if target is not None and not _may_import(source, target):
                yield f"{source.shown}:{found.line} imports {'.'.join(found.name[len(COLLECTION) + 1 :])}"


def _may_import(module: Source, target: Name) -> bool:
    inside = target[len(UTILS) :]
    mode = _mode_of(target)
    if mode:
        return module.name[-1] == f"{mode}_services"
    if inside[:1] == ("_cluster",):
        return module.name[-1] in ON_THE_CONTROLLER
    return inside == ("_core", "errors") or (len(inside) == 1 and inside[0] not in LAYERS)


def a_question_brings_no_mode(plugins: Plugins) -> Iterator[str]:
    """What every node is asked at every resync comes without what only a change needs."""
    for source in plugins.modules():
        if source.name[-1] == "service_rules_unchanged":
            for name in sorted(plugins.reach(source.name)):
                inside = name[len(UTILS) :]
                if inside in ONLY_FOR_A_CHANGE or _mode_of(name):
                    yield f"{source.shown} ships {'.'.join(inside)}"


def plugins_keep_still(plugins: Plugins) -> Iterator[str]:
    """Plugins start no process of their own, and do not print, exit or assert."""
    for source in plugins.sources.values():
        for found in source.imports:
            if found.name[0] in NOT_IN_PLUGINS:
                yield f"{source.shown}:{found.line} imports {found.name[0]}"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assert):
                yield f"{source.shown}:{node.lineno} asserts"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "os.system"):
                yield f"{source.shown}:{node.lineno} calls {ast.unparse(node.func)}"


Rule = Callable[[Plugins], Iterator[str]]
RULES: tuple[Rule, ...] = (
    core_is_pure,
    sides_are_apart,
    daemons_need_no_ansible,
    libraries_are_guarded,
    modes_are_apart,
    modules_ship_one_side,
    modules_are_thin,
    a_question_brings_no_mode,
    plugins_keep_still,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_collection_keeps_its_layers(rule: Rule, checkout: Path) -> None:
    plugins = Plugins(checkout / "plugins")
    assert plugins.layer("_core"), "the walk found no core"
    assert list(rule(plugins)) == []


FULL = "ansible_collections.kubenode.servicenet.plugins.module_utils"
UNDER = "module_utils"


@pytest.mark.parametrize(
    ("rule", "files", "breach"),
    [
        (core_is_pure, {"_core/a.py": "import os"}, "_core/a.py:1 imports os"),
        (core_is_pure, {"_core/a.py": "from time import sleep"}, "_core/a.py:1 imports time.sleep"),
        (core_is_pure, {"_core/a.py": "import yaml"}, "_core/a.py:1 imports yaml"),
        (core_is_pure, {"_core/a.py": "def f():\n    from .._node import b"}, "_core/a.py:2 reaches out of the core"),
        (
            core_is_pure,
            {"_core/a.py": f"from {FULL}._core import b"},
            "_core/a.py:1 imports the collection by its full name",
        ),
        (core_is_pure, {"_core/a.py": "open('/etc/passwd')"}, "_core/a.py:1 uses open"),
        (core_is_pure, {"_core/a.py": "import gzip\ngzip.open('x')"}, "_core/a.py:2 uses .open"),
        (core_is_pure, {"_core/a.py": "import datetime\ndatetime.datetime.now()"}, "_core/a.py:2 uses .now"),
        (sides_are_apart, {"_node/a.py": "from .._cluster import b"}, "_node/a.py:1 imports _cluster.b"),
        (sides_are_apart, {"_node/a.py": "from .. import _runner"}, "_node/a.py:1 imports _runner"),
        (sides_are_apart, {"_cluster/a.py": f"from {FULL}._node.b import c"}, "_cluster/a.py:1 imports _node.b.c"),
        (sides_are_apart, {"_node/a.py": "from ansible.module_utils import basic"}, "_node/a.py:1 imports ansible"),
        (
            daemons_need_no_ansible,
            {"_services.py": "from ._module import x", "_module.py": "from ansible.module_utils import basic"},
            "_services.py leads to ansible.module_utils",
        ),
        (
            libraries_are_guarded,
            {"_node/a.py": "try:\n    import yaml\nexcept ImportError:\n    pass"},
            "_node/a.py:2 imports yaml",
        ),
        (libraries_are_guarded, {"_cluster/a.py": "import kubernetes"}, "_cluster/a.py:1 imports kubernetes unguarded"),
        (
            modes_are_apart,
            {"_core/ipvs.py": "from . import iptables", "_core/iptables.py": ""},
            "_core/ipvs.py leads to mode iptables",
        ),
        (
            modes_are_apart,
            {
                "_core/ipvs.py": "from .text_iptables import x",
                "_core/text_iptables.py": "from .nftables_maps import y",
                "_core/nftables_maps.py": "",
            },
            "_core/ipvs.py leads to mode nftables",
        ),
        (
            modes_are_apart,
            {
                "../modules/ipvs_services.py": f"from {FULL}._runner import run",
                "_runner.py": "from ._core import userspace",
                "_core/userspace.py": "",
            },
            "../modules/ipvs_services.py ships mode userspace",
        ),
        (
            modules_are_thin,
            {"../modules/service_probe.py": f"from {FULL}._node.nft import x", "_node/nft.py": ""},
            "../modules/service_probe.py:1 imports module_utils._node.nft.x",
        ),
        (
            modules_are_thin,
            {"../modules/service_probe.py": f"from {FULL}._cluster.api import x", "_cluster/api.py": ""},
            "../modules/service_probe.py:1 imports module_utils._cluster.api.x",
        ),
        (
            modules_ship_one_side,
            {
                "../modules/cluster_snapshot.py": f"from {FULL} import _both",
                "_both.py": "from ._node import a\nfrom ._cluster import b",
                "_node/a.py": "",
                "_cluster/b.py": "",
            },
            "../modules/cluster_snapshot.py ships both _node and _cluster",
        ),
        (
            modules_are_thin,
            {"../modules/service_probe.py": f"from {FULL}._core import ipvs", "_core/ipvs.py": ""},
            "../modules/service_probe.py:1 imports module_utils._core.ipvs",
        ),
        (
            modules_are_thin,
            {"../modules/service_probe.py": f"from {FULL}._gone import x"},
            f"../modules/service_probe.py:1 imports {FULL}._gone.x, which is not there",
        ),
        (
            a_question_brings_no_mode,
            {
                "../modules/service_rules_unchanged.py": f"from {FULL}._late import x",
                "_late.py": "def f():\n    from ._core import snapshot",
                "_core/snapshot.py": "",
            },
            "../modules/service_rules_unchanged.py ships _core.snapshot",
        ),
        (
            plugins_keep_still,
            {"_node/a.py": "from __future__ import annotations\nimport subprocess"},
            "_node/a.py:2 imports subprocess",
        ),
        (plugins_keep_still, {"_node/a.py": "from __future__ import annotations\nassert True"}, "_node/a.py:2 asserts"),
    ],
)
def test_breach_is_found(rule: Rule, files: dict[str, str], breach: str, tmp_path: Path) -> None:
    utils = tmp_path / "plugins" / UNDER
    for name, text in {"__init__.py": "", "_core/__init__.py": "", "_node/__init__.py": "", **files}.items():
        path = (utils / name).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shown = breach.replace("../modules", "plugins/modules") if "../" in breach else f"plugins/{UNDER}/{breach}"
    assert shown in list(rule(Plugins(tmp_path / "plugins")))


def test_allowed_imports_are_no_breach(tmp_path: Path) -> None:
    utils = tmp_path / "plugins" / UNDER
    header = "from __future__ import annotations\n"
    files = {
        "_core/iptables.py": f"{header}import json\nfrom . import text_iptables\nfrom .errors import Refused\n",
        "_core/text_iptables.py": header,
        "_core/errors.py": header,
        "_node/iptables.py": f"{header}import os\nfrom .._core.errors import Refused\n",
        "../modules/endpoint_slices.py": f"{header}from {FULL}._cluster.api import x\n",
        "../modules/service_probe.py": f"{header}from {FULL}._core.errors import x\n",
        "_cluster/api.py": f"{header}try:\n    import kubernetes\nexcept ImportError:\n    kubernetes = None\n",
        "_module.py": f"{header}from ansible.module_utils.basic import AnsibleModule\nfrom ._node import iptables\n",
        "_runner.py": f"{header}from ._node import iptables\n",
        "../modules/iptables_services.py": f"{header}from {FULL}._runner import x\nfrom {FULL}._core import iptables\n",
    }
    for name, text in files.items():
        path = (utils / name).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    plugins = Plugins(tmp_path / "plugins")
    assert [breach for rule in RULES for breach in rule(plugins)] == []


def test_the_architecture_page_has_every_rule_and_names_what_is_there(checkout: Path) -> None:
    page = (checkout / "docs" / "architecture.md").read_text()
    assert [rule.__name__ for rule in RULES if f"- {rule.__doc__}\n" not in page] == []
    shown = page + (checkout / "docs" / "images" / "architecture.svg").read_text()
    utils = checkout / "plugins" / "module_utils"
    named = set(re.findall(r"(?<![\w/])_[a-z]+(?:_\*)?(?:\.py)?\b", shown))
    assert {"_core", "_node", "_cluster", "_agent"} <= named
    assert [name for name in sorted(named) if not list(utils.glob(f"{name.rstrip('_')}*"))] == []

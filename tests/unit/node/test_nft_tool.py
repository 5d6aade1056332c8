# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tool nft: what it says, and what is said of it."""

from __future__ import annotations

import pytest

from ansible_collections.kubenode.servicenet.plugins.module_utils._core.errors import ToolError
from ansible_collections.kubenode.servicenet.plugins.module_utils._node import nft_tool
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.nft_tool import NftTool
from ansible_collections.kubenode.servicenet.plugins.module_utils._node.runner import (
    MissingInKernelError,
    MissingToolError,
)

Answer = tuple[int, str, str]


def tool(answer: Answer) -> NftTool:
    return NftTool(lambda _argv, _data=None: answer, lambda name: f"/sbin/{name}")


def test_a_tool_that_is_not_installed_says_what_to_install() -> None:
    missing = NftTool(lambda _argv, _data=None: (0, "", ""), lambda _name: None)
    assert not missing.available()
    with pytest.raises(MissingToolError, match="package nftables"):
        missing.commit("")


def test_a_table_that_is_not_there_is_no_error() -> None:
    said = "Error: No such file or directory\nlist table ip servicenet\n              ^^^^^^^^^^\n"
    assert tool((1, "", said)).list_table("ip servicenet") is None
    with pytest.raises(ToolError, match="Operation not permitted"):
        tool((1, "", "Error: Operation not permitted")).list_table("ip servicenet")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("mnl.c:60: Unable to initialize Netlink socket: Protocol not supported", MissingInKernelError),
        ("netlink: Error: cache initialization failed: Invalid argument", MissingInKernelError),
        ("netlink: Error: cache initialization failed: Operation not permitted", ToolError),
    ],
)
def test_a_kernel_without_nftables_is_told_apart(said: str, kind: type[ToolError]) -> None:
    with pytest.raises(ToolError) as told:
        tool((1, "", said)).list_table("ip servicenet")
    assert told.value.__class__ is kind


@pytest.mark.parametrize(
    ("said", "version"),
    [("nftables v1.0.6 (Lester Gooch #5)\n", (1, 0, 6)), ("nftables v1.1 (x)\n", (1, 1)), ("who knows\n", ())],
)
def test_the_version(said: str, version: tuple[int, ...]) -> None:
    assert tool((0, said, "")).version() == version


@pytest.mark.parametrize(
    ("version", "kernel", "wrong"),
    [
        ((1, 0, 6), "6.1.0-40-amd64", []),
        ((1, 1), "5.13.0", []),
        ((), "6.1", []),
        ((0, 9, 8), "6.1.0", ["nft 0.9.8"]),
        ((1, 0, 6), "5.10.0-8-amd64", ["Linux 5.10.0-8-amd64"]),
        ((0, 9, 8), "4.19.0", ["nft 0.9.8", "Linux 4.19.0"]),
        ((1, 0, 6), "strange", []),
    ],
)
def test_what_is_too_old(version: tuple[int, ...], kernel: str, wrong: list[str]) -> None:
    found = nft_tool.too_old(version, kernel)
    assert len(found) == len(wrong)
    assert all(words in sentence for words, sentence in zip(wrong, found, strict=True))


def test_what_is_lacking_is_told_once() -> None:
    said = "/dev/stdin:1:1-5: Error: Could not process rule: No such file or directory\nadd rule\n"
    (problem,) = tool((1, "", said)).lacking({"balancing": "one", "its chains": "two"})
    assert "what balancing needs (/dev/stdin:1:1-5: Error: Could not process rule: No such file" in problem
    assert tool((0, "", "")).lacking({"balancing": "one"}) == []


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("/dev/stdin:2:1-20: Error: Could not process rule: File exists\nb\n^\n", "b"),
        ("internal:0:0-0: Error: conflicting protocols\n/dev/stdin:3:1-2: Error: x\n", "c"),
        ("/dev/stdin:9:1-2: Error: x\n", ""),
        ("netlink: Error: cache initialization failed\n", ""),
    ],
)
def test_which_line_was_refused(said: str, line: str) -> None:
    assert nft_tool.refused_line(ToolError(["nft"], 1, said), "a\nb\nc\n") == line

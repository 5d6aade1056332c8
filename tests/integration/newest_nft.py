# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The newest nft that Debian ships, from a root file system of its own: nothing on this machine is replaced."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SUITE = "sid"
# A mirror may be a snapshot of an older day.
OPTIONS = ("--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"', "--include=nftables")


def command(cache: Path, build: bool) -> list[str]:
    """What to write in place of ``nft``: its own loader and libraries run the program, without a chroot.

    :param build: make the root file system if it is not there; else the test is skipped.
    """
    root = cache / f"nft-{SUITE}"
    if not root.exists():
        if not build or shutil.which("mmdebstrap") is None:
            pytest.skip("the newest nft has not been fetched (`make soak` does, with mmdebstrap)")
        unfinished = root.with_name(f"{root.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run(["mmdebstrap", *OPTIONS, SUITE, str(unfinished)], check=True, capture_output=True)
        unfinished.rename(root)
    (loader,) = [*root.glob("lib64/ld-linux*.so.2"), *root.glob("lib/ld-linux*.so.1")]
    (libraries,) = {path.parent for path in root.glob("usr/lib/*/libnftables.so.1")}
    return [str(loader), "--library-path", str(libraries), str(root / "usr/sbin/nft")]

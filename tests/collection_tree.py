# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes any checkout importable as ``ansible_collections.kubenode.servicenet``.

Python and Ansible want a collection below ``ansible_collections/NAMESPACE/NAME``; a checkout may stand anywhere. A tree
of one symbolic link, kept in the cache outside the checkout, is enough for both. Run as a program, this prints the path
to use as ANSIBLE_COLLECTIONS_PATH.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache_directory() -> Path:
    """Where everything that tests fetch, build or keep between runs has its place."""
    named = os.environ.get("SERVICENET_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "servicenet"


def collections_path(checkout: Path = CHECKOUT) -> Path:
    """Return the directory that holds ``ansible_collections``, and make it if need be.

    The directory's name is derived from the checkout's path, so that several checkouts on one machine never see each
    other's code.
    """
    if checkout.parts[-3:] == ("ansible_collections", "kubenode", "servicenet"):
        return checkout.parents[2]
    key = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:16]
    root = cache_directory() / "collections" / key
    link = root / "ansible_collections" / "kubenode" / "servicenet"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        # Two runs may begin at the same time: each makes a link of its own, and the rename decides.
        mine = link.with_name(f"servicenet.{os.getpid()}")
        mine.symlink_to(checkout, target_is_directory=True)
        mine.replace(link)
    return root


if __name__ == "__main__":
    print(collections_path())

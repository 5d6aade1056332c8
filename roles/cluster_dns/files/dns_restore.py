# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Before CoreDNS starts: puts copies in place of zone files that are broken, cut off or gone.

dns_restore.py COPIES ZONES COREFILE

A CoreDNS that runs keeps what it has loaded, but one that starts with such a file ends, or denies names that exist.
"""

from __future__ import annotations

import hashlib
import os
import sys


def is_whole(path: str) -> bool:
    """Does a zone file match the digest in its last line? Between are its note, its SOA and its records."""
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.readlines()
    except (OSError, ValueError):
        return False
    said = lines[-1].split('"')[1:2] if len(lines) > 2 else []
    return said == [hashlib.sha256("".join(lines[2:-1]).encode()).hexdigest()]


def put(copy: str, path: str) -> None:
    """Replaces a file by its copy, in one step."""
    with open(copy, "rb") as stream:
        content = stream.read()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.restored")
    with open(new, "wb") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.replace(new, path)
    sys.stdout.write(f"{path} was broken; its copy is in its place.\n")


def main() -> None:
    """The command line."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    copies, zones, corefile = sys.argv[1:]
    for name in os.listdir(copies) if os.path.isdir(copies) else []:
        copy, path = os.path.join(copies, name), os.path.join(zones, name)
        if name == "Corefile":
            if not os.path.exists(corefile):
                put(copy, corefile)
        elif is_whole(copy) and not is_whole(path):
            put(copy, path)


if __name__ == "__main__":
    main()

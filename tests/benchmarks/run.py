# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make bench` runs: a benchmark by its name, and its options.

make bench                                    services.py, with its own idea of sizes
make bench ARGS="dns"                         names: zones, and CoreDNS with them beside its kubernetes plugin
make bench ARGS="resync"                      the playbook on 1 to 50 nodes
make bench ARGS="services --sizes 100x2 --no-peer"
make bench ARGS="nftables 10000x2"            one mode at some sizes, into docs/performance.md: about five minutes
make bench ARGS="userspace 2000x2"            the mode that kube-proxy has no longer, alone
make bench ARGS="all"                         everything that stands there: more than an hour
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("services", "nftables", "dns", "snapshot", "endpoints", "latency", "resync")
MODES = ("iptables-nft", "iptables-legacy", "nftables", "userspace")
PUBLISH = ["--publish", str(HERE.parent.parent / "docs")]
ALL = [
    *("--sizes", "100x2", "1000x2", "10000x2"),
    *("--nftables-sizes", "10000x5", "--only-ours", "45000x1"),
]


def selected(arguments: list[str]) -> list[str]:
    """A benchmark's name and its options: those of ``MODE SIZE...`` and ``all`` are spelled out."""
    if arguments[:1] == ["all"]:
        return ["services", *ALL, *PUBLISH, *arguments[1:]]
    if len(arguments) > 1 and arguments[0] in MODES and arguments[1][:1].isdigit():
        return ["services", "--modes", arguments[0], *PUBLISH, "--sizes", *arguments[1:]]
    return arguments or ["services"]


def main() -> int:
    """Runs it and returns its exit status."""
    name, *options = selected(sys.argv[1:])
    if name not in NAMES:
        print(f"There is no benchmark {name}; there are {', '.join(NAMES)}, all, and MODE SIZE...", file=sys.stderr)
        return 2
    return subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

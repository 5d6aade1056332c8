# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make bench` runs: a benchmark by its name, and its options.

make bench                                    services.py, with its own idea of sizes
make bench ARGS="dns --services 1000"         another one
make bench ARGS="services --sizes 100x2 --no-peer"
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("services", "nftables", "dns", "snapshot")


def main() -> int:
    """Runs it and returns its exit status."""
    name, *options = sys.argv[1:] or ["services"]
    if name not in NAMES:
        print(f"There is no benchmark {name}; there are {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    return subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

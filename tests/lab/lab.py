# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab from the command line.

python tests/lab/lab.py up [--nodes N] [--pods N]     builds a lab, leaves it standing and says how to use it
python tests/lab/lab.py list                          the labs that stand
python tests/lab/lab.py enter PLACE [COMMAND ...]     a shell (or a command) on a node, in a Pod, or on the client
python tests/lab/lab.py down [--all]                  takes the newest lab away, or all of them
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

# Before this file's directory, where `lab` would be this file and not the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.claim import BASE, LabError, clean_exit, labs, remove, remove_stale
from lab.cluster import Lab, how_to_use, kept_labs
from lab.names import enter_place
from lab.nodes import enter_command


def up(args: argparse.Namespace) -> None:
    """Builds a lab and leaves it."""
    lab = Lab(nodes=args.nodes, pods=args.pods)
    lab.open()
    inventory = lab.inventory()
    lab.keep()
    print(f"The lab {lab.prefix} stands: client, {', '.join(lab.nodes)}, {', '.join(lab.pods)}.")
    print(how_to_use(inventory))


def newest() -> str:
    """The prefix of the newest lab that was left standing."""
    kept = kept_labs()
    if not kept:
        raise LabError("There is no lab; `up` builds one.")
    return kept[-1]


def enter(args: argparse.Namespace) -> None:
    """Becomes a shell, or a command, in a place of the lab."""
    prefix = args.lab or newest()
    places = json.loads((BASE / prefix / "lab.json").read_text())
    if args.place in places["nodes"]:
        command = enter_command(places["nodes"][args.place])
    elif args.place in places["others"]:
        command = enter_place(prefix, args.place)
    else:
        known = ", ".join([*places["nodes"], *places["others"]])
        raise LabError(f"There is no {args.place} in {prefix}, but: {known}.")
    os.environ["PS1"] = f"{args.place}# "
    command += args.command or ["bash", "--norc"]
    os.execvp(command[0], command)


def down(args: argparse.Namespace) -> None:
    """Takes labs away, each with the control plane that was kept with it."""
    for prefix in kept_labs() if args.all else [args.lab or newest()]:
        claims = labs()
        for other, owner in claims.items():
            if owner == claims.get(prefix):
                remove(other)
        print(f"The lab {prefix} is gone.")


def list_labs(_args: argparse.Namespace) -> None:
    """One line for each."""
    print("\n".join(kept_labs()) or "There is no lab.")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("up")
    verb.add_argument("--nodes", type=int, default=2)
    verb.add_argument("--pods", type=int, default=3, help="on each node")
    verb.set_defaults(do=up)
    verbs.add_parser("list").set_defaults(do=list_labs)
    verb = verbs.add_parser("enter")
    verb.add_argument("--lab", help="its prefix; without it, the newest")
    verb.add_argument("place")
    verb.add_argument("command", nargs=argparse.REMAINDER)
    verb.set_defaults(do=enter)
    verb = verbs.add_parser("down")
    verb.add_argument("--lab", help="its prefix; without it, the newest")
    verb.add_argument("--all", action="store_true")
    verb.set_defaults(do=down)
    args = parser.parse_args()
    clean_exit()
    remove_stale()
    try:
        args.do(args)
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of servicenet-agent.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from typing import Any, Callable

from .._core.errors import ServicenetError
from .._node.runner import Runner
from . import config as configs
from . import outcome, runs, server

EPILOG = """\
A run ends with 0 if it succeeded, 1 if it failed, 3 if the source could not be reached (the rules stay), 4 if another
run is at work, and 5 if it took longer than its time limit. The last outcome is in /var/lib/servicenet/last-run.json.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        "servicenet-agent", description="Keeps the Service rules of this node.", epilog=EPILOG
    )
    made.add_argument("--config", default=configs.PATH, help="the settings (default: %(default)s)")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("apply", help="make the rules those of a snapshot file")
    one.add_argument("snapshot")
    one = commands.add_parser("pull", help="read the cluster, or fetch a snapshot, and make the rules those of it")
    one.add_argument("--jitter", type=float, default=0, metavar="SECONDS", help="begin at a random moment within these")
    commands.add_parser("restore", help="make the rules those that were in force; needs no network")
    one = commands.add_parser("rollback", help="go back to a kept state (see status) and stay there")
    one.add_argument("to", nargs="?", default="previous", metavar="DIGEST", help="its beginning (default: %(default)s)")
    one.add_argument("--hold", type=int, default=0, metavar="SECONDS", help="until then (default: until released)")
    commands.add_parser("release", help="end the hold; the next pull brings the node up to date")
    commands.add_parser("serve", help="answer health checks, /healthz, /livez and /metrics until SIGTERM")
    commands.add_parser("status", help="say as JSON what is in force, and what the last run did")
    return made


def main(argv: list[str], run: Runner, say: Callable[[str], None]) -> int:
    """Does what the command line says -> the exit status.

    :param run: runs tools.
    :param say: tells a line to whoever reads the output.
    """
    args = parser().parse_args(argv)
    try:
        config = configs.read(args.config)
        if args.command == "status":
            say(json.dumps(runs.status(config), indent=2, sort_keys=True))
            return 0
        if args.command == "serve":
            return _serve(config, say)
        return _run(args, config, run, say)
    except ServicenetError as error:
        say(str(error))
        return outcome.STATUS[outcome.FAILED]


def _serve(config: configs.Config, say: Callable[[str], None]) -> int:
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stop.append(received))
    server.Servers(config, say).serve(lambda: bool(stop))
    return 0


def _run(args: argparse.Namespace, config: configs.Config, run: Runner, say: Callable[[str], None]) -> int:
    deeds: dict[str, Callable[[], runs.Done]] = {
        "apply": lambda: runs.apply(config, run, args.snapshot),
        "pull": lambda: runs.pull(config, run),
        "restore": lambda: runs.restore(config, run),
        "rollback": lambda: runs.rollback(config, run, args.to, args.hold),
        "release": lambda: runs.release(config, run),
    }
    if getattr(args, "jitter", 0):
        time.sleep(random.uniform(0, args.jitter))

    def expired(_number: int, _frame: Any) -> None:
        raise runs.TimeLimitError(
            f"The run took longer than its time limit of {config.time_limit} s and was ended;"
            " the next run heals what it left."
        )

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(config.time_limit)
    record = runs.recorded(config, args.command, deeds[args.command])
    signal.alarm(0)
    for line in [*record["warnings"], *(f"Repaired: {name} had been altered." for name in record["drift"])]:
        say(line)
    say(
        record["message"]
        or f"{args.command}: {record['services_changed']} Services changed, {record['transactions']} transactions,"
        f" {record['duration']} s"
    )
    return outcome.STATUS[record["result"]]

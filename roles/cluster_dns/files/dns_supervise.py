# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps CoreDNS running where there is no service manager, as in a container.

dns_supervise.py start COMMAND [ARGUMENT ...]   starts it in the background
dns_supervise.py stop|restart|reload          does nothing if it does not run
dns_supervise.py status                       ends with 0 if it runs

CoreDNS is started again when it ends, after a second that doubles up to half a minute while it keeps ending at once.
Its output goes to a log file, which begins anew when it has grown too long.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

RECORD = "/run/servicenet/dns_supervise.json"
LOG = "/var/log/servicenet-dns.log"
LONGEST_LOG = 10 * 1024 * 1024
# Longer than the lameduck time in the Corefile.
STOP_SECONDS = 15
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
HEALTHY_SECONDS = 10


def read_record() -> dict:
    """{"pid", "started", "command", "memory"} of the supervisor; {} if none runs."""
    try:
        with open(RECORD, encoding="utf-8") as stream:
            record = json.load(stream)
        return record if birth(record["pid"]) == record["started"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def birth(pid: int) -> str:
    """When a process was started: with the pid it names one process for good. "" if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def start(command: list) -> None:
    """Starts the supervisor in the background, unless one runs."""
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    lock = os.open(f"{RECORD}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if read_record():
        return
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            become_daemon()
            with open(f"{RECORD}.new", "w", encoding="utf-8") as stream:
                json.dump({"pid": os.getpid(), "started": birth(os.getpid()), "command": command}, stream)
            os.replace(f"{RECORD}.new", RECORD)
            os.close(lock)
            supervise(command)
        os._exit(0)
    os.wait()
    deadline = time.monotonic() + 5
    while not read_record() and time.monotonic() < deadline:
        time.sleep(0.02)
    sys.stdout.write("started\n")


def become_daemon() -> None:
    """Lets go of the caller's files and directory."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    if os.path.exists(LOG) and os.path.getsize(LOG) > LONGEST_LOG:
        os.unlink(LOG)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def supervise(command: list) -> None:
    """Runs the command again and again, until SIGTERM comes; SIGUSR1 is passed on."""
    state = {"child": 0, "stop": False}

    def pass_on(number: int, _frame: object) -> None:
        state["stop"] = state["stop"] or number == signal.SIGTERM
        if state["child"]:
            os.kill(state["child"], number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGUSR1, pass_on)
    pause = FIRST_PAUSE
    while not state["stop"]:
        began = time.monotonic()
        state["child"] = spawn(command)
        status = wait_for(state["child"])
        state["child"] = 0
        os.write(2, f"dns_supervise: {command[0]} ended with {status}\n".encode())
        pause = FIRST_PAUSE if time.monotonic() - began > HEALTHY_SECONDS else min(pause * 2, LONGEST_PAUSE)
        until = time.monotonic() + pause
        while not state["stop"] and time.monotonic() < until:
            time.sleep(0.1)
    os._exit(0)


def spawn(command: list) -> int:
    """Starts the command with its signals as they were."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"dns_supervise: {command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    return child


def wait_for(child: int) -> int:
    """The exit status; negative is the number of a signal."""
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def children(pid: int) -> list:
    """The ids of the processes that a process has started."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as stream:
        return [int(text) for text in stream.read().split()]


def stop(record: dict) -> None:
    """Ends the supervisor and CoreDNS, at the latest after STOP_SECONDS by force."""
    pid = record["pid"]
    left = children(pid)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while birth(pid) == record["started"] and time.monotonic() < deadline:
        time.sleep(0.1)
    if birth(pid) == record["started"]:
        for each in [pid, *left]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
    sys.stdout.write("stopped\n")


def main() -> None:
    """The command line."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    record = read_record()
    if verb == "start" and len(sys.argv) > 2:
        start(sys.argv[2:])
    elif verb == "status":
        sys.exit(0 if record else 1)
    elif verb == "reload" and record:
        os.kill(record["pid"], signal.SIGUSR1)
    elif verb in ("stop", "restart") and record:
        stop(record)
        if verb == "restart":
            start(record["command"])
    elif verb in ("stop", "restart", "reload"):
        return
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

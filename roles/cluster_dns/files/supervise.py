# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps a program running: where there is no service manager, as in a container, or as the program that one runs.

NAME_supervise.py start [--finish LOG] COMMAND [ARGUMENT ...]   starts it in the background
NAME_supervise.py run [--finish LOG] COMMAND [ARGUMENT ...]     the same, in the foreground
NAME_supervise.py stop|restart|reload          does nothing if it does not run
NAME_supervise.py status                       ends with 0 if it runs

The command is started again when it ends, after a second that doubles to half a minute while it keeps ending at once.
In the background its output goes to a log file, which begins anew when it has grown too long.

--finish is for nginx, whose old processes may go on with the connections that they have: they get SIGQUIT, and nobody
waits for their end. They are known by LOG, which they hold open; a file PID.pid beside it becomes PID.draining.

It is one file without anything of the collection, which is not on the node, so it reads /proc by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

PROGRAM = os.path.basename(__file__)[: -len(".py")]
RECORD = f"/run/servicenet/{PROGRAM}.json"
LOG = f"/var/log/servicenet-{PROGRAM.split('_')[0]}.log"
LONGEST_LOG = 10 * 1024 * 1024
# Longer than the lameduck time in CoreDNS's Corefile.
STOP_SECONDS = 15
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
HEALTHY_SECONDS = 10


def read_record() -> dict:
    """{"pid", "started", "command", "finish"} of the supervisor; {} if none runs."""
    try:
        with open(RECORD, encoding="utf-8") as stream:
            record = json.load(stream)
        return record if birth(record["pid"]) == record["started"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def birth(pid: int) -> str:
    """When a process was started: with the pid it names one process for good. "" if there is none."""
    fields = stat_of(pid)
    return "" if len(fields) < 20 or fields[0] == "Z" else fields[19]


def stat_of(pid: int) -> list:
    """What the kernel tells of a process behind its name; nothing if it has ended."""
    return content(pid, "stat").rpartition(")")[2].split()


def content(pid: int, name: str) -> str:
    """A file that the kernel shows of a process; "" if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
        return stream.read()
    return ""


def start(command: list, finish: str) -> None:
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
            write_record(command, finish)
            os.close(lock)
            supervise(command, finish)
        os._exit(0)
    os.wait()
    deadline = time.monotonic() + 5
    while not read_record() and time.monotonic() < deadline:
        time.sleep(0.02)
    sys.stdout.write("started\n")


def write_record(command: list, finish: str) -> None:
    """Writes down that this process is the supervisor."""
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    record = {"pid": os.getpid(), "started": birth(os.getpid()), "command": command, "finish": finish}
    with open(f"{RECORD}.new", "w", encoding="utf-8") as stream:
        json.dump(record, stream)
    os.replace(f"{RECORD}.new", RECORD)


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


def supervise(command: list, finish: str) -> None:
    """Runs the command again and again, until SIGTERM comes; SIGUSR1 is passed on."""
    state = {"child": 0, "stop": False}

    def pass_on(number: int, _frame: object) -> None:
        state["stop"] = state["stop"] or number == signal.SIGTERM
        if finish and number == signal.SIGTERM:
            finish_all(finish)
            number = signal.SIGQUIT  # also for one that is about to start
        if state["child"]:
            os.kill(state["child"], number)
        if number == signal.SIGQUIT:
            os._exit(0)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGUSR1, pass_on)
    pause = FIRST_PAUSE
    while not state["stop"]:
        began = time.monotonic()
        if finish:
            finish_all(finish)
        state["child"] = spawn(command)
        status = wait_for(state["child"])
        state["child"] = 0
        os.write(2, f"{PROGRAM}: {command[0]} ended with {status}\n".encode())
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
            os.write(2, f"{PROGRAM}: {command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    return child


def finish_all(log: str) -> None:
    """Has every nginx with this file open take nothing new; those that one of them will tell are left to it."""
    running = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if content(pid, "comm") == "nginx\n"]
    holders = [pid for pid in running if holds_open(pid, log)]
    for pid in holders:
        fields = stat_of(pid)
        if len(fields) > 1 and int(fields[1]) not in holders:
            name = os.path.join(os.path.dirname(log), str(pid))
            with contextlib.suppress(OSError):
                os.replace(f"{name}.pid", f"{name}.draining")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)


def holds_open(pid: int, path: str) -> bool:
    """Has a process this file open?"""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                # Not by its name: another container may have a file of that name.
                if os.path.samefile(f"/proc/{pid}/fd/{name}", path):
                    return True
    return False


def wait_for(child: int) -> int:
    """The exit status; negative is the number of a signal."""
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def children(pid: int) -> list:
    """The ids of the processes that a process has started."""
    return [int(text) for text in content(pid, f"task/{pid}/children").split()]


def stop(record: dict) -> None:
    """Ends the supervisor and the command, at the latest after STOP_SECONDS by force."""
    pid = record["pid"]
    left = [] if record.get("finish") else children(pid)
    with contextlib.suppress(ProcessLookupError):
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
    verb, rest = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    finish = rest[1] if rest[:1] == ["--finish"] and len(rest) > 2 else ""
    command = rest[2:] if finish else rest
    record = read_record()
    if verb == "start" and command:
        start(command, finish)
    elif verb == "run" and command:
        write_record(command, finish)
        supervise(command, finish)
    elif verb == "status":
        sys.exit(0 if record else 1)
    elif verb == "reload" and record:
        os.kill(record["pid"], signal.SIGUSR1)
    elif verb in ("stop", "restart") and record:
        stop(record)
        if verb == "restart":
            start(record["command"], record.get("finish", ""))
    elif verb in ("stop", "restart", "reload"):
        return
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

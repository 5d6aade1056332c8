# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An nginx of our own, which relays streams: its own configuration, process, pid files and log, and no other's.

This module util is private to the collection: nothing outside kubenode.servicenet may import it.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import re
import shlex
import signal
import tempfile
import time
from collections.abc import Iterable

from .._core.errors import ToolError
from .._core.text_nginx import Build
from .files import read_bytes, read_json, remove, write_atomic, write_json
from .listeners import connections
from .nginx_keeper import Keeper
from .processes import arguments, birth, children, command, open_files, parent, processes
from .runner import MissingToolError, Runner, Which, checked, which

PACKAGE_HINT = (
    "Install the packages nginx-light and libnginx-mod-stream (RHEL and its kin: nginx and nginx-mod-stream)."
)
# The first release that can close one direction of a connection and keep the other.
HALF_CLOSE = (1, 21, 4)
LOG_OPTION = (1, 19, 5)
VERSION = re.compile(r"nginx/(\d+)\.(\d+)\.(\d+)")
MODULES = re.compile(r"--modules-path=(\S+)")
# A reload reads the configuration anew; one with thousands of proxies takes a second or two on a busy node.
PATIENCE = 60.0
# nginx needs a file a socket, more than a service usually may have; the system's own limit is far above.
FILES = 262144
# The log lies in memory.
LONGEST_LOG = 1 << 20
_WITH_FILES = 'ulimit -n "$0" 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"'


class Nginx:
    """nginx by way of a command runner.

    :param state_dir: holds the configuration.
    :param run_dir: holds what a boot forgets.
    :param most_old: how many workers of older configurations may go on serving their connections.
    """

    def __init__(self, run: Runner, state_dir: str, run_dir: str, most_old: int, find: Which = which) -> None:
        self._run, self._path, self._most_old = run, find("nginx"), most_old
        self.path = os.path.join(state_dir, "userspace_nginx.conf")
        self.directory = os.path.join(run_dir, "userspace")
        self.log = os.path.join(self.directory, "error.log")
        self._live_path = os.path.join(self.directory, "live.json")
        self._keeper = Keeper(run, state_dir, self.log)
        self._said = ""
        self.warnings: list[str] = []

    def available(self) -> bool:
        """Is it installed?"""
        return self._path is not None

    def build(self) -> Build:
        """What it can do.

        :raises MissingToolError: it or its stream module is not installed.
        """
        said = self._version()
        module = ""
        if "--with-stream=dynamic" in said:
            found = MODULES.search(said)
            module = os.path.join(found.group(1) if found else "", "ngx_stream_module.so")
            if not os.path.exists(module):
                raise MissingToolError("nginx's stream module", PACKAGE_HINT)
        elif "--with-stream" not in said:
            raise MissingToolError("nginx's stream module", PACKAGE_HINT)
        user = pwd.getpwnam("nobody")
        return Build(module, self._number() >= HALF_CLOSE, f"nobody {grp.getgrgid(user.pw_gid).gr_name}")

    def _version(self) -> str:
        if self._path is None:
            raise MissingToolError("nginx", PACKAGE_HINT)
        if not self._said:
            rc, out, err = self._run([self._path, "-V"])
            if rc != 0:
                raise ToolError([self._path, "-V"], rc, err or out)
            self._said = out + err
        return self._said

    def _number(self) -> tuple[int, ...]:
        found = VERSION.search(self._version())
        return tuple(map(int, found.groups())) if found else ()

    # ---- what is there

    def configuration(self) -> str:
        """The file, "" if there is none."""
        return (read_bytes(self.path) or b"").decode("ascii", "replace")

    def masters(self) -> list[tuple[int, str]]:
        """The master processes of ours that serve: (process, its pid file)."""
        found = []
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.directory)):
                path = os.path.join(self.directory, name)
                if name.endswith(".pid"):
                    text = (read_bytes(path) or b"").decode("ascii", "replace").strip()
                    if text.isdigit() and self._is_ours(int(text)):
                        found.append((int(text), path))
        return found

    def _is_ours(self, pid: int) -> bool:
        return command(pid) == "nginx" and self.path.encode() in b" ".join(arguments(pid))

    def live(self) -> str:
        """Names the process and the configuration that it has loaded, "" unless that is the file as it is."""
        value = read_json(self._live_path).value
        data = read_bytes(self.path)
        masters = self.masters()
        if data is None or len(masters) != 1 or not isinstance(value, dict) or not self._keeper.has(masters[0][0]):
            return ""
        wanted = {"pid": masters[0][0], "started": birth(masters[0][0]), "digest": hashlib.sha256(data).hexdigest()}
        return ":".join(map(str, wanted.values())) if value == wanted else ""

    def sockets(self) -> set[int]:
        """The inodes of the sockets of our processes, also of those whose master was killed."""
        held = [open_files(pid) for pid in processes() if command(pid) == "nginx"]
        return _sockets(target for targets in held if self.log in targets for target in targets)

    # ---- deeds

    def test(self, text: str) -> None:
        """Has nginx judge a configuration. It binds what it listens on for that, so never to share a port with the
        sockets in use.

        :raises ToolError: it is refused.
        """
        with tempfile.TemporaryDirectory(prefix="servicenet-") as scratch:
            candidate = os.path.join(scratch, "nginx.conf")
            log = os.path.join(scratch, "error.log")
            text = text.replace(" reuseport", "").replace(f"error_log {self.log} ", f"error_log {log} ")
            write_atomic(candidate, text.encode("ascii"))
            checked(self._run, [*self._command(candidate, scratch, "test.pid"), "-t"])

    def _command(self, configuration: str, directory: str, pid_file: str, globally: str = "") -> list[str]:
        self._version()
        pid = f"{globally}pid {os.path.join(directory, pid_file)};"
        log = ["-e", os.path.join(directory, "error.log")] if self._number() >= LOG_OPTION else []
        argv = [str(self._path), *log, "-p", directory, "-c", configuration, "-g", pid]
        return ["sh", "-c", _WITH_FILES, str(FILES), *argv]

    def serve(self, text: str) -> None:
        """Makes nginx serve this configuration; returns when its sockets are there. Connections go on.

        :raises ToolError: it was refused, and the one before is in force.
        """
        self.test(text)
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        before = read_bytes(self.path)
        write_atomic(self.path, text.encode("ascii"))
        try:
            self._load()
        except ToolError:
            if before is None:
                remove(self.path)
            else:
                write_atomic(self.path, before)
            raise
        for pid, _pid_file in self.masters():
            digest = hashlib.sha256(text.encode("ascii")).hexdigest()
            write_json(self._live_path, {"pid": pid, "started": birth(pid), "digest": digest})

    def _load(self) -> None:
        """Has a process serve the file as it is, and others of ours take nothing new."""
        kept = [(pid, pid_file) for pid, pid_file in self.masters() if self._keeper.has(pid)]
        for pid, pid_file in self.masters():
            if (pid, pid_file) not in kept[:1]:
                self._quit(pid, pid_file)
        if kept:
            self._reload(kept[0][0])
            return
        self._quit_orphans()
        self._forget_ended()
        if self._keeper.there:
            self._start_kept()
        else:
            number = 1 + max([0, *(int(name.split(".")[0]) for name in self._pid_files())])
            checked(self._run, self._command(self.path, self.directory, f"{number}.pid"))

    def _start_kept(self) -> None:
        size = self._log_size()
        # The pid file is named by the process, so that an older one takes no other's away when it ends.
        command = shlex.join(self._command(self.path, self.directory, "PROCESS.pid", "daemon off; "))
        self._keeper.start(command.replace("PROCESS", "'$$'"), self.path, self._live_path)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if any(children(pid) for pid, _pid_file in self.masters()):
                return
            if self._refusal(size):
                break
            time.sleep(0.005)
        self._keeper.stop()
        raise ToolError(["nginx"], 1, self._refusal(size) or f"it did not start within {PATIENCE:.0f} s")

    def _quit_orphans(self) -> None:
        """Workers whose master was killed keep its sockets: they let go of them, and keep their connections."""
        for pid in processes():
            if command(pid) == "nginx" and command(parent(pid)) != "nginx" and self.log in open_files(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)

    def _pid_files(self) -> list[str]:
        """Their names begin with a number, also of those that only serve what connections they have."""
        return [name for name in os.listdir(self.directory) if re.match(r"\d+\.(pid|draining)\Z", name)]

    def _forget_ended(self) -> None:
        """The files of processes that were killed; others take theirs away themselves."""
        for name in self._pid_files():
            text = (read_bytes(os.path.join(self.directory, name)) or b"").decode("ascii", "replace").strip()
            if not (text.isdigit() and self._is_ours(int(text))):
                remove(os.path.join(self.directory, name))

    def _log_size(self) -> int:
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def _refusal(self, size: int) -> str:
        """What nginx has complained of since its log had this size, "" if it may still serve the configuration.

        A port that is taken is tried for five times half a second; then it says more than that.
        """
        said = (read_bytes(self.log) or b"")[size:].decode("utf-8", "replace").splitlines()
        emergencies = [line for line in said if "[emerg]" in line]
        return "\n".join(emergencies) if any("bind() to" not in line for line in emergencies) else ""

    def _reload(self, master: int) -> None:
        old = children(master)
        self._cut(old)
        if self._log_size() > LONGEST_LOG:
            os.truncate(self.log, 0)
        size = self._log_size()
        try:
            os.kill(master, signal.SIGHUP)
        except ProcessLookupError:
            raise ToolError(["nginx", "reload"], 1, "it has just ended") from None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # A client's datagrams would find the endpoint of before as long as an old worker reads them.
            if set(children(master)) - set(old) and not any(map(_listens, old)):
                return
            if self._refusal(size):
                raise ToolError(["nginx", "reload"], 1, self._refusal(size))
            time.sleep(0.005)
        remove(self._live_path)  # nobody knows which configuration it has
        raise ToolError(["nginx", "reload"], 1, f"new workers did not take over within {PATIENCE:.0f} s")

    def _cut(self, workers: list[int]) -> None:
        """Where an earlier reload left too many behind, ends those that nobody needs, and then the oldest.

        Without their listening sockets they can't answer over UDP any more, but wait for their sessions' end.
        """
        left = [pid for pid in workers if not _listens(pid)]
        if len(left) <= self._most_old:
            return
        connected = connections()
        busy = [pid for pid in left if _sockets(open_files(pid)) & connected]
        surplus = busy[: max(0, len(busy) - self._most_old)]
        if surplus:
            self.warnings.append(
                f"More than {self._most_old} older nginx workers still served connections: the oldest were ended."
            )
        for pid in left:
            if pid in surplus or pid not in busy:
                # Asked to end, it would write a line into the log for each session.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def drain(self) -> None:
        """No new connections; those that are there go on until they end, or until the time that their configuration
        gives them. Its file goes."""
        self._keeper.stop()
        for pid, pid_file in self.masters():
            self._quit(pid, pid_file)
        for path in (self._live_path, self.path):
            remove(path)
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                if not name.endswith(".draining"):
                    remove(os.path.join(self.directory, name))

    def _quit(self, pid: int, pid_file: str) -> None:
        remove(pid_file)
        write_atomic(f"{pid_file[: -len('.pid')]}.draining", f"{pid}\n".encode())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)


def _sockets(targets: Iterable[str]) -> set[int]:
    """The inodes of the sockets among open files."""
    return {int(target[len("socket:[") : -1]) for target in targets if target.startswith("socket:[")}


def _listens(worker: int) -> bool:
    """Does it take what is new? One that was told to quit says so in its title, and closes its listening sockets."""
    title = b" ".join(arguments(worker))
    return bool(title) and b"shutting down" not in title

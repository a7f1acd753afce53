"""Nothing is left behind, even when the trainer is killed with -9.

The first server of a process starts one small watcher, the reaper: this file, run as a script. It
is told over a pipe which servers and folders are in use. The kernel closes the pipe however the
trainer ends; the reaper then kills the servers and what they started, removes the folders and ends.

A parent-death signal would not do: it fires when the *thread* that started the server ends, and
what the server itself started never gets it.

Whose a process is, is known by the variable `MCP_GYM_SERVER` in its environment, which children
inherit and a stranger with a reused process id lacks; by its process group; and by its ancestors,
as long as they live. Only a process that has none of the three is not found: one that emptied its
environment, left the group, and lost the server that started it, which may end by itself at the
end of its input, before the reaper looks. Where there is no /proc, the group alone counts.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MARKER = "MCP_GYM_SERVER"
"""The environment variable that holds a server's token."""

PATIENCE_S = 1.5
"""How long the reaper goes on killing what does not go away."""

_PROC = Path("/proc")
_STATE, _PARENT, _GROUP, _STARTED = 0, 1, 2, 19
"""Fields of /proc/PID/stat, counted behind the name of the program."""


class Server(NamedTuple):
    """How a server and what it started are recognised.

    Attributes:
        token: The value of its `MARKER` variable.
        pid: Its process id, which is also that of its group; 0 before it is started.
        started: When it was started, see `started_at`; it tells it from a later owner of its id.
    """

    token: str
    pid: int = 0
    started: int = 0


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int
    started: int


def started_at(pid: int) -> int:
    """Return when a process was started, in clock ticks since the machine was; 0 if it is gone."""
    process = _process(pid)
    return process.started if process else 0


def _process(pid: int) -> _Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[_STATE] in (b"Z", b"X"):
        return None
    return _Process(pid, int(fields[_PARENT]), int(fields[_GROUP]), int(fields[_STARTED]))


def _processes() -> Iterator[_Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (process := _process(int(entry.name))):
            yield process


def _token(pid: int) -> str:
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    mark = MARKER.encode() + b"="
    return next((v[len(mark) :].decode("latin-1") for v in variables if v.startswith(mark)), "")


def family(roots: Iterable[Server]) -> list[Server]:
    """Return the living processes that belong to servers, each as a root of its own."""
    roots = list(roots)
    tokens = {root.token for root in roots}
    oldest = min((root.started for root in roots), default=0)
    table = {process.pid: process for process in _processes() if process.started >= oldest}
    found = {pid for pid in table if _token(pid) in tokens}
    groups = {table[pid].group for pid in found} & {root.pid for root in roots}
    for root in roots:
        if root.pid in table and table[root.pid].started == root.started:
            found.add(root.pid)
            groups.add(root.pid)
    found |= {process.pid for process in table.values() if process.group in groups}
    while children := {p.pid for p in table.values() if p.parent in found} - found:
        found |= children
    return [Server(roots[0].token, pid, table[pid].started) for pid in found]


def kill_family(roots: Iterable[Server]) -> set[int]:
    """Kill the processes that belong to servers.

    Returns:
        The ids of those that were still there. They may have started others in the meantime, so
        only an empty answer says that all are gone.
    """
    if not _PROC.is_dir():
        for root in roots:
            _signal(os.killpg, root.pid)
        return set()
    found = {process.pid for process in family(roots)}
    for pid in found:
        _signal(os.kill, pid)
    return found


def _signal(kill: Callable[[int, int], None], pid: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


class Reaper:
    """Tells the watcher process of this process what is in use.

    The watcher starts with the first thing to watch. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, Server] = {}
        self._folders: set[str] = set()
        self._pipe: int | None = None
        self._watcher = 0
        # A copy of the pipe in a forked child would keep the reaper waiting for the child's end.
        os.register_at_fork(after_in_child=self._drop_pipe)

    def watch(self, server: Server) -> None:
        """Have a server killed when this process ends; a second time when its id is known."""
        with self._lock:
            self._servers[server.token] = server
            self._tell("watch", *server)

    def forget(self, token: str) -> None:
        """Stop watching a server: it is gone."""
        with self._lock:
            self._servers.pop(token, None)
            self._tell("forget", token)

    def watch_folder(self, path: str | Path) -> None:
        """Have a folder removed when this process ends, once no server is left."""
        with self._lock:
            self._folders.add(str(Path(path).absolute()))
            self._tell("watch_folder", str(Path(path).absolute()))

    def forget_folder(self, path: str | Path) -> None:
        """Stop watching a folder: it is gone, or somebody else's."""
        with self._lock:
            self._folders.discard(str(Path(path).absolute()))
            self._tell("forget_folder", str(Path(path).absolute()))

    def _tell(self, *message: str | int) -> None:
        try:
            if self._pipe is not None:
                _write(self._pipe, message)
                return
        except BrokenPipeError:  # somebody killed the watcher
            self._drop_pipe()
            os.waitpid(self._watcher, os.WNOHANG)
        self._watcher, self._pipe = _start()
        for server in self._servers.values():
            _write(self._pipe, ("watch", *server))
        for folder in self._folders:
            _write(self._pipe, ("watch_folder", folder))

    def _drop_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def _write(pipe: int, message: Iterable[str | int]) -> None:
    os.write(pipe, json.dumps(list(message)).encode() + b"\n")


def _start() -> tuple[int, int]:
    """Start a watcher; return its id and the pipe to it, which the kernel closes at our end."""
    theirs, ours = os.pipe()
    try:
        # Isolated (-I), or the modules beside this file would hide those of the standard library.
        watcher = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", __file__],
            {name: value for name, value in os.environ.items() if name != MARKER},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(theirs)
    return watcher, ours


def reaper() -> Reaper:
    """Return the reaper of this process."""
    return _reaper(os.getpid())


@functools.cache
def _reaper(process: int) -> Reaper:
    return Reaper()


def _obey(messages: Iterable[bytes]) -> tuple[list[Server], set[str]]:
    """Read messages to their end and return what is then in use: servers and folders."""
    servers: dict[str, Server] = {}
    folders: set[str] = set()
    for message in messages:
        if not message.endswith(b"\n"):
            break  # the trainer was killed while it wrote
        what, *details = json.loads(message)
        if what == "watch":
            servers[details[0]] = Server(*details)
        elif what == "forget":
            servers.pop(details[0], None)
        elif what == "watch_folder":
            folders.add(details[0])
        else:
            folders.discard(details[0])
    return list(servers.values()), folders


def main() -> None:
    """Wait for the end of the trainer and clear up behind it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    servers, folders = _obey(sys.stdin.buffer)
    deadline = time.monotonic() + PATIENCE_S
    while servers and kill_family(servers) and time.monotonic() < deadline:
        time.sleep(0.01)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""One server process: started with nothing but what it is given, and killed with all its kin.

Everything that waits has a deadline, and what is not read cannot pile up: stdout is paused when
nobody reads it, of stderr only the end is kept.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from envs.errors import ServerStartError
from envs.servers.reaper import MARKER, Server, family, kill_family, reaper, started_at

INHERITED = ("PATH", "LANG", "LC_ALL")
"""The only variables of our own environment that a server gets."""

STDERR_BYTES = 8192
"""How much of the end of stderr is kept."""

STDOUT_BYTES = 1 << 18
"""How much of stdout may lie here unread before the server has to wait."""

GRACE_S = 0.5
"""How long a server that is asked to end may take."""

KILL_S = 1.0
"""How long killed processes may take to go away."""

LAST_WORDS_S = 0.2
"""How long the pipes of a dead server are read on; a process it left behind may hold them open."""


class ServerProcess(asyncio.SubprocessProtocol):
    """A server process with pipes, in a session and a process group of its own.

    Made by `start`; belongs to the event loop on which it was started.

    Attributes:
        command: The program and its arguments.
        pid: Its process id, which is also that of its group.
        returncode: Its exit code, minus the signal that killed it, or None while it runs.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self.pid = 0
        self.returncode: int | None = None
        self._token = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._server = Server(self._token)
        self._transport: asyncio.SubprocessTransport
        self._stdin: asyncio.WriteTransport
        self._stdout: asyncio.ReadTransport
        self._unread = bytearray()
        self._stderr = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._exited = asyncio.Event()
        self._lost = asyncio.Event()
        self._ended = False
        self._killing: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        command: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> ServerProcess:
        """Start a server.

        Args:
            command: Its program: a path, or a name that is looked up in the server's PATH.
            args: Its arguments.
            env: Its variables, HOME among them. It gets these, a marker by which its descendants
                are found, and of our own only `INHERITED`, which `env` may override.
            cwd: Its working folder; None is ours.

        Raises:
            ServerStartError: If the program cannot be run; the message says what to do.
        """
        self = cls([command, *args])
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        variables = {**inherited, **(env or {}), MARKER: self._token}
        # Watched before it exists: this process may be killed at any moment.
        reaper().watch(self._server)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self, *self.command, env=variables, cwd=cwd, start_new_session=True
            )
        except BaseException as error:
            kill_family([self._server])
            reaper().forget(self._token)
            if isinstance(error, OSError | ValueError):
                raise ServerStartError(_cannot_run(command, cwd, error)) from error
            raise
        return self

    @property
    def running(self) -> bool:
        """Return whether the process lives."""
        return self.returncode is None

    @property
    def writable(self) -> bool:
        """Return whether `write` would return at once."""
        return self._writable.is_set()

    @property
    def stderr_tail(self) -> str:
        """Return the end of what the server wrote to stderr."""
        return self._stderr.decode(errors="replace")

    async def read(self) -> bytes:
        """Return what came on stdout since the last time, at least a byte; b"" at its end."""
        await self._news.wait()
        data = bytes(self._unread)
        self._unread.clear()
        if not self._ended:
            self._news.clear()
            self._stdout.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Write to stdin, once the server has read enough of what was written before.

        Raises:
            BrokenPipeError: If the server does not read any more.
        """
        await self._writable.wait()
        if self._ended or self._stdin.is_closing():
            raise BrokenPipeError(errno.EPIPE, "the server has closed its stdin")
        self._stdin.write(data)

    async def kill(self, grace: float = GRACE_S) -> None:
        """End the server and everything it started, and close the pipes.

        A caller who is cancelled does not stop it. The descendants that left the group are looked
        for before the server dies, because afterwards nobody knows whose they were.

        Args:
            grace: Seconds in which it may end by itself when asked to; 0 kills it at once.
        """
        if self._killing is None:
            self._killing = asyncio.ensure_future(self._kill(grace))
        await asyncio.shield(self._killing)

    async def _kill(self, grace: float) -> None:
        kin = [self._server]
        if grace > 0 and self.running:
            kin += family(kin)
            self._close_stdin()
            self._signal_group(signal.SIGTERM)
            await _until(self._exited, grace)
        self._end()
        self._close_stdin()
        await self._kill_family(kin)
        await _until(self._exited, KILL_S)
        await _until(self._lost, LAST_WORDS_S)
        self._transport.close()
        await _until(self._lost, KILL_S)
        reaper().forget(self._token)

    async def _kill_family(self, kin: list[Server]) -> None:
        self._signal_group(signal.SIGSTOP)  # nobody forks while we look
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KILL_S
        # What is found beside the server was not stopped, so look again.
        while kill_family(kin) - {self.pid} and loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _close_stdin(self) -> None:
        if not self._stdin.is_closing():
            self._stdin.abort()

    def _signal_group(self, number: signal.Signals) -> None:
        # Once the server is reaped, its id may be the id of somebody else's group.
        if self.running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _end(self) -> None:
        """End the stream of output; what still comes is thrown away."""
        self._ended = True
        self._news.set()
        self._writable.set()
        self._stdout.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the pipes of the process that was started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        self._stdout = cast("asyncio.ReadTransport", self._transport.get_pipe_transport(1))
        self.pid = self._transport.get_pid()
        self._server = Server(self._token, self.pid, started_at(self.pid))
        reaper().watch(self._server)
        self._writable.set()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep output until it is read, and the end of stderr."""
        if fd == 2:
            self._stderr += data
            del self._stderr[:-STDERR_BYTES]
        elif not self._ended:
            self._unread += data
            self._news.set()
            if len(self._unread) >= STDOUT_BYTES:
                self._stdout.pause_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """End the stream of output with stdout; let writers see that stdin is gone."""
        if fd == 0:
            self._writable.set()
        if fd == 1:
            self._end()

    def pause_writing(self) -> None:
        """Let writers wait: the server does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers write."""
        self._writable.set()

    def process_exited(self) -> None:
        """Note the exit code."""
        self.returncode = self._transport.get_returncode()
        self._exited.set()
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the process and its pipes are gone."""
        self._lost.set()


async def _until(event: asyncio.Event, limit: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit):
            await event.wait()


def _cannot_run(command: str, cwd: str | Path | None, error: OSError | ValueError) -> str:
    """Return the sentence for a program that the system refused to run."""
    if cwd is not None and not Path(cwd).is_dir():
        return f'cannot start the server "{command}": its working folder {cwd} is not a folder'
    if isinstance(error, FileNotFoundError):
        hint = "there is no such program; install it, or give its full path"
    elif isinstance(error, PermissionError):
        hint = "it may not be executed; check the path and the file's permissions"
    elif isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        hint = 'it is not a program; a script needs a first line such as "#!/usr/bin/env python3"'
    else:
        hint = str(error)
    return f'cannot start the server "{command}": {hint}'

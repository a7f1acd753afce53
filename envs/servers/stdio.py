"""MCP over the pipes of a server process, for servers that nobody vouches for.

It takes the place of the SDK's stdio transport, which reads a long line in quadratic time and
without a limit, hangs on invalid UTF-8, and hides why a server did not start. Here

    a line longer than the cap          fails the requests in flight at once, and is never stored
    an answer that cannot be read       fails its request at once (nested too deep, not JSON-RPC)
    any other line that is no message   is counted and ignored (banners, logs)
    a flood of output                   leaves the loop free for others and is not piled up
    the end of the process              ends the session, whoever still holds its pipes
"""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from envs.servers.process import GRACE_S, ServerProcess

MAX_LINE_BYTES = 4 << 20
"""Default cap of a message. To parse one of this size takes up to 0.3 s, in which nobody runs."""

OVERSIZED_LINE = -32010
"""JSON-RPC error code of a request that was in flight when a line crossed the cap."""

UNREADABLE_ANSWER = -32011
"""JSON-RPC error code of a request whose answer is no JSON-RPC message."""

LINES_AT_A_TIME = 32
"""After so many lines the others on the event loop have their turn."""

_ID = re.compile(r'"id"\s*:\s*"?([^",}\s]+)')

ToSession = MemoryObjectSendStream[SessionMessage | Exception]
FromServer = MemoryObjectReceiveStream[SessionMessage | Exception]


class StdioTransport:
    """An MCP transport that starts a server and talks to it; can be used once.

    `mcp.Client(StdioTransport("server", ["--flag"], env))` opens a session over it.

    Args:
        command: The server's program.
        args: Its arguments.
        env: Its variables, see `ServerProcess.start`.
        cwd: Its working folder.
        max_line_bytes: Length of a message above which it is refused.
        grace: Seconds that the server may take to end by itself when the session is closed; 0 for
            a server whose state nobody wants.

    Attributes:
        process: The server's process, also when it has ended; None if it could not be started.
        ignored_lines: How many lines were no messages.
        oversized_lines: How many lines were longer than the cap.
    """

    def __init__(
        self,
        command: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        grace: float = GRACE_S,
    ) -> None:
        self.process: ServerProcess | None = None
        self.ignored_lines = 0
        self.oversized_lines = 0
        self._command = command
        self._args = args
        self._env = env
        self._cwd = cwd
        self._max_line_bytes = max_line_bytes
        self._grace = grace
        self._in_flight: dict[str, RequestId] = {}

    async def __aenter__(self) -> tuple[FromServer, ToServer]:
        """Start the server.

        Returns:
            The stream of messages from it and the stream of messages to it.

        Raises:
            ServerStartError: If its program cannot be run.
        """
        self.process = await ServerProcess.start(self._command, self._args, self._env, self._cwd)
        to_session, self._from_server = anyio.create_memory_object_stream[
            SessionMessage | Exception
        ]()
        self._reader = asyncio.ensure_future(self._read(self.process, to_session))
        return self._from_server, ToServer(self.process, self._in_flight)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the server, with everything it started; a cancelled caller does not stop that."""
        if self.process is not None:
            self._from_server.close()
            self._reader.cancel()
            await self.process.kill(self._grace)

    async def _read(self, process: ServerProcess, to_session: ToSession) -> None:
        lines = LineSplitter(self._max_line_bytes)
        with to_session:  # its end is the end of the session
            while data := await process.read():
                for number, line in enumerate(lines.feed(data), 1):
                    for message in self._oversized() if line is None else self._understood(line):
                        await to_session.send(SessionMessage(message))
                    if number % LINES_AT_A_TIME == 0:
                        await asyncio.sleep(0)

    def _oversized(self) -> Iterator[JSONRPCMessage]:
        self.oversized_lines += 1
        problem = f"the server sent a line of more than {self._max_line_bytes} bytes"
        # The line may not even have said yet whose answer it is.
        return self._failed(list(self._in_flight), OVERSIZED_LINE, problem)

    def _understood(self, line: bytes) -> Iterable[JSONRPCMessage]:
        text = line.decode(errors="replace")
        try:
            message = jsonrpc_message_adapter.validate_json(text, by_name=False)
        except ValidationError as error:
            meant = self._in_flight.keys() & set(_ID.findall(text))
            self.ignored_lines += not meant
            problem = f"the server's answer is no JSON-RPC message: {error.errors()[0]['msg']}"
            return self._failed(meant, UNREADABLE_ANSWER, problem)
        if not isinstance(message, JSONRPCRequest | JSONRPCNotification):
            self._in_flight.pop(str(message.id), None)
        return [message]

    def _failed(self, ids: Iterable[str], code: int, problem: str) -> Iterator[JSONRPCMessage]:
        error = ErrorData(code=code, message=problem)
        for name in ids:
            yield JSONRPCError(jsonrpc="2.0", id=self._in_flight.pop(name), error=error)


class ToServer:
    """The stream of messages to a server.

    Args:
        process: The server.
        in_flight: Where the ids of requests are noted, by their text.
    """

    def __init__(self, process: ServerProcess, in_flight: dict[str, RequestId]) -> None:
        self._process = process
        self._in_flight = in_flight

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message.

        While the server does not read, requests wait (their callers have deadlines) and all other
        messages are dropped: the session would wait for them without one.

        Raises:
            BrokenResourceError: If the server is gone.
        """
        message = item.message
        if isinstance(message, JSONRPCRequest):
            self._in_flight[str(message.id)] = message.id
        elif not self._process.writable:
            return
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
        try:
            await self._process.write(text.encode() + b"\n")
        except BrokenPipeError as error:
            raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Do nothing: the process is ended by the transport."""

    async def __aenter__(self) -> ToServer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class LineSplitter:
    """Cuts a stream of bytes into lines, in linear time and bounded memory.

    Args:
        max_bytes: Longest line that is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._refused = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Return the lines that end in the data, without their ends.

        A line that crosses the cap is None, as soon as it does so.
        """
        *ends, start = data.split(b"\n")
        for end in ends:
            yield from self._grow(end)
            if not self._refused:
                yield bytes(self._line)
            self._line.clear()
            self._refused = False
        yield from self._grow(start)

    def _grow(self, part: bytes) -> Iterator[None]:
        if self._refused:
            return
        if len(self._line) + len(part) > self._max_bytes:
            self._line.clear()
            self._refused = True
            yield None
        else:
            self._line += part


_HINTS = (
    (
        r"No module named '(mcp|fastmcp)'",
        "the Python that runs this server lacks the package: install the server in a virtual "
        "environment of its own and start it with that environment's python",
    ),
    (
        r"(Import|ModuleNotFound|Attribute)Error: .*\bmcp\.|cannot import name .* from 'mcp"
        r"|AttributeError: '(Server|FastMCP)' object",
        "this server was written for mcp 1.x: install it in a virtual environment of its own with "
        "'mcp<2'",
    ),
    (
        r"Cannot find (module|package)",
        "node does not find the server's code: run `npm install` where it lies, or check the path",
    ),
    (
        r"command not found|: not found|No such file or directory",
        "a program or file that it needs is missing: install it, or give its full path",
    ),
)


def start_failure(command: Sequence[str], returncode: int | None, stderr_tail: str) -> str:
    """Return the sentence for a server that did not start.

    Args:
        command: Its program and arguments.
        returncode: Its exit code, minus the signal that killed it; None if it still ran.
        stderr_tail: The end of what it wrote to stderr.
    """
    parts = [f"the server `{shlex.join(command)}` did not start: {_end(returncode)}"]
    if stderr_tail.strip():
        parts.append(f"; the end of its stderr:\n{stderr_tail.strip()}")
    for pattern, hint in _HINTS:
        if re.search(pattern, stderr_tail):
            parts.append(f"\nHint: {hint}")
            break
    return "".join(parts)


def _end(returncode: int | None) -> str:
    if returncode is None:
        return "it runs, but did not answer"
    if returncode < 0:
        return f"signal {-returncode} ended it ({signal.strsignal(-returncode)})"
    return f"it ended with exit code {returncode}"

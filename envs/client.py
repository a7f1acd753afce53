"""MCP connections for synchronous code, each owned by one task.

`step()` is synchronous and the SDK is not, so callers cross over to an event loop
(`event_loop.py`). A crossing costs about 0.1 ms, so `calls.py` takes the calls of a whole vector
step at once. A connection is opened and closed by the same task, as the SDK's cancel scopes demand;
when that task ends, the calls in flight end with it. Every wait has a deadline, and every way in
which a call can fail is one of the statuses of `Status`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from mcp import Client
from mcp.server import MCPServer, Server
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, REQUEST_TIMEOUT, Tool

from envs.errors import ClientError, ServerStartError, ToolListError
from envs.event_loop import event_loop
from envs.results import fault, normalised
from rewards.episode import MODEL_STATUSES, Status, ToolCall, ToolResult

MAX_TOOL_PAGES = 100
GRACE_S = 1.0
"""How much longer than the deadlines inside it a crossing is waited for."""

_GONE = (EOFError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


@dataclass(frozen=True)
class Deadlines:
    """Seconds that each kind of wait may take.

    Attributes:
        start: Opening a connection, and reading its tool list.
        call: One tool call.
        close: Leaving a session before its task is cancelled.
    """

    start: float = 30.0
    call: float = 10.0
    close: float = 1.0


class Connection:
    """One MCP session.

    Args:
        server: Anything `mcp.Client` takes: a server object, a URL, a transport.
        deadlines: How long each wait may take.
        mode: Protocol era, as `mcp.Client` takes it: `"auto"` asks the server, which costs an
            answer (and 10 s where an old server gives none), `"legacy"` and a version do not.

    Attributes:
        in_process: Whether the server's tools run on the event loop of this process.
    """

    def __init__(self, server: Any, deadlines: Deadlines | None = None, mode: str = "auto") -> None:
        self.deadlines = deadlines or Deadlines()
        self.loop = event_loop()
        self.mode = mode
        self.in_process = isinstance(server, MCPServer | Server)
        self._server = server
        self._client: Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._ended_with: BaseException | None = None

    @property
    def version(self) -> str:
        """Return the protocol version of the open session."""
        return str(self._client.protocol_version) if self._client else ""

    @property
    def alive(self) -> bool:
        """Return whether the session is open."""
        return self._client is not None and not self._stop.is_set()

    async def open(self) -> None:
        """Open the session (on the event loop).

        Raises:
            ServerStartError: If the session cannot be opened in time.
        """
        self.loop.residents.add(self)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        owner = self._owner = asyncio.ensure_future(self._own(ready))
        owner.add_done_callback(self._owner_ended)
        waited = {owner, ready}
        await asyncio.wait(
            waited, timeout=self.deadlines.start, return_when=asyncio.FIRST_COMPLETED
        )
        if ready.done():
            return
        if not owner.done():
            problem = self._start_problem(TimeoutError(_silent(self.deadlines.start)))
            owner.cancel()
            raise ServerStartError(problem)
        failure = None if owner.cancelled() else owner.exception()
        raise ServerStartError(self._start_problem(failure)) from failure

    def _start_problem(self, error: BaseException | None) -> str:
        """Return why the session could not be opened, in a sentence."""
        root = _root_error(error)
        if isinstance(root, TimeoutError | ServerStartError):
            return str(root)
        return f"the MCP server did not start: {_root(error)}"

    async def _own(self, ready: asyncio.Future[None]) -> None:
        """Enter, wait and leave in one task."""
        async with Client(self._server, cache=None, mode=self.mode) as client:
            self._client = client
            ready.set_result(None)
            await self._stop.wait()

    def _owner_ended(self, owner: asyncio.Task[None]) -> None:
        """End the calls in flight; whatever killed the session is a fault of the server."""
        self._client = None
        if not owner.cancelled():
            # asyncio complains about exceptions that nobody looked at.
            self._ended_with = owner.exception()
        for task in self._in_flight:
            task.cancel()

    def list_tools(self) -> list[Tool]:
        """Return all tools; see `tools`."""
        limit = self.deadlines.start
        try:
            return self.loop.run(self.tools(), limit + GRACE_S)
        except TimeoutError as error:
            raise ToolListError(f"the server sent no tool list within {limit:g} s") from error

    async def tools(self) -> list[Tool]:
        """Return all tools, page by page (on the event loop).

        Raises:
            ToolListError: If the list does not end, or cannot be read in time.
        """
        limit = self.deadlines.start
        try:
            async with asyncio.timeout(limit):
                return await self._list_tools()
        except TimeoutError as error:
            raise ToolListError(f"the server sent no tool list within {limit:g} s") from error
        except (MCPError, RuntimeError, ValueError) as error:
            raise ToolListError(f"the server's tool list cannot be read: {error}") from error

    async def _list_tools(self) -> list[Tool]:
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(MAX_TOOL_PAGES):
            if self._client is None:
                raise ClientError("the connection is closed")
            page = await self._client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return tools
        raise ToolListError(f"the server's tool list has more than {MAX_TOOL_PAGES} pages")

    async def call(self, call: ToolCall) -> ToolResult:
        """Call a tool (on the event loop).

        Raises:
            Exception: Whatever a transport or a server can think of; see `failed`.
        """
        if self._client is None or not self.alive:
            return fault(Status.SERVER_CRASHED, "the server is gone")
        try:
            async with asyncio.timeout(self.deadlines.call):
                answer = await self._client.call_tool(call.name, dict(call.arguments))
        except MCPError as error:
            return self.failed(error)
        return normalised(answer)

    async def resources(self) -> frozenset[str]:
        """Return the URIs of the server's resources (on the event loop); none if it has no such.

        Raises:
            ClientError: If the list cannot be read in time.
        """
        if self._client is None:
            raise ClientError("the connection is closed")
        try:
            async with asyncio.timeout(self.deadlines.call):
                page = await self._client.list_resources()
        except MCPError:
            return frozenset()
        except TimeoutError as error:
            raise ClientError("the server sent no list of resources in time") from error
        return frozenset(str(resource.uri) for resource in page.resources)

    async def read(self, uri: str) -> ToolResult:
        """Return the text of a resource (on the event loop), or how reading it failed."""
        if self._client is None or not self.alive:
            return fault(Status.SERVER_CRASHED, "the server is gone")
        try:
            async with asyncio.timeout(self.deadlines.call):
                answer = await self._client.read_resource(uri)
        except (MCPError, TimeoutError, *_GONE) as error:
            return self.failed(error)
        return ToolResult("".join(getattr(content, "text", "") for content in answer.contents))

    def start(self, calls: Sequence[ToolCall], results: list[ToolResult]) -> asyncio.Task[None]:
        """Start calls that run one after another until one meets an infrastructure fault.

        Args:
            calls: The calls.
            results: Where the result of each call that was answered goes.

        Returns:
            The task; it is cancelled when the session ends.
        """
        task = asyncio.ensure_future(self._call_in_order(calls, results))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        return task

    async def _call_in_order(self, calls: Sequence[ToolCall], results: list[ToolResult]) -> None:
        for call in calls:
            results.append(await self.call(call))
            if results[-1].status not in MODEL_STATUSES:
                return

    def failed(self, error: BaseException | None) -> ToolResult:
        """Return the result of a call that ended in an exception, or was cancelled (None)."""
        if isinstance(error, MCPError):
            return self._refused(error)
        if isinstance(error, TimeoutError):
            return self.late()
        if isinstance(error, _GONE) or not self.alive:
            return fault(Status.SERVER_CRASHED, f"the server is gone: {_root(error)}")
        if isinstance(error, RuntimeError | ValueError):
            return fault(Status.BAD_RESULT, f"the server's answer cannot be used: {error}")
        return fault(Status.PROTOCOL_ERROR, f"the call failed: {_root(error)}")

    def _refused(self, error: MCPError) -> ToolResult:
        if error.code == REQUEST_TIMEOUT:
            return self.late()
        # Servers use the same code for errors of their own, so the SDK's words decide.
        if error.code == CONNECTION_CLOSED and error.message == "Connection closed":
            self._stop.set()
            return fault(Status.SERVER_CRASHED, "the server is gone")
        if "unknown tool" in error.message.lower():
            return fault(Status.UNKNOWN_TOOL, error.message)
        if error.code == INVALID_PARAMS:
            return fault(Status.BAD_ARGUMENTS, error.message)
        return fault(Status.PROTOCOL_ERROR, f"the server refused the request: {error.message}")

    def late(self) -> ToolResult:
        """Return the result of a call without an answer at its deadline."""
        return fault(Status.TIMEOUT, f"no answer within {self.deadlines.call:g} s")

    def close(self) -> None:
        """Close the session; it never takes longer than the deadline."""
        close_all([self])

    async def leave(self) -> None:
        """Let the owner leave the session (on the event loop), or cancel it."""
        owner = self._owner
        if owner is None:
            return
        self._stop.set()
        await asyncio.wait({owner}, timeout=self.deadlines.close)
        if not owner.done():
            owner.cancel()


def connect(server: Any, deadlines: Deadlines | None = None, mode: str = "auto") -> Connection:
    """Open a connection, from synchronous code; see `Connection`.

    Raises:
        ServerStartError: If the session cannot be opened in time.
    """
    connection = Connection(server, deadlines, mode)
    limit = connection.deadlines.start
    try:
        connection.loop.run(connection.open(), limit + GRACE_S)
    except TimeoutError as error:
        raise ServerStartError(_silent(limit)) from error
    return connection


def _silent(seconds: float) -> str:
    return f"the MCP server did not answer within {seconds:g} s"


def close_all(connections: Iterable[Connection]) -> None:
    """Close connections side by side; those of another process are left alone."""
    loop = event_loop()
    own = [connection for connection in connections if connection.loop is loop]
    if own:
        longest = max(connection.deadlines.close for connection in own)
        loop.dismiss(own, longest + GRACE_S)


def _root_error(error: BaseException | None) -> BaseException | None:
    """Return the first real exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _root(error: BaseException | None) -> str:
    root = _root_error(error)
    return f"{type(root).__name__}: {root}" if root else "its session was cancelled"

"""MCP connections for synchronous code, each owned by one task.

`step()` is synchronous and the SDK is not, so callers cross over to an event loop in another
thread (`event_loop.py`). A crossing costs about 60 us, so `call_all` takes the calls of a whole
vector step at once. A connection is opened and closed by the same task, as
the SDK's cancel scopes demand; when that task ends, the calls in flight end with it. Every wait
has a deadline, and every way in which a call can fail is one of the statuses of `Status`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    REQUEST_TIMEOUT,
    CallToolResult,
    EmbeddedResource,
    TextContent,
    TextResourceContents,
    Tool,
)

from envs.errors import ClientError, ServerStartError, ToolListError
from envs.event_loop import event_loop
from rewards.episode import MODEL_STATUSES, Status, ToolCall, ToolResult

MAX_TOOL_PAGES = 100
MAX_RESULT_CHARS = 4_000_000
"""A longer result is an infrastructure fault; the environment cuts much shorter ones visibly."""

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
    """One open MCP session.

    Args:
        server: Anything `mcp.Client` takes: a server object, stdio parameters, a URL.
        deadlines: How long each wait may take.

    Raises:
        ServerStartError: If the session cannot be opened in time.
    """

    def __init__(self, server: Any, deadlines: Deadlines | None = None) -> None:
        self.deadlines = deadlines or Deadlines()
        self.loop = event_loop()
        self._client: Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._in_flight: set[asyncio.Task[Any]] = set()
        try:
            self.loop.run(self._open(server), self.deadlines.start + GRACE_S)
        except TimeoutError as error:
            limit = self.deadlines.start
            raise ServerStartError(f"the MCP server did not answer within {limit:g} s") from error
        self.loop.residents.add(self)

    @property
    def alive(self) -> bool:
        """Return whether the session is open."""
        return self._client is not None and not self._stop.is_set()

    async def _open(self, server: Any) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        owner = self._owner = asyncio.ensure_future(self._own(server, ready))
        owner.add_done_callback(self._owner_ended)
        waited = {owner, ready}
        await asyncio.wait(
            waited, timeout=self.deadlines.start, return_when=asyncio.FIRST_COMPLETED
        )
        if ready.done():
            return
        if not owner.done():
            owner.cancel()
            raise TimeoutError
        failure = None if owner.cancelled() else owner.exception()
        raise ServerStartError(f"the MCP server did not start: {_root(failure)}") from failure

    async def _own(self, server: Any, ready: asyncio.Future[None]) -> None:
        """Enter, wait and leave in one task."""
        async with Client(server, cache=None) as client:
            self._client = client
            ready.set_result(None)
            await self._stop.wait()

    def _owner_ended(self, owner: asyncio.Task[None]) -> None:
        """End the calls in flight; whatever killed the session is a fault of the server."""
        self._client = None
        if not owner.cancelled():
            owner.exception()  # asyncio complains about exceptions that nobody looked at
        for task in self._in_flight:
            task.cancel()

    def list_tools(self) -> list[Tool]:
        """Return all tools, page by page.

        Raises:
            ToolListError: If the list does not end, or cannot be read in time.
        """
        limit = self.deadlines.start
        try:
            return self.loop.run(self._list_tools(), limit)
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
            return self._refused(error)
        return normalised(answer)

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


def close_all(connections: Iterable[Connection]) -> None:
    """Close connections side by side; those of another process are left alone."""
    loop = event_loop()
    own = [connection for connection in connections if connection.loop is loop]
    if own:
        longest = max(connection.deadlines.close for connection in own)
        loop.dismiss(own, longest + GRACE_S)


def _root(error: BaseException | None) -> str:
    """Return the message of the first real exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if error else "its session was cancelled"


def fault(status: Status, text: str) -> ToolResult:
    """Return the result of a call that failed."""
    return ToolResult(f"Error: {text}", None, is_error=True, status=status)


def normalised(answer: CallToolResult) -> ToolResult:
    """Return a server's answer as a record: text blocks joined, other blocks named."""
    text = "\n".join(_block_text(block) for block in answer.content)
    if not text and answer.structured_content is not None:
        text = json.dumps(answer.structured_content, ensure_ascii=False)
    if len(text) > MAX_RESULT_CHARS:
        problem = f"the result has {len(text)} characters, more than {MAX_RESULT_CHARS}"
        return fault(Status.RESULT_TRUNCATED, problem)
    if not answer.is_error:
        return ToolResult(text, answer.structured_content)
    unknown = text.lower().startswith("unknown tool")
    return fault(Status.UNKNOWN_TOOL if unknown else Status.TOOL_ERROR, text)


def _block_text(block: Any) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
        return block.resource.text
    return f"[{block.type}]"


def call_all(
    batches: Sequence[tuple[Connection, Sequence[ToolCall]]],
) -> list[list[ToolResult]]:
    """Run many batches of calls in one crossing.

    The calls of a batch run one after another, the batches side by side.

    Args:
        batches: A connection and its calls, one batch per episode.

    Returns:
        One result per call. The calls behind an infrastructure fault share its status and are not
        executed.

    Raises:
        ClientError: If a connection was opened in another process.
    """
    if not batches:
        return []
    loop = event_loop()
    if any(connection.loop is not loop for connection, _ in batches):
        raise ClientError("connections do not survive a fork; make the environment in the worker")
    results: list[list[ToolResult]] = [[] for _ in batches]
    longest = max(connection.deadlines.call * len(calls) for connection, calls in batches)
    try:
        loop.run(_call_all(batches, results, longest + GRACE_S / 2), longest + GRACE_S)
    except TimeoutError:
        # A tool blocks the loop itself. What has no result is late, as below.
        results = [list(done) for done in results]
    for (connection, calls), done in zip(batches, results, strict=True):
        _fill(connection, len(calls), done)
    return results


async def _call_all(
    batches: Sequence[tuple[Connection, Sequence[ToolCall]]],
    results: Sequence[list[ToolResult]],
    limit: float,
) -> None:
    tasks = [
        connection.start(calls, into)
        for (connection, calls), into in zip(batches, results, strict=True)
    ]
    # A tool in a worker thread cannot be cancelled, so it is left behind.
    _, late = await asyncio.wait(tasks, timeout=limit)
    for (connection, _), task, into in zip(batches, tasks, results, strict=True):
        if task in late:
            task.cancel()
        elif task.cancelled() or task.exception():
            into.append(connection.failed(None if task.cancelled() else task.exception()))


def _fill(connection: Connection, number: int, results: list[ToolResult]) -> None:
    """Give every call that was not answered, or not even sent, its result."""
    if len(results) < number and (not results or results[-1].status in MODEL_STATUSES):
        results.append(connection.late())
    text = "not executed, because an earlier call of the turn met an infrastructure fault"
    results += [fault(results[-1].status, text) for _ in range(number - len(results))]

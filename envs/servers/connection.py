"""Connections to servers of the user's, which say what went wrong with them."""

from __future__ import annotations

from mcp.shared.exceptions import MCPError

from envs.client import Connection
from envs.results import fault
from envs.servers.http import HttpTransport, is_too_long
from envs.servers.process import ServerProcess
from envs.servers.stdio import OVERSIZED_LINE, UNREADABLE_ANSWER, StdioTransport, start_failure
from rewards.episode import Status, ToolResult

_STATUSES = {OVERSIZED_LINE: Status.RESULT_TRUNCATED, UNREADABLE_ANSWER: Status.BAD_RESULT}


class ServerConnection(Connection):
    """A connection over one of our own transports (see `Connection`)."""

    _server: StdioTransport | HttpTransport

    @property
    def alive(self) -> bool:
        """Return whether the session is open; nobody tells it of a process that dies meanwhile."""
        return super().alive and (self._process is None or self._process.running)

    def failed(self, error: BaseException | None) -> ToolResult:
        """Return the result of a call that ended in an exception, or was cancelled (None)."""
        if isinstance(error, MCPError) and error.code in _STATUSES:
            return fault(_STATUSES[error.code], error.message)
        for one in (error, self._ended_with):
            if is_too_long(one):
                return fault(Status.RESULT_TRUNCATED, "the server's answer is longer than the cap")
        return super().failed(error)

    async def leave(self) -> None:
        """Leave the session (on the event loop); the server's process is gone afterwards."""
        if self._client is None and self._owner is not None:
            self._owner.cancel()  # it was never open, or is over: there is nothing to wait for
        await super().leave()
        if self._process is not None:
            await self._process.kill(grace=0)

    @property
    def _process(self) -> ServerProcess | None:
        return self._server.process if isinstance(self._server, StdioTransport) else None

    def _start_problem(self, error: BaseException | None) -> str:
        process = self._process
        if process is None:  # HTTP, or a program that could not be run
            return super()._start_problem(error)
        return start_failure(process.command, process.returncode, process.stderr_tail)

"""Where episodes are played: slots, each with its own world behind a real MCP session.

A slot keeps its server and its connection for ever; a reset only swaps the slot's world for a copy
of a prepared one. Tool lists are read through the protocol once and shared by all slots.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.client import Connection, Deadlines, call_all, close_all
from envs.errors import ClientError, OptionError
from envs.schemas import ArgumentValidator, offered, openai_tool
from mock_mcp.errors import FaultsError
from mock_mcp.faults import Faults
from mock_mcp.handle import WorldHandle
from mock_mcp.server import build_server
from mock_mcp.world import World
from rewards.episode import Task, ToolCall, ToolResult

WORLDS_KEPT = 64


@functools.lru_cache(maxsize=WORLDS_KEPT)
def world_template(seed: int) -> World:
    """Return the world of a seed; callers copy it and never change it."""
    return World.build(seed)


@dataclass(frozen=True)
class ToolBox:
    """The tools of a server.

    Attributes:
        schemas: OpenAI function schema of each tool.
        validators: Checks arguments against the tool's original schema.
    """

    schemas: Mapping[str, dict[str, Any]]
    validators: Mapping[str, ArgumentValidator]

    def offer(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the schemas of the named tools in order."""
        return offered(self.schemas, names)


class MockBackend:
    """Slots over the mock world, in memory.

    Args:
        slots: How many episodes run side by side.
        deadlines: How long each wait may take.
    """

    def __init__(self, slots: int, deadlines: Deadlines | None = None) -> None:
        self.tools = mock_tools()
        template = world_template(0)
        self._deadlines = deadlines or Deadlines()
        self._handles = [WorldHandle(template, start=template) for _ in range(slots)]
        # Number of writes and changes when a slot's world was last looked at.
        self._seen: list[tuple[int, Mapping[str, Any]]] = [(template.writes, {})] * slots
        self._connections: list[Connection] = []
        try:
            for handle in self._handles:
                self._connections.append(self._connect(handle))
        except BaseException:
            self.close()
            raise

    def _connect(self, handle: WorldHandle) -> Connection:
        return Connection(build_server(handle), self._deadlines)

    def reset(self, slot: int, task: Task, faults: Mapping[str, Any] | None = None) -> None:
        """Give a slot a fresh copy of the task's world, and a new session if its own has died.

        Raises:
            ClientError: If the backend was closed.
            OptionError: If the faults of the environment or of the task cannot be used.
        """
        if not self._connections:
            raise ClientError("the environment is closed; make another one")
        if not self._connections[slot].alive:
            self._connections[slot] = self._connect(self._handles[slot])
        template = world_template(task.seed)
        self._handles[slot].reset(template, _faults(task, faults or {}))
        self._seen[slot] = template.writes, {}

    def call_all(self, batches: Sequence[tuple[int, Sequence[ToolCall]]]) -> list[list[ToolResult]]:
        """Run the calls of several slots in one crossing.

        Raises:
            ClientError: If the backend was closed.
        """
        if batches and not self._connections:
            raise ClientError("the environment is closed; make another one")
        return call_all([(self._connections[slot], calls) for slot, calls in batches])

    def changes(self, slot: int) -> Mapping[str, Any]:
        """Return the rows of a slot's world that differ from the start of the episode."""
        handle = self._handles[slot]
        writes, changes = self._seen[slot]
        if handle.world.writes != writes:
            changes = handle.world.changes_since(handle.start)
            self._seen[slot] = handle.world.writes, changes
        return changes

    def digest(self, slot: int) -> str:
        """Return the digest of a slot's world."""
        return self._handles[slot].world.digest()

    def close(self) -> None:
        """Close every connection."""
        connections, self._connections = self._connections, []
        close_all(connections)


def _faults(task: Task, beside: Mapping[str, Any]) -> Faults:
    try:
        return Faults({**task.faults, **beside})
    except FaultsError as error:
        raise OptionError(f"the faults for task {task.id} cannot be used: {error}") from error


@functools.cache
def mock_tools() -> ToolBox:
    """Return the mock server's tools, read through the protocol once per process."""
    template = world_template(0)
    connection = Connection(build_server(WorldHandle(template, start=template)))
    try:
        return read_tools(connection)
    finally:
        connection.close()


def read_tools(connection: Connection) -> ToolBox:
    """Read a server's tools through the protocol.

    Raises:
        ToolListError: If the list, or the schema of a tool, cannot be used.
    """
    tools = connection.list_tools()
    return ToolBox(
        {t.name: openai_tool(t.name, t.description or "", t.input_schema) for t in tools},
        {t.name: ArgumentValidator(t.name, t.input_schema) for t in tools},
    )

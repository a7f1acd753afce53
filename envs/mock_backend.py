"""Slots over the mock world, in memory.

A slot keeps its server and its connection for ever; a reset only swaps the slot's world for a copy
of a prepared one. Tool lists are read through the protocol once and shared by all slots.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from envs.backend import Evidence, ToolBox, answered_probes, offering, read_tools
from envs.calls import call_all
from envs.client import Connection, Deadlines, close_all, connect
from envs.errors import ClientError, OptionError, TaskError
from mock_mcp.errors import FaultsError
from mock_mcp.faults import Faults
from mock_mcp.handle import WorldHandle
from mock_mcp.server import build_server
from mock_mcp.world import World
from rewards.episode import Task, ToolCall, ToolResult
from rewards.evidence import parts, probes_of, wants_digest
from rewards.goals import FolderState, Goal

WORLDS_KEPT = 64


@functools.lru_cache(maxsize=WORLDS_KEPT)
def world_template(seed: int) -> World:
    """Return the world of a seed; callers copy it and never change it."""
    return World.build(seed)


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
        return connect(build_server(handle), self._deadlines)

    def fitted(self, task: Task) -> Task:
        """Return the task itself.

        Raises:
            TaskError: If its goal is about a working folder, which the mock world has none of, or
                it uses a tool that it does not offer.
        """
        if any(isinstance(part, FolderState) for part in parts(task.goal)):
            raise TaskError(
                f"the goal of task {task.id} is about a working folder; play it on MCP servers of "
                "your own (servers=...), the mock world has none"
            )
        return offering(task)

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
        return call_all(
            [[(self._connections[slot], call) for call in calls] for slot, calls in batches]
        )

    def evidence(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        """Return how worlds differ from the start of their episodes, and what else goals need."""
        asked = {slot: calls for slot, goal in wanted if (calls := probes_of(goal))}
        answers = dict(zip(asked, self.call_all(list(asked.items())), strict=True))
        return [
            Evidence(
                self._changes(slot),
                self._digest(slot) if wants_digest(goal) else "",
                answered_probes(asked[slot], answers[slot]) if slot in asked else {},
            )
            for slot, goal in wanted
        ]

    def _changes(self, slot: int) -> Mapping[str, Any]:
        handle = self._handles[slot]
        writes, changes = self._seen[slot]
        if handle.world.writes != writes:
            changes = handle.world.changes_since(handle.start)
            self._seen[slot] = handle.world.writes, changes
        return changes

    def _digest(self, slot: int) -> str:
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
    connection = connect(build_server(WorldHandle(template, start=template)))
    try:
        return read_tools(connection)
    finally:
        connection.close()

"""What an environment needs of the place where its episodes are played.

    MockBackend     the mock world, in memory (`mock_backend.py`)
    ServerBackend   MCP servers of the user's (`servers/backend.py`)

The environments cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from envs.client import Connection
from envs.errors import TaskError
from envs.schemas import ArgumentValidator, offered, openai_tool
from rewards.episode import FileEvidence, Task, ToolCall, ToolResult
from rewards.errors import GoalError
from rewards.evidence import probe_key
from rewards.goals import Goal
from rewards.validate import check_offer


@dataclass(frozen=True)
class Evidence:
    """What a goal is judged by beside the turns, as it is after a turn.

    Attributes:
        state: Rows of the mock world that differ from the start of the episode.
        digest: Digest of the mock world, where the goal needs it.
        probes: Results of the calls that the goal makes itself.
        files: Entries of the working folder that differ from the start of the episode; None where
            nobody looked.
    """

    state: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    probes: Mapping[str, ToolResult] = field(default_factory=dict)
    files: Mapping[str, FileEvidence | None] | None = None


NO_EVIDENCE = Evidence()
"""For a turn whose judgement does not look at the goal."""


def offering(task: Task) -> Task:
    """Return the task if its reference and goal use only tools that it offers.

    Raises:
        TaskError: If they use another one.
    """
    try:
        check_offer(task)
    except GoalError as error:
        raise TaskError(str(error)) from error
    return task


class Backend(Protocol):
    """Where the episodes of an environment are played, one in each slot."""

    @property
    def tools(self) -> ToolBox:
        """Return the tools of the servers."""

    def fitted(self, task: Task) -> Task:
        """Return a task as it is played here.

        Raises:
            TaskError: If it cannot be.
        """

    def reset(self, slot: int, task: Task, faults: Mapping[str, Any] | None = None) -> None:
        """Give a slot a state that no episode has touched."""

    def call_all(self, batches: Sequence[tuple[int, Sequence[ToolCall]]]) -> list[list[ToolResult]]:
        """Run the calls of several slots side by side."""

    def evidence(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        """Return what the goals of episodes are judged by, after a turn."""

    def close(self) -> None:
        """Close every connection."""


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


def answered_probes(
    calls: Sequence[ToolCall], results: Sequence[ToolResult]
) -> dict[str, ToolResult]:
    """Return the results of a goal's probes as they are recorded."""
    return {probe_key(call): result for call, result in zip(calls, results, strict=True)}

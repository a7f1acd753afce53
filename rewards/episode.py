"""The records of an episode: frozen data, named in the field's words, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from rewards.goals import Goal


class Outcome(StrEnum):
    """What one turn of the model came to (the rows of the reward matrix)."""

    SUCCESS = "success"
    TOOL_EXECUTION = "tool_execution"
    TOOL_ERROR = "tool_error"
    INVALID_JSON = "invalid_json"
    STRUCTURAL_FAIL = "structural_fail"


class Status(StrEnum):
    """How a tool call ended, as seen by the client, or the episode. The set is closed."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    BAD_ARGUMENTS = "bad_arguments"
    UNKNOWN_TOOL = "unknown_tool"
    TIMEOUT = "timeout"
    SERVER_CRASHED = "server_crashed"
    SERVER_START_FAILED = "server_start_failed"
    BAD_RESULT = "bad_result"
    RESULT_TRUNCATED = "result_truncated"
    PROTOCOL_ERROR = "protocol_error"
    UNANSWERED = "unanswered"  # no turn came from the endpoint that serves the policy


MODEL_STATUSES = frozenset(
    {Status.OK, Status.TOOL_ERROR, Status.BAD_ARGUMENTS, Status.UNKNOWN_TOOL}
)
"""Statuses that the model is responsible for; every other one is an infrastructure fault."""


class Fault(StrEnum):
    """What is wrong with the form of a turn, found by `envs/parsing.py`."""

    INVALID_JSON = "invalid_json"
    WRONG_FORMAT = "wrong_format"
    EMPTY = "empty"
    UNOFFERED_TOOL = "unoffered_tool"


@dataclass(frozen=True)
class ToolCall:
    """One call: the tool's name and its arguments, a JSON object."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ToolResult:
    """What a server answered to one call.

    Attributes:
        text: What the model is shown.
        structured: The structured content, if the server sent any.
        is_error: True for every status other than `ok`.
        status: How the call ended.
    """

    text: str
    structured: Any = None
    is_error: bool = False
    status: Status = Status.OK


EntryKind = Literal["file", "folder", "link", "other"]

MAX_FILE_TEXT = 65_536
"""Longest file, in bytes, whose text is evidence; of a longer one there is only the hash."""


@dataclass(frozen=True)
class FileEvidence:
    """What an entry of the working folder is after a turn.

    Attributes:
        kind: `link` is a symbolic link, which is never followed; `other` is what cannot be read:
            a socket, a pipe, a device, or something without permission.
        size: Size of a file in bytes, else 0.
        sha256: Hash of a file's bytes, else "".
        text: Text of a file that is UTF-8 and at most `MAX_FILE_TEXT` long, target of a link, or
            None.
    """

    kind: EntryKind = "file"
    size: int = 0
    sha256: str = ""
    text: str | None = None


@dataclass(frozen=True)
class ReferenceTurn:
    """One turn of a reference solution: calls, or a final text answer."""

    calls: tuple[ToolCall, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Task:
    """One task, as data.

    Attributes:
        id: Unique over all splits.
        prompt: The user's message.
        goal: What must hold for success.
        tools: Names of the offered tools, in the order they are shown. With servers of the user's
            also `SERVER/TOOL` or `SERVER/*`, and none for all that the config allows.
        domain: Domain of the mock world (`math`, ..., `cross`), or a label of the user's.
        kind: Family of the task; success is reported per kind.
        split: `train`, `validation` or `test`.
        heldout: What training never shows about this task: `phrasing`, `tools`, `depth`, or "".
        depth: Number of calls in the reference solution.
        seed: Seed of the world the task was made from.
        faults: Seeded faults switched on for the episode (see `mock_mcp/faults.py`).
        reference: A solution, turn by turn; empty where none is known.
        starter: Belongs to the starter family.
    """

    id: str
    prompt: str
    goal: Goal
    tools: tuple[str, ...] = ()
    domain: str = "custom"
    kind: str = "custom"
    split: str = "train"
    heldout: str = ""
    depth: int = 0
    seed: int = 0
    faults: Mapping[str, Any] = field(default_factory=dict)
    reference: tuple[ReferenceTurn, ...] = ()
    starter: bool = False


@dataclass(frozen=True)
class Turn:
    """One message of the model with what followed it.

    Attributes:
        raw: The model's text, untouched.
        calls: The calls that were parsed (empty where `fault` is set).
        text: The text outside of calls and `<think>`.
        thought: The text inside `<think>`.
        fault: What is wrong with the form, or None.
        fault_detail: One sentence for the model: what was wrong and what to do.
        results: One result per call that was executed.
        observation: What the model is told next ("" when the episode has ended).
        state: Changes of the world since the start of the episode, after this turn (evidence).
        state_digest: Digest of the world after this turn, or "".
        probes: Results of the environment's own calls of read tools after this turn, by
            `rewards.evidence.probe_key` (evidence).
        files: Path -> entry of the working folder that differs from the start of the episode,
            after this turn; None for one that was removed (evidence). None if not looked at.
        outcome: Row of the reward matrix.
        reward: Its value when the turn was played.
        why: The judgement in one sentence: which call, which field, which rule.
    """

    raw: str
    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    thought: str = ""
    fault: Fault | None = None
    fault_detail: str = ""
    results: tuple[ToolResult, ...] = ()
    observation: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    state_digest: str = ""
    probes: Mapping[str, ToolResult] = field(default_factory=dict)
    files: Mapping[str, FileEvidence | None] | None = None
    outcome: Outcome = Outcome.TOOL_EXECUTION
    reward: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Episode:
    """A whole episode: enough to judge it again without the server.

    Attributes:
        task: The task.
        turns: The turns, in order.
        max_turns: Turn limit of the environment.
        terminated: The task ended it (success, or a final answer).
        truncated: The turn limit or an infrastructure fault ended it.
        status: `ok`, or the infrastructure fault that ended it.
    """

    task: Task
    turns: tuple[Turn, ...] = ()
    max_turns: int = 8
    terminated: bool = False
    truncated: bool = False
    status: Status = Status.OK

    @property
    def total_reward(self) -> float:
        """The return: the sum of the rewards of the turns."""
        return sum(turn.reward for turn in self.turns)

    @property
    def success(self) -> bool:
        """True if the last turn was a success."""
        return bool(self.turns) and self.turns[-1].outcome is Outcome.SUCCESS

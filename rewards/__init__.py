"""The records of an episode and what they are worth. Knows nobody.

Files, in reading order:
    episode.py      the records: Task, ToolCall, ToolResult, Turn, Episode, Outcome, Status
    goals.py        what a task wants, as data
    matrix.py       the reward of each outcome
    judge.py        `judge_turn`: what a turn came to, its reward and why; `rescore`
    goal_checks.py  whether a goal holds, with answers.py, final_state.py and jsonpath.py
    validate.py     whether a task makes sense in itself
    serialise.py    tasks and episodes as JSON and JSONL (the task schema), with codec.py
    trl_rewards.py  reward functions for TRL over stored episodes
    errors.py       the tree of errors
"""

from __future__ import annotations

from rewards.episode import (
    MODEL_STATUSES,
    Episode,
    Fault,
    Outcome,
    ReferenceTurn,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.errors import CheckError, FormatError, GoalError, RecordError, RewardsError
from rewards.goals import (
    AllOf,
    AnyOf,
    Custom,
    FinalAnswer,
    FinalState,
    Goal,
    NoCall,
    NoCallNaming,
    ReturnedData,
)
from rewards.judge import Judgement, judge_turn, rescore
from rewards.matrix import DEFAULT_MATRIX, RewardMatrix

__all__ = [
    "DEFAULT_MATRIX",
    "MODEL_STATUSES",
    "AllOf",
    "AnyOf",
    "CheckError",
    "Custom",
    "Episode",
    "Fault",
    "FinalAnswer",
    "FinalState",
    "FormatError",
    "Goal",
    "GoalError",
    "Judgement",
    "NoCall",
    "NoCallNaming",
    "Outcome",
    "RecordError",
    "ReferenceTurn",
    "ReturnedData",
    "RewardMatrix",
    "RewardsError",
    "Status",
    "Task",
    "ToolCall",
    "ToolResult",
    "Turn",
    "judge_turn",
    "rescore",
]

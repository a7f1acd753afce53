"""The records of an episode and what they are worth. Knows nobody.

Files, in reading order:
    episode.py      the records: Task, ToolCall, ToolResult, Turn, Episode, Outcome, Status
    goals.py        what a task wants, as data
    matrix.py       the reward of each outcome
    judge.py        `judge_turn`: what a turn came to, its reward and why; `rescore`
    goal_checks.py  whether a goal holds, with answers.py, final_state.py, folder_state.py,
                    results.py, jsonpath.py and evaluators.py (those of MCP-Universe)
    evidence.py     what an environment has to record for a goal
    validate.py     whether a task makes sense in itself
    serialise.py    tasks and episodes as JSON and JSONL (the task schema), with codec.py
                    and strict_json.py
    trl_rewards.py  reward functions for TRL over stored episodes
    errors.py       the tree of errors
"""

from __future__ import annotations

from rewards.episode import (
    MODEL_STATUSES,
    Episode,
    Fault,
    FileEvidence,
    Outcome,
    ReferenceTurn,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.errors import CheckError, FormatError, GoalError, RecordError, RewardsError
from rewards.evaluators import evaluator_score
from rewards.evidence import probe_key, probes_of, wants_files
from rewards.goals import (
    AllOf,
    AnyOf,
    Custom,
    Evaluated,
    Evaluator,
    FinalAnswer,
    FinalState,
    FolderState,
    Goal,
    NoCall,
    NoCallNaming,
    Probe,
    ReturnedData,
    WantedEntry,
)
from rewards.judge import Judgement, judge_turn, reaches_goal, rescore
from rewards.matrix import DEFAULT_MATRIX, RewardMatrix

__all__ = [
    "DEFAULT_MATRIX",
    "MODEL_STATUSES",
    "AllOf",
    "AnyOf",
    "CheckError",
    "Custom",
    "Episode",
    "Evaluated",
    "Evaluator",
    "Fault",
    "FileEvidence",
    "FinalAnswer",
    "FinalState",
    "FolderState",
    "FormatError",
    "Goal",
    "GoalError",
    "Judgement",
    "NoCall",
    "NoCallNaming",
    "Outcome",
    "Probe",
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
    "WantedEntry",
    "evaluator_score",
    "judge_turn",
    "probe_key",
    "probes_of",
    "reaches_goal",
    "rescore",
    "wants_files",
]

"""What kinds of every domain are put together from: reference calls, turns and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.tasks.kinds import Draft
from rewards.episode import ReferenceTurn, ToolCall
from rewards.goals import FinalAnswer

Step = ToolCall | tuple[ToolCall, ...] | str


def call(tool: str, /, **arguments: Any) -> ToolCall:
    """Return a reference call."""
    return ToolCall(tool, arguments)


def steps(*turns: Step) -> tuple[ReferenceTurn, ...]:
    """Return a reference solution: each turn a call, several calls, or the final text."""
    return tuple(_turn(turn) for turn in turns)


def answered(
    slots: Mapping[str, str],
    field: str,
    value: str | float,
    *turns: Step,
    faults: Mapping[str, Any] | None = None,
    tolerance: float = 0.005,
) -> Draft:
    """Return a task that ends with an answer which restates the field.

    Args:
        slots: Values for the phrasings.
        field: What the answer calls the value.
        value: The right value; a number is compared as a number.
        turns: The turns before the answer.
        faults: Faults of the episode.
        tolerance: Largest absolute difference of a number.
    """
    goal = FinalAnswer(value, "exact" if isinstance(value, str) else "number", tolerance)
    return Draft(slots, goal, steps(*turns, f"The {field} is {value}."), faults or {})


def _turn(turn: Step) -> ReferenceTurn:
    if isinstance(turn, str):
        return ReferenceTurn(text=turn)
    return ReferenceTurn(calls=(turn,) if isinstance(turn, ToolCall) else turn)

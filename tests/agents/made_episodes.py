"""Episodes made by hand, for figures and tables."""

from __future__ import annotations

from typing import Any

from rewards.episode import (
    Episode,
    Outcome,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.goals import FinalAnswer, Goal

CALL = ToolCall("get_customer", {"customer_id": "C104"})
RAN = Turn(raw="", calls=(CALL,), results=(ToolResult("{}"),), outcome=Outcome.TOOL_EXECUTION)
RIGHT = Turn(raw="Rome", text="Rome", outcome=Outcome.SUCCESS, reward=10.0)
WRONG = Turn(raw="Bonn", text="Bonn", outcome=Outcome.STRUCTURAL_FAIL, reward=-1.0)


def task(name: str, goal: Goal | None = None, kind: str = "customer_field", **rest: Any) -> Task:
    goal = goal or FinalAnswer("Rome")
    return Task(name, "Which city?", goal, ("get_customer",), "database", kind, "test", **rest)


def played(a_task: Task, solved: bool, **rest: Any) -> Episode:
    return Episode(a_task, (RAN, RIGHT if solved else WRONG), terminated=True, **rest)


def batch(successes: int, n: int, prefix: str = "t", **rest: Any) -> list[Episode]:
    return [played(task(f"{prefix}{i}", **rest), i < successes) for i in range(n)]

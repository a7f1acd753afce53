"""Tasks whose answer does not depend on the world: no suite has to be generated for them."""

from __future__ import annotations

from rewards.episode import ReferenceTurn, Task, ToolCall
from rewards.goals import FinalAnswer

TOOLS = ("calculate", "solve_equation")


def sum_task(number: int, split: str = "train", kind: str = "sum") -> Task:
    call = ToolCall("calculate", {"expression": f"17 + {number}"})
    answer = ReferenceTurn(text=f"The result is {17 + number}.")
    return Task(
        f"{kind}{number}-{split}",
        f"What is the result of 17 + {number}?",
        FinalAnswer(17 + number, "number"),
        TOOLS,
        "math",
        kind,
        split,
        reference=(ReferenceTurn(calls=(call,)), answer),
    )

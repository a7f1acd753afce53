"""A policy that makes one mistake on purpose and then goes on: demonstrations of recovery.

Reference solutions never fail, so a warm start on them alone shows a policy nothing of what to do
after an error; its own first mistake then leads to babble, which no reward ever turns into a
success. Here the oracle stumbles once. The mistake is played for real, the server's own error
comes back, and the right turn follows. Only what follows is trained (see `weight` in
`agents/template.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from envs.policies import Messages, Tools, render_calls
from rewards.episode import Task, ToolCall

READING_PREFIXES = ("get_", "list_", "find_", "describe_", "open_", "is_", "read_", "show_")
"""How tools are called that can be tried by mistake without changing anything."""


@dataclass(frozen=True)
class Stumbler:
    """Plays the reference solution with one mistake before one of its calls.

    Args:
        seed: Another seed makes another mistake.
    """

    seed: int = 0
    name: str = "stumbler"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the mistake where it is due, otherwise the reference turn that is due."""
        done = sum(message["role"] == "assistant" for message in messages)
        place = self.place(task)
        if place is not None and done == place:
            return self._mistake(task.reference[place].calls, tools, self._rng(task, "what"))
        due = done - (place is not None and done > place)
        if due >= len(task.reference):
            return ""
        turn = task.reference[due]
        return "\n".join(part for part in (turn.text, render_calls(turn.calls)) if part)

    def place(self, task: Task) -> int | None:
        """Return the number of the turn that is the mistake; None for tasks without a call."""
        calling = [number for number, turn in enumerate(task.reference) if turn.calls]
        return self._rng(task, "where").choice(calling) if calling else None

    def _rng(self, task: Task, what: str) -> random.Random:
        return random.Random(f"{self.seed}/{what}/{task.id}")

    def _mistake(self, calls: Sequence[ToolCall], tools: Tools, rng: random.Random) -> str:
        right = calls[0]
        made = [
            text
            for text in (
                _without_an_argument(right),
                _other_tool(right, tools, rng),
                _mixed_up_name(right, tools, rng),
                _broken_json(right),
            )
            if text
        ]
        return rng.choice(made)


def _without_an_argument(right: ToolCall) -> str:
    kept = dict(list(right.arguments.items())[:-1])
    return render_calls([ToolCall(right.name, kept)]) if right.arguments else ""


def _other_tool(right: ToolCall, tools: Tools, rng: random.Random) -> str:
    """Return a call of another offered tool that only reads, with the same values."""
    others = [tool["function"] for tool in tools if tool["function"]["name"] != right.name]
    others = [one for one in others if one["name"].startswith(READING_PREFIXES)]
    if not others:
        return ""
    other = rng.choice(others)
    names = other.get("parameters", {}).get("required", ())
    pairs = dict(zip(names, right.arguments.values(), strict=False))
    return render_calls([ToolCall(other["name"], pairs)])


def _mixed_up_name(right: ToolCall, tools: Tools, rng: random.Random) -> str:
    """Return a call of a tool that nobody offers, its name made of the parts of two others."""
    offered = [tool["function"]["name"] for tool in tools]
    heads = [name.split("_")[0] for name in offered]
    tail = right.name.split("_", 1)[-1]
    names = [f"{head}_{tail}" for head in heads if f"{head}_{tail}" not in offered]
    return render_calls([ToolCall(rng.choice(names), right.arguments)]) if names else ""


def _broken_json(right: ToolCall) -> str:
    return render_calls([right]).replace("}}\n", "}\n")

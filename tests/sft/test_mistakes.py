from __future__ import annotations

import json
import random
from typing import Any

from envs.parsing import parse_turn
from rewards.episode import Fault, ReferenceTurn, Task, ToolCall
from rewards.goals import NoCall
from sft.mistakes import READING_PREFIXES, Stumbler

RIGHT = ToolCall("get_thing", {"thing_id": "T1", "field": "size"})
TASK = Task(
    "t",
    "The size of thing T1?",
    NoCall(),
    ("get_thing", "list_boxes", "add_box"),
    "mine",
    "kind",
    reference=(ReferenceTurn(calls=(RIGHT,)), ReferenceTurn(text="The size is 3.")),
)
RNG = random.Random(0)


def tool(name: str, *required: str) -> dict[str, Any]:
    parameters = {"type": "object", "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_thing", "thing_id", "field"), tool("list_boxes", "page"), tool("add_box", "box")]


def turns(seed: int) -> list[str]:
    """What a stumbler says, whatever it is answered."""
    said: list[str] = []
    for _ in range(4):
        messages = [{"role": "assistant", "content": text} for text in said]
        said.append(Stumbler(seed).act(TASK, TOOLS, messages, RNG))
    return said


def test_one_mistake_comes_first_and_the_reference_solution_follows() -> None:
    for seed in range(40):
        wrong, right, answer, nothing = turns(seed)
        assert parse_turn(right).calls == (RIGHT,)
        assert wrong != right
        assert (answer, nothing) == ("The size is 3.", "")


def test_every_kind_of_mistake_occurs_and_none_could_write() -> None:
    kinds = set()
    for seed in range(60):
        parsed = parse_turn(turns(seed)[0])
        if parsed.fault is not None:
            assert parsed.fault is Fault.INVALID_JSON
            kinds.add("json")
            continue
        (call,) = parsed.calls
        if call.name not in TASK.tools:
            kinds.add("unoffered")
        elif call.name != RIGHT.name:
            assert call.name.startswith(READING_PREFIXES)
            kinds.add("other tool")
        else:
            assert call.arguments == {"thing_id": "T1"}
            kinds.add("argument")
    assert kinds == {"json", "unoffered", "other tool", "argument"}


def test_the_same_seed_makes_the_same_mistake() -> None:
    assert turns(3) == turns(3)
    assert len({json.dumps(turns(seed)) for seed in range(20)}) > 3


def test_a_task_without_calls_is_played_as_the_oracle_plays_it() -> None:
    task = Task("n", "Hello", NoCall(), (), "mine", "kind", reference=(ReferenceTurn(text="No."),))
    assert Stumbler().place(task) is None
    assert Stumbler().act(task, [], [], RNG) == "No."

"""Traces with other values: what changes together, and what has to stay."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

import pytest

from envs.tasks.load import load_tasks
from sft.other_values import with_other_values
from sft.traces import Row, pick_tasks, recovery_traces, reference_traces


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def called(name: str, **arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def row(*messages: dict[str, Any], tools: tuple[dict[str, Any], ...] = ()) -> Row:
    return {"id": "one", "messages": list(messages), "tools": list(tools), "source": "reference"}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def result(value: Any) -> dict[str, Any]:
    return {"role": "tool", "content": value if isinstance(value, str) else json.dumps(value)}


TEXT = {"type": "string"}
LOOKUP = row(
    user("What is the size of ship K12 of Ada Lund?"),
    called("get_ship", ship_id="K12", owner="Ada Lund", unit="meter"),
    result({"ship_id": "K12", "size": 48.5, "built": "2019-03-04"}),
    says("The size is 48.5."),
    tools=(tool("get_ship", ship_id=TEXT, owner=TEXT, unit=TEXT), tool("list_ports")),
)


def changed(seed: int = 0, trace: Row = LOOKUP) -> list[dict[str, Any]]:
    return list(with_other_values(trace, random.Random(seed))["messages"])


def arguments(message: dict[str, Any]) -> dict[str, Any]:
    return dict(message["tool_calls"][0]["function"]["arguments"])


def test_a_value_is_replaced_by_the_same_one_wherever_it_stands() -> None:
    asked, call, answer, said = changed()
    given = arguments(call)
    found = json.loads(answer["content"])
    assert re.fullmatch(r"K\d\d", given["ship_id"])
    assert given["ship_id"] != "K12"
    assert found["ship_id"] == given["ship_id"]
    assert given["ship_id"] in asked["content"]
    assert given["owner"] != "Ada Lund"
    assert asked["content"].endswith(f"of {given['owner']}?")
    assert given["owner"] == given["owner"].title()
    field = next(key for key in found if key != "ship_id")
    assert said["content"] == f"The {field} is {found[field]}."
    assert field != "size"
    assert f"the {field} of" in asked["content"]
    assert re.fullmatch(r"[1-9]\d\.[1-9]", str(found[field]))
    assert found[field] != 48.5
    date = list(found.values())[2]
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])-[0-2]\d", date)
    assert date != "2019-03-04"


def test_what_the_policy_did_not_copy_stays() -> None:
    assert {arguments(changed(seed)[1])["unit"] for seed in range(20)} == {"meter"}


def test_allowed_values_and_the_words_of_tools_stay() -> None:
    trace = row(
        user("Sort the rows of the shop by price, rising."),
        called("sort_rows", table="shop", by="price", order="rising"),
        result({"rows": 3, "price": "ok"}),
        tools=(
            tool("sort_rows", table=TEXT, by=TEXT, order={"type": "string", "enum": ["rising"]}),
            tool("set_price"),
        ),
    )
    for seed in range(20):
        asked, call, answer = changed(seed, trace)
        assert arguments(call)["order"] == "rising"
        assert asked["content"].endswith("rising.")
        assert arguments(call)["by"] == "price"
        assert list(json.loads(answer["content"])) == ["rows", "price"]
        assert arguments(call)["table"] != "shop"


def test_a_request_without_a_call_has_its_names_numbers_and_quoted_texts_replaced() -> None:
    trace = row(user('Text Ben Burke "Wait for me" at 10 on Monday.'), says("I cannot do that."))
    asked, said = changed(0, trace)
    assert said == says("I cannot do that.")
    assert asked["content"].startswith("Text ")
    for old in ("Ben", "Burke", "Wait", "10", "Monday"):
        assert old not in asked["content"]
    assert re.fullmatch(r'Text \w+ \w+ "[\w ]+" at \d\d on \w+\.', asked["content"])


def test_a_trace_whose_answer_was_reckoned_stays_as_it_is() -> None:
    trace = copy.deepcopy(LOOKUP)
    trace["messages"][-1] = says("The size is 49.")
    assert with_other_values(trace, random.Random(0)) == trace


def test_a_number_that_is_part_of_another_stays_a_part_of_it() -> None:
    trace = row(
        user("Give me 12 of C12 at 12.5"),
        called("buy", count=12, item="C12", price=12.5),
        tools=(tool("buy", count=TEXT, item=TEXT, price=TEXT),),
    )
    asked, call = changed(1, trace)
    given = arguments(call)
    assert asked["content"] == f"Give me {given['count']} of {given['item']} at {given['price']}"
    assert isinstance(given["count"], int)
    assert isinstance(given["price"], float)


def test_a_call_that_could_not_be_read_is_shown_as_it_was_said() -> None:
    broken = says('<tool_call>\n{"name": "get_ship", "arguments": {"ship_id": "K12"}\n</tool_call>')
    trace = {**LOOKUP, "messages": [LOOKUP["messages"][0], broken, *LOOKUP["messages"][1:]]}
    assert changed(0, trace)[1] == broken


def test_the_row_that_was_given_is_not_changed_and_the_same_seed_gives_the_same() -> None:
    before = copy.deepcopy(LOOKUP)
    assert changed(3) == changed(3) != changed(4)
    assert before == LOOKUP


@pytest.fixture(scope="module")
def traces() -> list[Row]:
    tasks = pick_tasks(load_tasks("mock", "train"), 160, seed=0)
    return [*reference_traces(tasks, 8), *recovery_traces(tasks, 9, seed=0)]


def test_in_every_trace_of_the_suite_what_was_copied_is_still_copied(traces: list[Row]) -> None:
    different = 0
    for number, trace in enumerate(traces):
        new = with_other_values(trace, random.Random(number))
        kept = ("id", "tools", "model", "outcome")
        assert [new[key] for key in kept] == [trace[key] for key in kept]
        marked = new["source"] == f"{trace['source']}, other values"
        assert marked or new == trace
        assert [shape(message) for message in new["messages"]] == [
            shape(message) for message in trace["messages"]
        ]
        assert copied(trace["messages"]) <= copied(new["messages"]), trace["id"]
        different += new["messages"] != trace["messages"]
    assert different > 0.8 * len(traces) > 100


def shape(message: dict[str, Any]) -> Any:
    """What has to stay of a message: who speaks, whether it is trained, tools and keys."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return (
        message["role"],
        message.get("weight"),
        [(call["name"], list(call["arguments"])) for call in calls],
    )


def copied(messages: list[dict[str, Any]]) -> set[tuple[int, int, str]]:
    """The arguments that stand somewhere before their call."""
    found = set()
    before = ""
    for place, message in enumerate(messages):
        for number, call in enumerate(message.get("tool_calls", ())):
            for key, value in call["function"]["arguments"].items():
                text = value if isinstance(value, str) else json.dumps(value)
                if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", before):
                    found.add((place, number, key))
        if message["role"] != "assistant":
            before += f"{message['content']}\n"
    return found

from __future__ import annotations

import json
import random
import re

import pytest
from jsonschema import Draft202012Validator

from envs.policies import (
    CANARIES,
    POLICY_NAMES,
    REFUSAL,
    UnknownPolicyError,
    make_policy,
    most_common_answer,
    render_calls,
)
from rewards import FinalAnswer, NoCall, ReferenceTurn, Task, ToolCall

CALL = ToolCall("get_customer", {"customer_id": "C104"})
TASK = Task(
    id="t1",
    prompt="What is the city of customer C104?",
    goal=FinalAnswer("Rome"),
    tools=("get_customer", "list_customers", "set_date"),
    domain="database",
    kind="customer_field",
    reference=(ReferenceTurn((CALL,)), ReferenceTurn(text="The city is Rome.")),
)


def tool(name: str, required: tuple[str, ...] = (), **properties) -> dict:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool("get_customer", ("customer_id",), customer_id={"type": "string", "examples": ["C7"]}),
    tool("list_customers", limit={"type": "integer", "minimum": 1, "maximum": 9}),
    tool("set_date", ("kind",), kind={"enum": ["due", "start"]}, n={"type": "number"}),
]
USER = {"role": "user", "content": TASK.prompt}


def after(*turns: tuple[str, str]) -> list[dict]:
    messages = [USER]
    for said, told in turns:
        messages.append({"role": "assistant", "content": said})
        messages.append({"role": "tool", "content": told})
    return messages


def act(
    name: str, messages=(USER,), tools=TOOLS, seed: int = 0, task: Task = TASK, **kwargs
) -> str:
    return make_policy(name, **kwargs).act(task, tools, list(messages), random.Random(seed))


def called(text: str) -> dict:
    match = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text)
    assert match, text
    return json.loads(match[1])


def test_calls_are_rendered_as_the_qwen3_template_writes_them():
    calls = [CALL, ToolCall("note", {"text": 'caffè "x"', "n": 1.5, "ok": True, "none": None})]
    assert render_calls(calls) == (
        '<tool_call>\n{"name": "get_customer", "arguments": {"customer_id": "C104"}}\n'
        '</tool_call>\n<tool_call>\n{"name": "note", "arguments": '
        '{"text": "caffè \\"x\\"", "n": 1.5, '
        '"ok": true, "none": null}}\n</tool_call>'
    )


def test_the_oracle_plays_the_reference_turn_by_turn_and_then_stops():
    assert act("oracle") == render_calls([CALL])
    assert act("oracle", after(("x", "Rome"))) == "The city is Rome."
    assert act("oracle", after(("x", "Rome"), ("y", ""))) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("silent", ""),
        ("refusal", REFUSAL),
        ("empty", "<think>\n\n</think>\n\n"),
        ("echo", TASK.prompt),
    ],
)
def test_a_fixed_canary_says_the_same_whatever_happened(name, text):
    assert act(name) == text
    assert act(name, after(("x", "Rome"))) == text


@pytest.mark.parametrize("seed", range(20))
def test_a_random_call_is_valid_for_its_schema(seed):
    call = called(act("random_call", seed=seed))
    schema = next(t["function"] for t in TOOLS if t["function"]["name"] == call["name"])
    Draft202012Validator(schema["parameters"]).validate(call["arguments"])


def test_random_calls_reach_every_tool_and_follow_the_seed():
    texts = [act("random_call", seed=seed) for seed in range(40)]
    assert {called(text)["name"] for text in texts} == set(TASK.tools)
    assert texts == [act("random_call", seed=seed) for seed in range(40)]


def test_repeat_makes_its_first_call_again():
    first = act("repeat", seed=1)
    assert called(first)
    assert act("repeat", after((first, "ok"), ("other", "ok")), seed=2) == first


def test_list_all_calls_what_lists_things_and_then_recites_it():
    assert called(act("list_all"))["name"] == "list_customers"
    assert act("list_all", after(("x", '{"city": "Rome"}'))) == 'It says {"city": "Rome"}'


def test_one_call_answers_with_what_it_was_given():
    assert called(act("one_call", answer="The price is 5."))
    assert act("one_call", after(("x", "y")), answer="The price is 5.") == "The price is 5."


def test_schema_example_copies_the_examples_of_the_first_tool():
    assert called(act("schema_example")) == {
        "name": "get_customer",
        "arguments": {"customer_id": "C7"},
    }


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_every_policy_has_its_name_and_survives_having_no_tools(name):
    assert make_policy(name).name == name
    assert isinstance(act(name, tools=[]), str)


@pytest.mark.parametrize("name", CANARIES)
def test_no_canary_reads_more_of_the_task_than_its_prompt(name):
    other = Task("t9", TASK.prompt, NoCall(), (), "", "")
    for messages in ([USER], after(("x", "y"))):
        assert act(name, messages, seed=3) == act(name, messages, seed=3, task=other)


def test_an_unknown_policy_is_named_with_the_nearest():
    with pytest.raises(UnknownPolicyError, match='no policy "orcale"; did you mean "oracle"'):
        make_policy("orcale")


def test_the_most_common_answer_counts_only_tasks_with_calls():
    asking = Task("a", "?", NoCall(), (), "", "", reference=(ReferenceTurn(text="Which?"),))
    other = Task("b", "?", NoCall(), (), "", "", reference=(ReferenceTurn((CALL,)),) * 2)
    assert most_common_answer([asking, asking, other, TASK]) == "The city is Rome."
    assert most_common_answer([asking]) == ""

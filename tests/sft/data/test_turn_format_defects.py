from __future__ import annotations

import json
from typing import Any

import pytest
from converting import accepted, outcomes, reason
from format_rows import (
    FOUND,
    HERMES_CALL,
    ROWS,
    SHAREGPT_TURNS,
    TINYAGENT_PLAN,
    TINYAGENT_PLANNER,
    TINYAGENT_ROW,
    TOOLS,
    WEATHER,
    assistant,
    call,
    tool,
    user,
)

CALL = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
ROME = call("get_weather", city="Rome")


def hermes(*said: str, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "Weather?"}]
    turns += [{"from": ("gpt", "tool")[i % 2], "value": text} for i, text in enumerate(said)]
    return {"conversations": turns, "tools": json.dumps(TOOLS), **fields}


def toolace(said: str) -> dict[str, Any]:
    tools = [WEATHER, {**WEATHER, "name": "Top News"}]
    return {
        "system": json.dumps(tools),
        "conversations": [
            {"from": "user", "value": "Weather?"},
            {"from": "assistant", "value": said},
        ],
    }


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        (f"<tool_call>{CALL}</tool_call>", [ROME]),
        (f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>{CALL}</tool_call>", [ROME, ROME]),
        (HERMES_CALL, [call("get_weather", city="St John's")]),
        ("<tool_call>{'name': 'get_time', 'arguments': {}}</tool_call>", [call("get_time")]),
        (
            "<tool_call>{'name': 'get_weather', 'arguments': "
            "{'city': 'Rome', 'days': -1}}</tool_call>",
            [call("get_weather", city="Rome", days=-1)],
        ),
    ],
)
def test_hermes_calls_are_read_as_json_or_as_python(said: str, calls: list[Any]) -> None:
    row = accepted("hermes", hermes(said))
    assert row["messages"][1] == {"role": "assistant", "content": "", "tool_calls": calls}
    assert row.get("normalised", []) == (["python_literal"] if "'" in said else [])


def test_hermes_arguments_encoded_twice_are_decoded() -> None:
    said = json.dumps({"name": "get_weather", "arguments": '{"city": "Rome"}'})
    row = accepted("hermes", hermes(f"<tool_call>{said}</tool_call>"))
    assert row["messages"][1]["tool_calls"] == [ROME]
    assert row["normalised"] == ["double_encoded"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"<tool_call>{CALL}", "unbalanced_tag"),
        (f"{CALL}</tool_call>", "unbalanced_tag"),
        ("<think>so", "unbalanced_tag"),
        (f"<tool_call>{CALL[:-2]}</tool_call>", "broken_json"),
        ("<tool_call>{'name': f(), 'arguments': {}}</tool_call>", "broken_json"),
        ("<tool_call>{'name': 'a', 'name': 'b'}</tool_call>", "broken_json"),
        ("<tool_call>{'name': 'get_time', 'arguments': {1: 2}}</tool_call>", "broken_json"),
        ("<tool_call>{'name': 'get_time', 'arguments': {'a': (1,)}}</tool_call>", "broken_json"),
        ("<tool_call>{'name': 'get_time', 'arguments': {'a': 1e999}}</tool_call>", "broken_json"),
        (f"<tool_call>{'[' * 300}'a'{']' * 300}</tool_call>", "broken_json"),
        (f"<tool_call>{'[' * 80}'a'{']' * 80}</tool_call>", "too_deep"),
        (f"<tool_call>{'-' * 5000}1</tool_call>", "broken_json"),
        (f"<tool_call>['a', {'1, ' * 60_000}]</tool_call>", "broken_json"),
        ("<tool_call>{'a': '\\ud800'}</tool_call>", "broken_json"),
        ("<tool_call>{'a': -True}</tool_call>", "broken_json"),
        ("<tool_call>{'a': b'x'}</tool_call>", "broken_json"),
        ("<tool_call>{'name': 'get_time', 'arguments': null}</tool_call>", "broken_call"),
        ('<tool_call>{"name": "get_time"}</tool_call>', "broken_call"),
        (
            '<tool_call>{"name": "get_time", "arguments": "{"}</tool_call>',
            "broken_json",
        ),
        (CALL, "call_text"),
        ("", "empty_turn"),
        ("<think>only</think>", "empty_turn"),
    ],
)
def test_hermes_text_that_is_no_whole_call_is_rejected(said: str, why: str) -> None:
    assert reason("hermes", hermes(said)) == why


def test_hermes_tools_may_stand_in_the_system_text_only_and_in_python() -> None:
    turns = hermes("Hello")["conversations"]
    system = {"from": "system", "value": f"Be kind.\n<tools>{TOOLS!r}</tools>"}
    row = accepted("hermes", {"conversations": [system, *turns]})
    assert row["tools"] == TOOLS
    assert row["messages"][0] == {"role": "system", "content": "Be kind."}
    assert row["normalised"] == ["python_literal"]


def test_hermes_tools_may_be_a_list() -> None:
    assert accepted("hermes", hermes("Hello", tools=TOOLS))["tools"] == TOOLS


def test_hermes_tools_that_are_neither_json_nor_python_are_rejected() -> None:
    assert reason("hermes", hermes("Hello", tools="[{]")) == "broken_json"
    assert reason("hermes", hermes("Hello", tools="[{'a]")) == "broken_json"


def test_several_results_in_one_message_become_several() -> None:
    two = f"<tool_call>{CALL}</tool_call>" * 2
    wrapped = "<tool_response>1</tool_response>\n<tool_response>2</tool_response>"
    row = accepted("hermes", hermes(two, wrapped, "Done."))
    assert row["messages"][2:4] == [tool("1"), tool("2")]
    assert row["normalised"] == ["tool_response_unwrapped"]
    assert reason("hermes", hermes(two, wrapped[:-3], "Done.")) == "unbalanced_tag"


def test_most_rows_of_sharegpt_have_no_tools_and_are_kept() -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    for tools in ("[]", "", None):
        row = accepted("glaive-sharegpt", {"conversations": turns, "tools": tools})
        assert row["tools"] == []
        assert row["messages"] == [user("Hi"), assistant("Hello")]


def test_several_calls_of_a_turn_may_be_one_list() -> None:
    both = {"from": "function_call", "value": f"[{CALL}, {CALL}]"}
    turns = [SHAREGPT_TURNS[0], {"from": "gpt", "value": "I look."}, both]
    row = accepted("glaive-sharegpt", {"conversations": turns, "tools": TOOLS})
    assert row["messages"][1:] == [assistant("I look.", ROME, ROME)]


@pytest.mark.parametrize(
    ("value", "why"),
    [("{", "broken_json"), ("[3]", "broken_call"), ('{"name": "get_time"}', "broken_call")],
)
def test_a_turn_of_sharegpt_that_is_no_call_is_rejected(value: str, why: str) -> None:
    turns = [SHAREGPT_TURNS[0], {"from": "function_call", "value": value}]
    assert reason("glaive-sharegpt", {"conversations": turns, "tools": TOOLS}) == why


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ('[get_weather(city="Rome")]', assistant("", ROME)),
        (
            "[Top News(city=\"a, b) (c\"), get_weather(city='Rome', days=2)]",
            assistant(
                "",
                call("Top_News", city="a, b) (c"),
                call("get_weather", city="Rome", days=2),
            ),
        ),
        ("[Note: see get_weather]", assistant("[Note: see get_weather]")),
        ("[1] is a source (and [2] too).", assistant("[1] is a source (and [2] too).")),
        ("[see (a)]", assistant("[see (a)]")),
        ("[]", assistant("[]")),
    ],
)
def test_only_a_whole_list_of_calls_is_one(said: str, made: dict[str, Any]) -> None:
    row = accepted("toolace", toolace(said))
    assert row["messages"][1] == made
    assert row["renamed_tools"] == {"Top_News": "Top News"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('[get_weather(city="Rome"]', "broken_call"),
        ('[get_weather("Rome")]', "broken_call"),
        ("[get_weather(**a)]", "broken_call"),
        ("[get_weather(city=Rome)]", "broken_json"),
        ("[get_weather(city='a', city='b')]", "broken_call"),
        ("[get_weather(city='a')) and]", "broken_call"),
        ("Sure: [get_weather(city='a')]", "call_text"),
        ("[Get News(city='a')]", "unknown_tool"),
        ("[get_weather(city=1)]", "bad_arguments"),
    ],
)
def test_a_list_of_calls_that_is_broken_is_rejected(said: str, why: str) -> None:
    assert reason("toolace", toolace(said)) == why


def when2call(said: str, **fields: Any) -> dict[str, Any]:
    tools = [json.dumps(WEATHER)]
    return {"tools": tools, "messages": [user("?"), assistant(said)], **fields}


def test_of_a_preference_the_chosen_answer_is_read() -> None:
    row = {**when2call("x"), "messages": [user("?")], "chosen_response": assistant("Which city?")}
    assert accepted("when2call", row)["messages"] == [user("?"), assistant("Which city?")]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (when2call(f"<TOOLCALL>[{CALL}]"), "unbalanced_tag"),
        (when2call(f"<TOOLCALL>[{CALL[:-1]}]</TOOLCALL>"), "broken_json"),
        (when2call(f"<TOOLCALL>[{CALL}]</TOOLCALL> so"), "unbalanced_tag"),
        (when2call("x", correct_answer="direct", answers={}), "benchmark_row"),
        ({"tools": [], "question": "?", "held_out_param": "city"}, "benchmark_row"),
        ({**when2call("x"), "tools": ["{"]}, "broken_json"),
        ({**when2call("x"), "messages": "[]"}, "bad_field"),
    ],
)
def test_a_row_of_when2call_is_refused_where_it_cannot_be_trained_on(
    row: dict[str, Any], why: str
) -> None:
    assert reason("when2call", row) == why


def tinyagent(**step: Any) -> dict[str, Any]:
    first = TINYAGENT_ROW["ab-1"]["output"][0]
    return {"k": {"input": "Text Ann", "output": [first | step]}}


def test_a_replan_keeps_its_thought_and_its_context() -> None:
    row = tinyagent(
        type="replan",
        raw_input=str(
            [
                {"role": "system", "content": TINYAGENT_PLANNER},
                {"role": "user", "content": "Question: Text Ann\nPrevious Plan: none"},
            ]
        ),
        raw_output='Thought: Again.\n1. get_phone_number("Ann")\n2. join()<END_OF_PLAN>',
        parsed_output=[TINYAGENT_PLAN[0], {"tool_name": "join", "tool_args": {}}],
    )
    assert accepted("tinyagent", row)["messages"] == [
        user("Question: Text Ann\nPrevious Plan: none"),
        assistant("Thought: Again.", call("get_phone_number", name="Ann"), call("join")),
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"k": 3}, "unknown_layout"),
        ({"k": {"input": "a"}}, "missing_field"),
        ({"k": {"input": "a", "output": [3]}}, "bad_field"),
        (tinyagent(type="muse"), "bad_field"),
        (tinyagent(raw_input=5), "bad_field"),
        (tinyagent(parsed_output=[3]), "broken_call"),
        (tinyagent(parsed_output=[{"tool_name": "x", "tool_args": []}]), "unknown_tool"),
        (tinyagent(parsed_output=[{"tool_name": "join", "tool_args": [1]}]), "bad_arguments"),
        (tinyagent(parsed_output=[{"tool_name": "join"}]), "broken_call"),
        (tinyagent(raw_input="1. f(a: Gizmo) -> str\n - x\nQuestion: a"), "bad_tool"),
    ],
)
def test_a_sample_of_tinyagent_that_is_broken_is_rejected(row: dict[str, Any], why: str) -> None:
    assert reason("tinyagent", row) == why


def test_one_bad_step_of_a_sample_leaves_the_others() -> None:
    sample = TINYAGENT_ROW["ab-1"]
    row = {"a": {**sample, "output": [{"type": "muse"}, *sample["output"]]}}
    made = [json.loads(outcome.line) for outcome in outcomes("tinyagent", row, number=4)]
    assert [value.get("id", value.get("reason")) for value in made] == [
        "missing_field",
        "a-2",
        "a-3",
    ]


def test_a_row_of_hermes_without_calls_is_kept() -> None:
    row = accepted("hermes", ROWS["hermes"] | {"conversations": hermes(FOUND)["conversations"]})
    assert row["messages"][1] == assistant(FOUND)

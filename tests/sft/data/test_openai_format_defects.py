from __future__ import annotations

import json
from typing import Any

import pytest
from converting import accepted, reason
from format_rows import ROWS, TOOLS, WEATHER, assistant, call, system, tool, user

ROME = call("get_weather", city="Rome")
TEXT = json.dumps(ROME["function"])


def trl(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [user("Weather?"), *messages], "tools": TOOLS, **fields}


def said(row: dict[str, Any]) -> Any:
    return accepted("trl", row)["messages"][1]


def notes(row: dict[str, Any]) -> Any:
    return accepted("trl", row).get("normalised", [])


def test_a_clean_row_stays_as_it_is() -> None:
    row = trl(
        assistant("I look.", ROME, reasoning_content="Hm."),
        tool("3"),
        assistant("x", weight=0),
        id="t-1",
        source="mine",
        model="m",
        timestamp="2026-01-01T00:00:00Z",
        truncated=True,
        outcome="success",
        licence="mit",
    )
    assert accepted("trl", row) == row


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{TEXT}\n</tool_call>",
        TEXT,
        f"```json\n{TEXT}\n```",
        json.dumps({"tool": "get_weather", "parameters": {"city": "Rome"}}),
    ],
)
def test_call_text_that_repeats_the_call_is_removed_and_recorded(text: str) -> None:
    row = trl(assistant(f"I look.\n{text}", ROME))
    assert said(row) == assistant("I look.", ROME)
    assert notes(row) == ["repeated_call_text"]


@pytest.mark.parametrize(
    "text", [f"<tool_call>{TEXT.replace('Rome', 'Oslo')}</tool_call>", '{"name": "a", "args": {']
)
def test_call_text_that_differs_from_the_call_is_a_reason_to_reject(text: str) -> None:
    assert reason("trl", trl(assistant(text, ROME))) == "call_text"


def test_a_thought_in_the_content_is_moved_and_recorded() -> None:
    row = trl(assistant("<think>\nHm.\n</think>\n\nRome."))
    assert said(row) == assistant("Rome.", reasoning_content="Hm.")
    assert notes(row) == ["thought_separated"]
    both = trl(assistant("<think>a</think>Rome.", reasoning_content="b"))
    assert reason("trl", both) == "thought_text"


def test_json_in_an_answer_is_no_call() -> None:
    for text in ('{"city": "Rome"}', "[1, 2]", '```json\n{"a": {\n```'):
        assert said(trl(assistant(text))) == assistant(text)


def test_nulls_are_missing_keys() -> None:
    nulls = {"tool_calls": None, "name": None, "tool_call_id": None, "reasoning_content": None}
    row = trl({"role": "assistant", **nulls, "content": None, "tool_calls": [ROME]}, tool("3"))
    row["messages"][2] |= nulls
    assert accepted("trl", row)["messages"][1:] == [assistant("", ROME), tool("3")]


def test_nulls_of_a_table_in_a_schema_are_missing_keys() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": None, "default": None}, "b": None}}
    function = {"name": "f", "description": None, "parameters": {**schema, "required": None}}
    row = trl(assistant("x")) | {"tools": [{"type": "function", "function": function}]}
    assert accepted("trl", row)["tools"][0]["function"] == {
        "name": "f",
        "description": "",
        "parameters": {"type": "object", "properties": {"a": {"default": None}}},
    }


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (trl(assistant("", ROME), tool("3", tool_call_id="c9")), "unknown_call_id"),
        (trl(assistant("", {"id": "a", **ROME}), tool("3", tool_call_id="b")), "unknown_call_id"),
        (trl(assistant("", {"id": "a", **ROME}, {"id": "a", **ROME})), "broken_call"),
        (trl(assistant("", {"id": 5, **ROME})), "broken_call"),
        (trl(assistant("", ROME), tool("3"), tool("4")), "result_without_call"),
        (
            trl(
                assistant("", {"id": "a", **ROME}, {"id": "b", **ROME}),
                tool("3", tool_call_id="a"),
                assistant("x"),
            ),
            "unanswered_call",
        ),
        (trl(assistant(" ")), "empty_turn"),
        (trl(assistant("", tool_calls="x")), "bad_field"),
        (trl(assistant("", tool_calls=["x"])), "broken_call"),
        (trl(assistant("", call("get_weather"))), "bad_arguments"),
        (trl({"role": "assistant", "content": [{"type": "text"}]}), "bad_field"),
        (trl({"role": "critic", "content": "x"}), "bad_field"),
        (trl(5), "bad_field"),  # type: ignore[arg-type]
        (trl(assistant("x"), source=5), "bad_field"),
        (trl(assistant("x"), tools=["x"]), "broken_json"),
        (trl(assistant("x"), tools=[5]), "bad_tool"),
        (trl(assistant("x"), tools=[{"name": "f", "parameters": [1]}]), "bad_tool"),
        (trl(assistant("x"), tools=[TOOLS[0], TOOLS[0]]), "duplicate_tool"),
        ({"tools": TOOLS}, "missing_field"),
        ({"messages": {}, "tools": TOOLS}, "bad_field"),
    ],
)
def test_a_row_that_breaks_a_rule_is_rejected(row: dict[str, Any], why: str) -> None:
    assert reason("trl", row) == why


def test_the_developer_is_the_system_and_an_old_function_call_a_call() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            user("?"),
            {"role": "assistant", "content": None, "function_call": ROME["function"]},
            {"role": "function", "name": "get_weather", "content": "3"},
        ],
        "tools": json.dumps([WEATHER]),
    }
    assert accepted("trl", row)["messages"] == [
        system("Be brief."),
        user("?"),
        assistant("", ROME),
        tool("3", name="get_weather"),
    ]


def plain(text: str, tools: Any = TOOLS) -> dict[str, Any]:
    return {"messages": [system(json.dumps(tools)), user("?"), assistant(text)]}


@pytest.mark.parametrize(
    "text",
    [
        '{"tool": "get_weather", "arguments": {"city": "Rome"}}',
        '{"name": "get_weather", "parameters": {"city": "Rome"}}',
        '{"action": "get_weather", "action_input": {"city": "Rome"}}',
        '{"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}',
        '{"tool_calls": [{"name": "get_weather", "args": {"city": "Rome"}}]}',
        '[{"name": "get_weather", "input": {"city": "Rome"}}]',
        '```json\n{"tool": "get_weather", "arguments": {"city": "Rome"}}\n```',
        '{"tool": "get_weather", "arguments": "{\\"city\\": \\"Rome\\"}"}',
        f"<tool_call>{TEXT}</tool_call>",
    ],
)
def test_calls_written_as_json_in_the_content_become_calls(text: str) -> None:
    row = accepted("messages", plain(text))
    assert row["messages"] == [user("?"), assistant("", ROME)]
    assert row.get("normalised", []) == (["double_encoded"] if "\\" in text else [])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (plain('{"tool": "get_weather", "arguments": {"city": "Rome"}}', []), "unknown_tool"),
        (plain('{"tool": "get_weather", "arguments": {"city": '), "broken_json"),
        (plain('{"tool": "get_weather", "arguments": "x"}'), "broken_json"),
        (plain('Now {"tool": "get_weather", "arguments": {}} then'), "call_text"),
        ({"messages": [user("?"), {"role": "assistant"}]}, "empty_turn"),
        ({"messages": []}, "bad_field"),
        (plain("<tool_call>{'name': 'get_time'}</tool_call>"), "broken_json"),
    ],
)
def test_a_call_in_the_content_that_cannot_be_checked_is_rejected(
    row: dict[str, Any], why: str
) -> None:
    assert reason("messages", row) == why


def xlam(parameters: Any, *, answers: Any = (), **fields: Any) -> dict[str, Any]:
    tools = [{"name": "f", "description": "d", "parameters": parameters}]
    return {"id": 1, "query": "?", "tools": tools, "answers": list(answers), **fields}


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("str", {"type": "string"}),
        ("List[int]", {"type": "array", "items": {"type": "integer"}}),
        (
            "List[List[float]]",
            {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        ),
        ("Dict[str, Any]", {"type": "object"}),
        ("Tuple[int, int]", {"type": "array"}),
        ("Union[int, str]", {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        ("Optional[bool]", {"type": "boolean"}),
        ("int, optional", {"type": "integer"}),
        ("Any", {}),
        ("Callable[[float], float]", {}),
    ],
)
def test_flat_types_become_json_schema(name: str, schema: dict[str, Any]) -> None:
    optional = "ptional" in name
    row = accepted(
        "xlam", xlam({"a": {"type": name}}, answers=[{"name": "f", "arguments": _fit(schema)}])
    )
    parameters = row["tools"][0]["function"]["parameters"]
    assert parameters["properties"] == {"a": schema}
    assert parameters.get("required", []) == ([] if optional else ["a"])


def _fit(schema: dict[str, Any]) -> dict[str, Any]:
    values = {"string": "x", "array": [], "object": {}, "boolean": True, "integer": 1}
    return {"a": values[schema.get("type", "integer")]}


def test_a_parameter_called_type_is_no_type() -> None:
    flat = {"type": {"type": "str", "description": "Kind"}}
    row = accepted("xlam", xlam(flat, answers=[{"name": "f", "arguments": {"type": "x"}}]))
    properties = row["tools"][0]["function"]["parameters"]["properties"]
    assert properties == {"type": {"type": "string", "description": "Kind"}}


def test_parameters_that_are_a_schema_already_are_kept() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    row = accepted("xlam", xlam(schema, answers=[{"name": "f", "arguments": {"a": 1}}]))
    assert row["tools"][0]["function"]["parameters"] == schema


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (xlam({"a": {"type": "Gizmo"}}), "bad_tool"),
        (xlam({"a": {"type": "List[int"}}), "bad_tool"),
        (xlam({"a": {"type": "List[" * 9 + "int" + "]" * 9}}), "bad_tool"),
        (xlam({"a": {"type": 5}}), "bad_tool"),
        (xlam({"a": 5}), "bad_tool"),
        (xlam(None), "bad_tool"),
        (xlam({}), "no_assistant_turn"),
        (xlam({}, answers=[{"name": "f"}]), "broken_call"),
        (
            xlam({"a": {"type": "int"}}, answers=[{"name": "f", "arguments": {"a": True}}]),
            "bad_arguments",
        ),
        (xlam({}, query=None), "missing_field"),
        (ROWS["xlam"] | {"tools": "[5]"}, "bad_field"),
        (ROWS["xlam"] | {"answers": "{}"}, "bad_field"),
        (ROWS["xlam"] | {"tools": "[{]"}, "broken_json"),
    ],
)
def test_a_row_of_xlam_that_is_broken_is_rejected(row: dict[str, Any], why: str) -> None:
    assert reason("xlam", row) == why


def test_the_fine_tuning_schema_of_toucan_has_calls_as_turns_of_their_own() -> None:
    row = {
        "uuid": "u-2",
        "tools": json.dumps(TOOLS),
        "messages": [
            system("<|im_system|>tool_declare<|im_middle|>[]"),
            user("?"),
            assistant("I look."),
            {
                "role": "tool_call",
                "content": json.dumps({"name": "get_weather", "arguments": '{"city": "Rome"}'}),
            },
            {"role": "tool_call", "content": TEXT},
            {"role": "tool_response", "content": "Error: no network"},
            {"role": "tool_response", "content": "3"},
            assistant("It is 3."),
        ],
    }
    made = accepted("toucan", row)
    assert made["messages"] == [
        user("?"),
        assistant("I look.", ROME, ROME),
        tool("Error: no network"),
        tool("3"),
        assistant("It is 3."),
    ]
    assert made["normalised"] == ["double_encoded"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": "[]"}, "missing_field"),
        ({"messages": "[", "tools": "[]"}, "broken_json"),
        ({"messages": [{"role": "tool_call", "content": 3}], "tools": "[]"}, "broken_call"),
        ({"messages": [{"role": "tool_response"}], "tools": "[]"}, "result_without_call"),
    ],
)
def test_a_row_of_toucan_that_is_broken_is_rejected(row: dict[str, Any], why: str) -> None:
    assert reason("toucan", row) == why

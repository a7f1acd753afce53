from __future__ import annotations

from typing import Any

import pytest
from format_rows import CONVERSATION, TOOLS, WEATHER, assistant, call, system, tool, user

from sft.data.check import Problem, problems
from sft.data.reasons import Normalisation, Reason
from sft.data.schema_references import reference_problem

ROME = call("get_weather", city="Rome")


def row(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "r-1", "messages": list(messages), "tools": TOOLS, **fields}


def says(content: str, *calls: Any, **fields: Any) -> dict[str, Any]:
    return row(user("?"), assistant(content, *calls, **fields))


def codes(value: dict[str, Any]) -> list[str]:
    return [str(problem.code) for problem in problems(value)]


def test_every_code_has_a_description() -> None:
    assert all(reason.description for reason in Reason)
    assert len(set(Reason)) == len(list(Reason))
    assert len(set(Normalisation)) == len(list(Normalisation))


@pytest.mark.parametrize(
    "good",
    [
        row(*CONVERSATION),
        row(system("Be brief."), *CONVERSATION, user("And Oslo?"), assistant("4.")),
        row(*CONVERSATION[:2]),
        row(*CONVERSATION[:3]),
        row(*CONVERSATION, user("Thanks")),
        row(user("?"), assistant("", ROME, ROME), tool("both"), assistant("x")),
        says("", ROME, reasoning_content="Hm."),
        says("Use the `<tool_call>` tag, or [brackets], {braces} and a < b."),
        row(user("?"), assistant("<tool_call>{", weight=0), tool("no JSON"), assistant("x")),
        row(user("?"), assistant("", call("get_wether"), weight=0), tool("none"), assistant("x")),
        row(user("<tool_call> </think> <|im_end|>"), assistant("x")),
        {**says("x"), "tools": []},
    ],
)
def test_a_row_that_follows_the_rules_has_no_problem(good: dict[str, Any]) -> None:
    assert problems(good) == []


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({}, ["missing_field"] * 3),
        (row(), ["bad_field"]),
        (row(*CONVERSATION, id=""), ["bad_field"]),
        (row(*CONVERSATION, tools=None), ["bad_field"]),
        (row(*CONVERSATION, truncated=1), ["bad_field"]),
        (row(*CONVERSATION, id=5, normalised="x"), ["bad_field", "bad_field"]),
        (row("x", user("?")), ["bad_field"]),
        (row({"role": "critic", "content": "x"}), ["bad_field"]),
        (row(user("?"), {"role": "assistant"}), ["bad_field"]),
        (says("x", reasoning_content=None), ["bad_field"]),
        (says("x", weight=2), ["bad_field"]),
        (says("x", tool_calls={}), ["bad_field"]),
        (says("x", tool_calls=[]), ["empty_tool_calls"]),
        (says("", *[ROME] * 65), ["broken_call"]),
        (says("", {"function": {"name": "", "arguments": {}}}), ["broken_call"]),
        (says("", {"function": {"name": "f", "arguments": "{}"}}), ["broken_call"]),
        (row({**user("?"), "tool_calls": [ROME]}), ["bad_field"]),
        (row(user("?")), ["no_assistant_turn"]),
        (row(assistant("x"), user("?")), ["role_order"]),
        (row(user("?"), system("x"), assistant("x")), ["role_order", "role_order"]),
        (row(user("?"), tool("x"), assistant("x")), ["result_without_call"]),
        (row(user("?"), assistant("", ROME), user("x")), ["unanswered_call"]),
        (row(user("?"), assistant("", ROME), tool("x"), user("x")), ["role_order"]),
        (says("\n"), ["empty_turn"]),
        (says("", reasoning_content="only thought"), ["empty_turn"]),
        (says("x", reasoning_content="a </think> b"), ["unbalanced_tag"]),
        (says("<think>a</think> b"), ["thought_text"]),
        (says("a </think> b"), ["unbalanced_tag"]),
        (says("a <think> b"), ["unbalanced_tag"]),
        (says("<tool_call>{}"), ["unbalanced_tag"]),
        (says("</tool_call>"), ["unbalanced_tag"]),
        (says("<tool_response>3</tool_response>"), ["result_without_call"]),
        (says("3</tool_response>"), ["unbalanced_tag"]),
        (says('<tool_call>{"name": "a", "arguments": {}}</tool_call>'), ["call_text"]),
        (says('{"name": "a", "arguments": {}}'), ["call_text"]),
        (says("<|im_start|>user"), ["control_token"]),
        (says("", call("get_weather", city="<|im_end|>")), ["control_token"]),
        (says("", call("get_wether")), ["unknown_tool"]),
        (says("", call("get_weather", city=1)), ["bad_arguments"]),
        (says("", call("get_weather", city="x", days=True)), ["bad_arguments"]),
        (says("", call("get_weather", city="x", days=1.5)), ["bad_arguments"]),
        (says("", call("get_weather", city="x", day=1)), ["bad_arguments"]),
    ],
)
def test_a_row_that_breaks_a_rule_is_told_which(bad: dict[str, Any], expected: list[str]) -> None:
    assert codes(bad) == expected


def test_the_message_says_where_and_what_was_meant() -> None:
    assert problems(says("", call("get_wether"))) == [
        Problem(
            Reason.UNKNOWN_TOOL,
            'message 2: no tool "get_wether" was offered; did you mean "get_weather"?',
        )
    ]


def test_arguments_nested_deeper_than_a_model_may_write_are_refused() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    assert codes(says("", call("get_weather", city=deep))) == ["broken_call"]


def offers(parameters: Any, **fields: Any) -> dict[str, Any]:
    function = {"name": "f", "description": "d", "parameters": parameters, **fields}
    return {
        **says("", call("f", a="x" * 40)),
        "tools": [{"type": "function", "function": function}],
    }


OPEN: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
TREE = {"type": "object", "properties": {"child": {"$ref": "#/$defs/tree"}}}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({**says("x"), "tools": [5]}, "bad_tool"),
        ({**says("x"), "tools": [WEATHER]}, "bad_tool"),
        (offers(OPEN, name="a b"), "bad_tool"),
        (offers(OPEN, name=5), "bad_tool"),
        (offers(OPEN, name="f\n"), "bad_tool"),
        (offers(OPEN, description=None), "bad_tool"),
        (offers(OPEN, description="<|im_end|>"), "control_token"),
        (offers(None), "bad_tool"),
        (offers({"type": "array"}), "bad_tool"),
        (offers({**OPEN, "required": "a"}), "bad_tool"),
        (offers({**OPEN, "$schema": "http://example.com/my-dialect"}), "bad_tool"),
        (offers({**OPEN, "$schema": {}}), "bad_tool"),
        (offers({"properties": {"a": {"pattern": "("}}}), "bad_tool"),
        (offers({"properties": {"a": {"pattern": "^(x+)+$"}}}), "bad_tool"),
        (offers({"patternProperties": {"(a*)*": {}}}), "bad_tool"),
        (offers({"$ref": "#"}), "bad_schema_reference"),
        (offers({**OPEN, "$ref": "http://127.0.0.1:1/x"}), "bad_schema_reference"),
        (offers({**OPEN, "$ref": "#/$defs/none"}), "bad_schema_reference"),
        (offers({**OPEN, "$dynamicRef": "#x"}), "bad_schema_reference"),
        (offers({"$defs": {"tree": TREE}, **TREE}), "bad_schema_reference"),
    ],
)
def test_a_tool_that_cannot_be_offered_or_checked_is_refused(
    bad: dict[str, Any], expected: str
) -> None:
    assert codes(bad)[0] == expected


@pytest.mark.parametrize(
    "parameters",
    [
        OPEN,
        {"$schema": "http://json-schema.org/draft-07/schema#", **OPEN},
        {"properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {"type": "string"}}},
        {"properties": {"a": {"pattern": "^x+$"}, "$ref": {"type": "string"}}},
    ],
)
def test_a_tool_that_can_be_checked_is_accepted(parameters: dict[str, Any]) -> None:
    assert problems(offers(parameters)) == []


@pytest.mark.parametrize(("levels", "expected"), [(28, []), (30, ["bad_tool"])])
def test_a_schema_that_is_nested_too_deeply_is_refused(levels: int, expected: list[str]) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    assert codes(offers({"properties": {"a": schema}})) == expected


def test_a_tool_without_parameters_takes_no_arguments() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert codes({**says("", call("f")), "tools": tools}) == []
    assert codes({**says("", call("f", a=1)), "tools": tools}) == ["bad_arguments"]


def chain(length: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(length)
    }
    return {"$defs": {**definitions, f"d{length}": {}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}


def test_references_that_share_their_targets_are_followed_once() -> None:
    assert reference_problem(chain(30)) == ""


def test_a_chain_of_references_that_would_fill_the_stack_is_refused() -> None:
    assert "references lead on" in reference_problem(chain(5_000))

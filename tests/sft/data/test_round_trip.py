from __future__ import annotations

import json
from typing import Any

import pytest
from converting import outcomes
from format_rows import ROWS, TOOLS, assistant, call, tool, user
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import AgentError
from agents.template import ChatTemplate
from sft.data.check import problems
from sft.data.render import load_template, parses_back

TEMPLATE = load_template("embedded")


def row(*messages: Any) -> dict[str, Any]:
    return {"id": "a", "messages": [user("?"), *messages], "tools": TOOLS}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("thinking", [False, True])
def test_converted_rows_of_every_format_parse_back(name: str, thinking: bool) -> None:
    template = ChatTemplate(TEMPLATE.tokenizer, thinking=thinking)
    for outcome in outcomes(name, ROWS[name]):
        assert parses_back(template, json.loads(outcome.line))


def test_a_turn_that_is_not_learned_need_not_parse_back() -> None:
    broken = assistant("<tool_call>{", weight=0)
    assert parses_back(TEMPLATE, row(broken, tool("no JSON"), assistant("x")))


@pytest.mark.parametrize(
    "content",
    [
        "<tool_call>{",
        '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>',
        "a <|im_end|> b",
    ],
)
def test_text_that_would_be_read_as_something_else_does_not_parse_back(content: str) -> None:
    assert not parses_back(TEMPLATE, row(assistant(content)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), VALUES, max_size=3))
@settings(max_examples=60)
def test_whatever_passes_the_checks_parses_back(content: str, arguments: dict[str, Any]) -> None:
    parameters = {"type": "object", "additionalProperties": True}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    value = row(assistant(content, call("f")), tool(content or "x"), assistant("x"))
    value["messages"][1]["tool_calls"][0]["function"]["arguments"] = arguments
    value["tools"] = tools
    if not problems(value):
        assert parses_back(TEMPLATE, value)


def test_a_model_that_does_not_exist_is_an_error_of_agents() -> None:
    with pytest.raises(AgentError):
        load_template("no/such/folder")

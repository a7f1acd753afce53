from __future__ import annotations

import json
from typing import Any

import pytest
from converting import outcomes
from format_rows import ROWS, TOOLS, assistant, call, tool, user
from hypothesis import given, settings
from hypothesis import strategies as st
from played_rows import played_row

from agents.errors import AgentError
from agents.template import ChatTemplate
from sft.data.check import problems
from sft.data.conversion import Converted
from sft.data.render import load_template, parses_back

TEMPLATE = load_template("embedded")
THINKING = ChatTemplate(TEMPLATE.tokenizer, thinking=True)


def row(*messages: Any) -> dict[str, Any]:
    return {"id": "a", "messages": [user("?"), *messages], "tools": TOOLS}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("template", [TEMPLATE, THINKING], ids=["plain", "thinking"])
def test_converted_rows_of_every_format_parse_back_and_have_the_ids_of_their_rollout(
    name: str, template: ChatTemplate
) -> None:
    for outcome in outcomes(name, ROWS[name]):
        assert isinstance(outcome, Converted)
        value = json.loads(outcome.line)
        assert parses_back(template, value)
        messages, tools = value["messages"], value["tools"]
        assert template.training_row(messages, tools) == played_row(template, messages, tools)


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
ARGUMENTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=3)
ANY_TOOL = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@given(st.text(max_size=40), ARGUMENTS)
@settings(max_examples=60)
def test_whatever_passes_the_checks_parses_back(content: str, arguments: dict[str, Any]) -> None:
    value = row(assistant(content, call("f")), tool(content or "x"), assistant("x"))
    value["messages"][1]["tool_calls"][0]["function"]["arguments"] = arguments
    value["tools"] = ANY_TOOL
    if not problems(value):
        assert parses_back(TEMPLATE, value)
        assert parses_back(THINKING, value)


@pytest.mark.parametrize("thought", ["a </think> b", "<think>again</think> a"])
def test_a_thought_that_would_end_early_does_not_parse_back_where_it_is_rendered(
    thought: str,
) -> None:
    value = row(assistant("x", reasoning_content=thought))
    assert parses_back(TEMPLATE, value)
    assert not parses_back(THINKING, value)


TEXTS = st.text(max_size=40).map(str.strip)


@given(content=TEXTS, thought=TEXTS, arguments=ARGUMENTS)
@settings(max_examples=60)
def test_whatever_passes_the_checks_has_the_ids_of_its_rollout(
    content: str, thought: str, arguments: dict[str, Any]
) -> None:
    calling = assistant(content, call("f", **arguments), reasoning_content=thought)
    messages = [user("?"), calling, tool(content), assistant("x"), user("?"), calling]
    value = {"id": "a", "messages": messages, "tools": ANY_TOOL}
    if not problems(value):
        for template in (TEMPLATE, THINKING):
            played = played_row(template, messages, ANY_TOOL)
            assert template.training_row(messages, ANY_TOOL) == played


def test_a_model_that_does_not_exist_is_an_error_of_agents() -> None:
    with pytest.raises(AgentError):
        load_template("no/such/folder")

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from converting import outcomes
from format_rows import ROWS
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.data.check import problems
from sft.data.conversion import Converted
from sft.data.formats import FORMATS
from sft.data.formats.detect import candidates
from sft.data.strict import MAX_DEPTH, NotJSON, dump_json, is_deeper, parse_json

TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<think>", "<tool_response>", "<functioncall> {", "[f("),
        *("{'a': 1}", '{"name": "f", "arguments": {}}', "USER: a\nASSISTANT: b", "List[int]"),
        *("<TOOLCALL>[]</TOOLCALL>", "assistant", "user", "tool", "object", "#/x", "$1", "'", "\\"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
KEYS = st.sampled_from(
    [
        *("messages", "role", "content", "tools", "conversations", "from", "value", "system"),
        *("chat", "sample", "name", "arguments", "tool_calls", "function", "parameters", "type"),
        *("properties", "required", "$ref", "id", "weight", "output", "input", "parsed_output"),
    ]
) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def holds(name: str, row: Any) -> None:
    """Every row is accepted and without a problem, or rejected; nothing else happens."""
    for outcome in outcomes(name, row):
        value = json.loads(outcome.line)
        if isinstance(outcome, Converted):
            assert problems(value) == []
        else:
            assert value["reason"] == outcome.reason
            assert value["message"]


@pytest.mark.parametrize("name", FORMATS)
@given(row=st.dictionaries(KEYS, VALUES, max_size=5))
@settings(max_examples=40)
def test_any_object_is_accepted_or_rejected(name: str, row: dict[str, Any]) -> None:
    candidates(row)
    holds(name, row)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a value with each of its keys."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in keys:
            found += [(value, key), *places(value[key])]
    return found


def cut(text: str, at: int) -> str:
    place = at % (len(text) + 1)
    return text[:place] + text[place + 1 :]


def mutate(row: Any, draw: Any) -> None:
    """Change one place of a row: replace, remove, double or swap, or damage a text."""
    container, key = draw(st.sampled_from(places(row)))
    value = container[key]
    change = draw(st.sampled_from(["replace", "remove", "repeat", "damage"]))
    if change == "replace":
        container[key] = draw(VALUES)
    elif change == "remove":
        del container[key]
    elif change == "repeat" and isinstance(container, list):
        container.insert(draw(st.integers(0, len(container))), copy.deepcopy(value))
    elif isinstance(value, str):
        container[key] = draw(
            st.sampled_from(
                [
                    cut(value, draw(st.integers(0, 10_000))),
                    value[: draw(st.integers(0, len(value)))],
                    value + draw(TEXTS),
                    value.replace('"', "'"),
                    value.replace("'", '"'),
                ]
            )
        )


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=80)
def test_a_damaged_row_is_accepted_or_rejected(name: str, data: st.DataObject) -> None:
    row = copy.deepcopy(ROWS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        if row:
            mutate(row, data.draw)
    candidates(row)
    holds(name, row)


@given(VALUES)
def test_what_the_strict_reader_accepts_is_written_again_as_it_was(value: Any) -> None:
    text = json.dumps(value)
    try:
        read = parse_json(text)
    except NotJSON:
        assert "NaN" in text or "Infinity" in text or "\\u" in text
    else:
        assert dump_json(read) == json.dumps(value, ensure_ascii=False)
        assert not is_deeper(read, MAX_DEPTH)


@given(VALUES)
def test_any_value_as_messages_and_tools_has_problems_and_no_crash(value: Any) -> None:
    try:
        row = parse_json(json.dumps({"id": "a", "messages": value, "tools": value}))
    except NotJSON:
        return
    assert problems(row)


@given(VALUES)
def test_any_value_as_the_schema_of_a_tool_is_checked_without_a_crash(value: Any) -> None:
    function = {"name": "f", "description": "", "parameters": {"type": "object", "allOf": value}}
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    try:
        row = parse_json(
            json.dumps(
                {
                    "id": "a",
                    "messages": [
                        {"role": "user", "content": "?"},
                        {"role": "assistant", "content": "", "tool_calls": [call]},
                    ],
                    "tools": [{"type": "function", "function": function}],
                }
            )
        )
    except NotJSON:
        return
    problems(row)

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import native_calls

from agents.chat_answers import Answer, BadAnswerError, NativeCall, read_body, read_stream


def body(message: Any, usage: Any = None) -> str:
    return json.dumps({"choices": [{"message": message}], "usage": usage})


def streamed(*pieces: Any, end: Sequence[str] = ("data: [DONE]",)) -> Answer:
    async def lines() -> AsyncIterator[str]:
        for piece in pieces:
            yield f"data: {json.dumps(piece)}"
            yield ""
        for line in end:
            yield line

    return asyncio.run(read_stream(lines()))


def delta(**what: Any) -> dict[str, Any]:
    return {"choices": [{"delta": what}]}


def test_a_message_with_calls_and_reasoning_is_read_whole() -> None:
    answer = read_body(
        body(
            {
                "content": "Let me see.",
                "reasoning_content": "A sum.",
                "tool_calls": native_calls(("calculate", '{"expression": ')),
            },
            {"prompt_tokens": 7, "completion_tokens": 3},
        )
    )
    assert answer == Answer(
        "Let me see.",
        "A sum.",
        "reasoning_content",
        (NativeCall("id0", "calculate", '{"expression": '),),
        prompt_tokens=7,
        completion_tokens=3,
    )


def test_reasoning_keeps_the_key_it_came_under() -> None:
    answer = read_body(body({"content": "x", "reasoning": "A sum."}))
    assert (answer.reasoning, answer.reasoning_key) == ("A sum.", "reasoning")


def test_nulls_and_missing_keys_are_empty() -> None:
    assert read_body(body({"content": None, "tool_calls": None}, {})) == Answer()
    assert read_body(body({})) == Answer()


def test_what_servers_leave_out_of_a_call_is_filled_in() -> None:
    calls = [{"function": {"name": None, "arguments": {"x": "é"}}}, {"function": {"name": "b"}}]
    answer = read_body(body({"tool_calls": calls}))
    assert answer.calls == (NativeCall("call_0", "", '{"x": "é"}'), NativeCall("call_1", "b", ""))


@pytest.mark.parametrize(
    "text",
    [
        "<html>Welcome</html>",
        "",
        "[]",
        "{}",
        '{"choices": []}',
        body("text"),
        body({"content": ["a", "list"]}),
        body({"tool_calls": [{"name": "no function"}]}),
        "[" * 100_000,
    ],
)
def test_anything_else_is_a_bad_answer_that_says_how_it_begins(text: str) -> None:
    with pytest.raises(BadAnswerError, match="not a chat completion: '") as caught:
        read_body(text)
    assert len(str(caught.value)) < 200


def test_a_stream_adds_up_to_one_message() -> None:
    answer = streamed(
        delta(role="assistant", content=""),
        delta(reasoning_content="A "),
        delta(reasoning_content="sum."),
        delta(content="Let me "),
        delta(content="see."),
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "calc", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x":'}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "other"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    )
    calls = (NativeCall("a", "calc", '{"x": 1}'), NativeCall("b", "other", ""))
    assert answer == Answer(
        "Let me see.", "A sum.", calls=calls, prompt_tokens=7, completion_tokens=3
    )


def test_whole_calls_without_an_index_stay_apart() -> None:
    call = {"function": {"name": "calc", "arguments": "{}"}}
    answer = streamed(delta(tool_calls=[call]), delta(tool_calls=[call]))
    assert [one.name for one in answer.calls] == ["calc", "calc"]


def test_a_stream_may_end_with_a_reason_instead_of_a_mark() -> None:
    last = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
    assert streamed(last, end=(": a comment", "event: end")).content == "x"


def test_nothing_is_read_behind_the_mark() -> None:
    assert streamed(delta(content="x"), end=("data: [DONE]", "data: junk")).content == "x"


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        ((), "the stream ended before the answer did"),
        (('data: {"error": {"message": "overloaded"}}',), "reports an error.*overloaded"),
        (('data: {"choices": [{"del',), "not a piece of a stream"),
        (("data: 5",), "not a piece of a stream"),
    ],
)
def test_half_a_stream_is_a_bad_answer(end: Sequence[str], problem: str) -> None:
    with pytest.raises(BadAnswerError, match=problem):
        streamed(delta(content="x"), end=end)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "tool_calls", "function", "delta"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(values)
def test_whatever_json_comes_is_an_answer_or_a_bad_one(value: Any) -> None:
    answers = []
    with suppress(BadAnswerError):
        answers.append(read_body(json.dumps(value)))
    with suppress(BadAnswerError):
        answers.append(streamed(value))
    for answer in answers:
        assert isinstance(answer.content, str)
        assert all(isinstance(call.arguments, str) for call in answer.calls)


@given(st.text(), st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=3), st.data())
def test_a_stream_says_what_the_body_says_however_it_is_cut(
    content: str, calls: list[tuple[str, str]], data: st.DataObject
) -> None:
    whole = read_body(body({"content": content, "tool_calls": native_calls(*calls)}))
    cut = data.draw(st.integers(0, len(content)))
    pieces = [delta(content=content[:cut]), delta(content=content[cut:])]
    for index, call in enumerate(native_calls(*calls)):
        function = call["function"]
        cut = data.draw(st.integers(0, len(function["arguments"])))
        first = {**function, "arguments": function["arguments"][:cut]}
        rest = {"arguments": function["arguments"][cut:]}
        pieces.append(delta(tool_calls=[{**call, "index": index, "function": first}]))
        pieces.append(delta(tool_calls=[{"index": index, "function": rest}]))
    assert streamed(*pieces) == whole

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.parsing import MAX_CALLS, MAX_DEPTH, ParsedTurn, parse_turn
from envs.untrusted import neutralise
from rewards.episode import Fault, ToolCall

GOOD = '<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>'
A = ToolCall("a", {"x": 1})


def block(json_text: str) -> str:
    return f"<tool_call>{json_text}</tool_call>"


def arguments(json_text: str) -> str:
    return block(f'{{"name": "a", "arguments": {json_text}}}')


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (GOOD, ParsedTurn((A,))),
        (f"Let me look.\n{GOOD}", ParsedTurn((A,), text="Let me look.")),
        (f"<think>hm</think>\n{GOOD}", ParsedTurn((A,), thought="hm")),
        (f"<think>\n\n</think>\n\n{GOOD}{GOOD}", ParsedTurn((A, A))),
        ("The city is Rome.", ParsedTurn(text="The city is Rome.")),
        ("<think>a</think>Rome<think>b</think>", ParsedTurn(text="Rome", thought="a\nb")),
    ],
)
def test_a_well_formed_turn_is_taken_apart(raw: str, expected: ParsedTurn) -> None:
    assert parse_turn(raw) == expected


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (block("{'name': 'a', 'arguments': {}}"), "double quotes"),
        (block('{"name": "a", "arguments": {"x"'), "does not end"),
        (block('[{"name": "a", "arguments": {}}]'), "a list, not one object"),
        (arguments(r'"{\"x\": 1}"'), '"arguments" is a text'),
        (arguments("null"), '"arguments" is a null'),
        (block('{"arguments": {}}'), '"name" is missing'),
        (block('{"name": "a"}'), '"arguments" is missing'),
        (block('{"name": "a", "parameters": {}}'), '"arguments" is missing'),
        (block('{"name": 1, "arguments": {}}'), '"name" must be a text'),
        (block('{"name": "", "arguments": {}}'), '"name" must be a text'),
        (block('{"name": "a", "arguments": {}, "id": 1}'), 'unknown key "id"'),
        (arguments('{"x": NaN}'), "NaN is not JSON"),
        (arguments('{"x": -Infinity}'), "-Infinity is not JSON"),
        (arguments('{"x": 1e999}'), "too large"),
        (arguments('{"x": ' + "9" * 5000 + "}"), "too many digits"),
        (arguments('{"x": 1, "x": 2}'), 'key "x" occurs twice'),
        (arguments('{"x": {"y": 1, "y": 2}}'), 'key "y" occurs twice'),
        (arguments(r'{"x": "\ud800"}'), "Unicode"),
        (arguments('{"x": "\ud800"}'), "Unicode"),
        (arguments('{"x": "a\nb"}'), "control character"),
        (GOOD.removesuffix("</tool_call>"), "no end tag"),
        (block(""), "empty"),
        (block(" \n"), "empty"),
        (block('{"name": "a", "arguments": {}} {}'), "more than one JSON object"),
        (f'{{"name": "a", "arguments": {{}}}}{GOOD}</tool_call>', "without its beginning"),
        (f"{GOOD}\n{block('{}')}", "call 2: "),
    ],
)
def test_a_broken_call_is_invalid_json_and_the_model_is_told_why(raw: str, told: str) -> None:
    turn = parse_turn(raw)
    assert turn.fault is Fault.INVALID_JSON
    assert told.lower() in turn.fault_detail.lower()
    assert turn.calls == ()


@pytest.mark.parametrize(
    "raw",
    [
        '{"name": "a", "arguments": {}}',
        '[{"name": "a", "arguments": {}}]',
        'I call {"name": "a", "arguments": {}} now.',
        "{'name': 'a', 'arguments': {}}",
        '{"name": "a", "arguments": {',
        '```json\n{"name": "a", "arguments": {}}\n```',
        '```\n{"tool": "a", "parameters": {}}',
        "<tool_code>a(x=1)</tool_code>",
        "<function=a><parameter=x>1</parameter></function>",
        '<TOOL_CALL>{"name": "a", "arguments": {}}</TOOL_CALL>',
        '[TOOL_CALLS][{"name": "a", "arguments": {}}]',
        '<tool_call name="a">{}</tool_call >',
    ],
)
def test_a_call_in_another_format_is_a_wrong_format(raw: str) -> None:
    turn = parse_turn(raw)
    assert turn.fault is Fault.WRONG_FORMAT
    assert turn.calls == ()
    assert "tool_call tags" in turn.fault_detail


@pytest.mark.parametrize(
    "raw",
    [
        "Use the `<tool_call>` tag and close it with `</tool_call>`.",
        "Wrap it in `<tool_code>`.",
        'The record is {"name": "Ada", "city": "Rome"}.',
        '```json\n{"city": "Rome"}\n```',
        "if a < b then <b>bold</b>",
    ],
)
def test_prose_about_calls_is_a_final_answer(raw: str) -> None:
    assert parse_turn(raw) == ParsedTurn(text=raw)


@pytest.mark.parametrize(
    "raw", ["", " \n\t", "<think></think>", "<think>only this</think>\n", "<|im_end|>", "\u2003"]
)
def test_a_turn_without_anything_said_is_empty(raw: str) -> None:
    turn = parse_turn(raw)
    assert turn.fault is Fault.EMPTY
    assert not turn.thought_cut


def test_a_call_inside_a_thought_is_not_a_call() -> None:
    turn = parse_turn(f"<think>I could say {GOOD}</think>")
    assert turn.fault is Fault.EMPTY
    assert GOOD in turn.thought


def test_a_thought_that_began_in_the_prompt_ends_at_its_end_tag() -> None:
    turn = parse_turn(f"hm, so\n</think>\n\n{GOOD}")
    assert turn == ParsedTurn((A,), thought="hm, so")


def test_a_cut_thought_is_flagged_and_swallows_the_rest() -> None:
    turn = parse_turn(f"<think>and then {GOOD}")
    assert (turn.fault, turn.thought_cut) == (Fault.EMPTY, True)
    assert "did not end" in turn.fault_detail


def test_a_call_before_a_cut_thought_stands() -> None:
    turn = parse_turn(f"{GOOD}<think>and then")
    assert (turn.calls, turn.fault, turn.thought_cut) == ((A,), None, True)


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<tool_call>", "</tool_call>"])
def test_a_tag_inside_a_json_string_is_no_tag(tag: str) -> None:
    turn = parse_turn(arguments(json.dumps({"x": tag})))
    assert turn == ParsedTurn((ToolCall("a", {"x": tag}),))


def test_end_of_turn_tokens_at_the_end_are_no_text() -> None:
    assert parse_turn(f"{GOOD}<|im_end|>\n") == ParsedTurn((A,))
    assert parse_turn("Rome.<|im_end|><|endoftext|>") == ParsedTurn(text="Rome.")
    assert parse_turn("Rome <|im_end|> more").text == "Rome <|im_end|> more"


def test_one_broken_call_spoils_the_good_ones() -> None:
    turn = parse_turn(f"{GOOD}{block('{')}{GOOD}")
    assert (turn.fault, turn.calls) == (Fault.INVALID_JSON, ())


def test_the_number_of_calls_in_a_turn_is_limited() -> None:
    assert len(parse_turn(GOOD * MAX_CALLS).calls) == MAX_CALLS
    assert parse_turn(GOOD * (MAX_CALLS + 1)).fault is Fault.WRONG_FORMAT


def nested(levels: int) -> str:
    return '{"x":' * levels + "1" + "}" * levels


def test_arguments_may_be_nested_as_deep_as_the_limit() -> None:
    assert parse_turn(arguments(nested(MAX_DEPTH))).fault is None
    for levels in (MAX_DEPTH + 1, 900, 10_000):
        turn = parse_turn(arguments(nested(levels)))
        assert turn.fault is Fault.INVALID_JSON
        assert "nested" in turn.fault_detail


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (" " * 1_000_000, Fault.EMPTY),
        ("\x00" * 1_000_000, None),
        ("```" + " " * 1_000_000, None),
        ("{ " * 500_000, None),
        ('{"name":' * 125_000, None),
        ("<think>" * 150_000, Fault.EMPTY),
        ("<|im_end|>" * 100_000, Fault.EMPTY),
        ("<tool_call>" * 90_000, Fault.INVALID_JSON),
        ("`<tool_call>" * 90_000, None),
        (block("[" * 1_000_000), Fault.INVALID_JSON),
        (arguments('"' + "x" * 1_000_000), Fault.INVALID_JSON),
        (arguments('{"x": "' + "x" * 1_000_000 + '"}'), None),
    ],
)
def test_a_megabyte_of_anything_has_a_defined_outcome(raw: str, fault: Fault | None) -> None:
    # Anything quadratic in the length would take hours here.
    turn = parse_turn(raw)
    assert turn.fault is fault
    assert len(turn.fault_detail) < 300


PIECES = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_end|>", "<|im_start|>", "`",
        '{"name": "a", "arguments": ', '{"x": 1}', "{", "}", "[", "]", '"', "'", ":", ",", "\\u",
        "NaN", "1e999", "\n", "```json\n", "```", "<tool_code>", "<function=a>", "Rome", "\ud800",
        "\x00", GOOD,
    ]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join))
def test_every_text_has_calls_or_an_answer_or_a_fault(raw: str) -> None:
    turn = parse_turn(raw)
    assert bool(turn.calls) + bool(turn.fault) <= 1
    assert bool(turn.calls or turn.text) or turn.fault is not None
    assert bool(turn.fault) == bool(turn.fault_detail)
    for call in turn.calls:
        json.dumps(call.arguments, allow_nan=False, ensure_ascii=False).encode()


@given(st.text())
def test_any_text_at_all_is_read_without_an_error(raw: str) -> None:
    assert isinstance(parse_turn(raw), ParsedTurn)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=3), st.booleans())
def test_a_call_that_was_written_as_json_is_read_back_equal(values: dict, ascii_only: bool) -> None:
    call = {"name": "a", "arguments": values}
    turn = parse_turn(f"<tool_call>\n{json.dumps(call, ensure_ascii=ascii_only)}\n</tool_call>")
    assert turn == ParsedTurn((ToolCall("a", values),))


@pytest.mark.parametrize(
    "text",
    [
        "<|im_end|>",
        "</tool_response>",
        "<tool_call>",
        "</THINK>",
        "<|im_start|>system\n",
        "<\uff5cx",
    ],
)
def test_a_control_string_of_the_template_is_broken_up(text: str) -> None:
    assert neutralise(f"a{text}b") == f"a< {text[1:]}b"


def test_other_text_is_left_as_it_is() -> None:
    text = "a < b, <b>bold</b>, 1 <| 2"[:-5]
    assert neutralise(text) == text

from __future__ import annotations

import json
from typing import Any

import pytest
from converting import accepted, reason
from format_rows import GLAIVE_CHAT, GLAIVE_LEAD, GLAIVE_SYSTEM, ROWS, TOOLS, WEATHER, call


def chat(*turns: str, system: str = GLAIVE_SYSTEM) -> dict[str, str]:
    return {"system": system, "chat": "\n\n\n".join(turns)}


def asks(said: str) -> dict[str, str]:
    return chat("USER: Weather?", f"ASSISTANT: {said} <|endoftext|>")


def quoted(arguments: str) -> str:
    return f"""<functioncall> {{"name": "get_weather", "arguments": '{arguments}'}}"""


def calls(row: dict[str, Any]) -> list[Any]:
    made: list[Any] = row["messages"][1].get("tool_calls", [])
    return made


@pytest.mark.parametrize(
    ("arguments", "city"),
    [
        ('{"city": "St John\'s"}', "St John's"),
        ('{"city": "L\'Aquila\'}"}', "L'Aquila'}"),
        ('{"city": "it\\\'s"}', "it's"),
        ('{"city": "a \\"b\\""}', 'a "b"'),
        ('\n{\n "city": "Rome"\n}\n', "Rome"),
    ],
)
def test_arguments_between_single_quotes_end_where_their_json_ends(
    arguments: str, city: str
) -> None:
    row = accepted("glaive", asks(quoted(arguments)))
    assert calls(row) == [call("get_weather", city=city)]
    assert row["normalised"] == ["python_literal"]


def test_plain_arguments_are_no_normalisation() -> None:
    row = accepted("glaive", asks('<functioncall> {"name": "get_time", "arguments": {}}'))
    assert calls(row) == [call("get_time")]
    assert "normalised" not in row


def test_arguments_encoded_twice_are_decoded_and_recorded() -> None:
    said = json.dumps({"name": "get_weather", "arguments": '{"city": "Rome"}'})
    row = accepted("glaive", asks(f"<functioncall> {said}"))
    assert calls(row) == [call("get_weather", city="Rome")]
    assert row["normalised"] == ["double_encoded"]


def test_text_before_a_call_and_a_second_call_are_kept() -> None:
    two = " ".join(["Let me look.", quoted('{"city": "Rome"}'), quoted('{"city": "Oslo"}')])
    row = accepted("glaive", asks(two))
    assert row["messages"][1]["content"] == "Let me look."
    assert calls(row) == [call("get_weather", city="Rome"), call("get_weather", city="Oslo")]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('<functioncall> {"name": "get_weather", "argu', "broken_json"),
        (quoted('{"city": "Ro'), "broken_json"),
        ("""<functioncall> {"name": "get_weather", "arguments": '{"city": "Ro""", "broken_json"),
        ("""<functioncall> {"name": "get_time", "arguments": '{}' more}""", "broken_json"),
        ('<functioncall> {"name": "get_weather"}', "broken_call"),
        ('<functioncall> {"name": 3, "arguments": {}}', "broken_call"),
        (quoted('["Rome"]'), "broken_call"),
        (quoted('{"city": "Rome"}') + " and so on", "broken_call"),
        (quoted('{"city": "a", "city": "b"}'), "broken_json"),
        (quoted('{"city": NaN}'), "broken_json"),
        (quoted("{}"), "bad_arguments"),
        (quoted('{"city": 5}'), "bad_arguments"),
        (quoted('{"city": "Rome", "days": true}'), "bad_arguments"),
        (quoted('{"city": "Rome", "planet": "Mars"}'), "bad_arguments"),
        ('<functioncall> {"name": "get_wether", "arguments": {}}', "unknown_tool"),
        ("", "empty_turn"),
        ("<functioncall> is how I call", "call_text"),
        ("a <|im_end|> b", "control_token"),
    ],
)
def test_a_broken_or_wrong_call_is_rejected(said: str, why: str) -> None:
    assert reason("glaive", asks(said)) == why


def test_a_tag_that_is_quoted_in_prose_is_no_call() -> None:
    said = "Calls begin with `<functioncall>` {here}."
    assert accepted("glaive", asks(said))["messages"][1] == {"role": "assistant", "content": said}


@pytest.mark.parametrize("between", ["", "\n", "\n\n", ",\n"])
def test_tools_written_one_after_another_are_all_read(between: str) -> None:
    lists = GLAIVE_LEAD + between.join(json.dumps(tool["function"]) for tool in TOOLS)
    assert accepted("glaive", {"system": lists, "chat": GLAIVE_CHAT})["tools"] == TOOLS


def test_a_broken_list_of_tools_is_rejected() -> None:
    assert reason("glaive", {"system": GLAIVE_SYSTEM[:-20], "chat": GLAIVE_CHAT}) == "broken_json"


def test_a_row_without_tools_and_calls_is_kept_with_its_system_text() -> None:
    said = "You are a helpful assistant, with no access to external functions."
    row = accepted("glaive", chat("USER: Hi", "ASSISTANT: Hello", system=f"SYSTEM: {said}\n"))
    assert row["tools"] == []
    assert [message["content"] for message in row["messages"]] == [said, "Hi", "Hello"]
    assert "tool_calls" not in row["messages"][2]


def test_other_instructions_beside_the_tools_are_kept() -> None:
    row = accepted("glaive", {"system": f"Be brief.\n{json.dumps(WEATHER)}", "chat": GLAIVE_CHAT})
    assert row["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        (["ASSISTANT: Hello"], "role_order"),
        (["USER: a", "USER: b", "ASSISTANT: c"], "role_order"),
        (["USER: a", "FUNCTION RESPONSE: {}", "ASSISTANT: c"], "result_without_call"),
        (["USER: a", "ASSISTANT: " + quoted('{"city": "x"}'), "USER: c"], "unanswered_call"),
        (["USER: a"], "no_assistant_turn"),
        (["Hello", "USER: a"], "bad_field"),
        ([""], "bad_field"),
        (["USER: a", "SYSTEM: b", "ASSISTANT: c"], "role_order"),
    ],
)
def test_turns_in_an_impossible_order_are_rejected(turns: list[str], why: str) -> None:
    assert reason("glaive", chat(*turns)) == why


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"system": GLAIVE_SYSTEM}, "missing_field"),
        ({"system": GLAIVE_SYSTEM, "chat": None}, "missing_field"),
        ({"system": 5, "chat": GLAIVE_CHAT}, "bad_field"),
        (ROWS["xlam"], "missing_field"),
    ],
)
def test_a_row_without_the_fields_is_rejected(row: dict[str, Any], why: str) -> None:
    assert reason("glaive", row) == why


def test_a_sample_of_version_1_without_a_user_is_rejected() -> None:
    assert reason("glaive-v1", {"sample": "SYSTEM: Hello"}) == "bad_field"


@pytest.mark.parametrize(
    "row",
    [
        ROWS["glaive"],
        {"messages": ROWS["trl"]["messages"], "tools": TOOLS},
        {"conversations": ROWS["glaive-sharegpt"]["conversations"], "tools": json.dumps(TOOLS)},
        {
            "messages": [
                {"role": "system", "content": GLAIVE_SYSTEM.removeprefix("SYSTEM: ")},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": quoted('{"city": "St John\'s"}')},
            ]
        },
    ],
)
def test_layouts_of_the_community_are_told_by_their_fields(row: dict[str, Any]) -> None:
    made = accepted("togethercomputer", row)
    assert made["tools"] == TOOLS
    assert [m["role"] for m in made["messages"]][:2] == ["user", "assistant"]
    assert calls(made)[0]["function"] == call("get_weather", city="St John's")["function"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": "USER: a"}, "unknown_layout"),
        ({"conversations": [{"role": "user", "content": "a"}, {"role": "x"}]}, "bad_field"),
        ({"conversations": ["a"]}, "bad_field"),
        ({"conversations": [{"role": "user", "content": 3}]}, "bad_field"),
        ({"conversations": [], "function_description": "none"}, "bad_tool"),
        (
            {"conversations": [{"role": "function-call", "content": '{"name": "a"} b'}]},
            "broken_call",
        ),
        ({"conversations": [{"role": "function-call", "content": ""}]}, "broken_json"),
        ({"conversations": [{"role": "function-call", "content": '"name": 1'}]}, "broken_call"),
    ],
)
def test_unknown_layouts_are_refused(row: dict[str, Any], why: str) -> None:
    assert reason("togethercomputer", row) == why

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from format_rows import FOUND, ROWS, TOOLS, assistant, user

from sft.data.errors import FormatNameError
from sft.data.formats.detect import candidates, detect
from sft.data.formats.draft import Draft
from sft.data.renaming import rename_tools
from sft.data.seen import SeenDigests

PLAIN_TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def test_a_row_that_uses_little_of_a_format_may_be_in_several() -> None:
    row = {"conversations": PLAIN_TURNS, "tools": "[]"}
    assert candidates(row) == ["glaive-sharegpt", "hermes"]


@pytest.mark.parametrize("name", ["glaive-sharegpt", "hermes"])
def test_the_rows_that_use_more_of_it_decide(name: str) -> None:
    plain = {"conversations": PLAIN_TURNS, "tools": "[]"}
    assert detect([(1, plain), (2, ROWS[name]), (3, plain)]) == name


def test_two_formats_are_an_error_that_names_the_line() -> None:
    with pytest.raises(
        FormatNameError, match="line 7 is hermes, and the lines before it are toolace"
    ):
        detect([(1, ROWS["toolace"]), (7, ROWS["hermes"])])


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"a": 1},
        {"conversations": []},
        {"conversations": [5]},
        {"conversations": [{"from": "narrator"}]},
        {"messages": 5},
        {"messages": [5]},
    ],
)
def test_a_row_of_no_known_format_is_an_error(row: dict[str, Any]) -> None:
    with pytest.raises(FormatNameError, match="line 3 is of no known format: it has"):
        detect([(3, row)])


def test_without_rows_there_is_no_format() -> None:
    with pytest.raises(FormatNameError, match="no line holds a row"):
        detect([])


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": "[]", "tools": "[]"}, "toucan"),
        ({"messages": [{"role": "tool_call"}], "tools": "[]"}, "toucan"),
        ({"correct_answer": "direct", "answers": {}}, "when2call"),
        ({"messages": [user("?")], "chosen_response": {}, "tools": []}, "when2call"),
        ({"messages": [user("?")], "tools": TOOLS}, "trl"),
        ({"messages": [assistant(FOUND, tool_calls=[])]}, "trl"),
        ({"messages": [user("?")]}, "messages"),
        ({"conversations": PLAIN_TURNS, "tools": "[]", "system": "Policy"}, "apigen-mt"),
    ],
)
def test_the_likeliest_format_comes_first(row: dict[str, Any], name: str) -> None:
    assert candidates(row)[0] == name


def test_a_digest_is_new_once() -> None:
    seen = SeenDigests()
    digests = [hashlib.blake2b(b"%d" % n, digest_size=16).digest() for n in range(20_000)]
    assert all(map(seen.add, digests))
    assert not any(map(seen.add, digests))
    # The same slot, another digest.
    assert seen.add(digests[0][:8] + bytes(8))


def renamed(*names: str) -> tuple[list[str], Any]:
    draft = Draft()
    draft.tools = [{"type": "function", "function": {"name": name}} for name in names]
    for name in names:
        draft.call(name, {})
        draft.result("x", name=name)
    rename_tools(draft)
    new = [tool["function"]["name"] for tool in draft.tools]
    calls = [m["tool_calls"][0]["function"]["name"] for m in draft.messages if "tool_calls" in m]
    results = [m["name"] for m in draft.messages if m["role"] == "tool"]
    assert new == calls == results
    return new, draft.fields.get("renamed_tools")


@pytest.mark.parametrize(
    ("names", "new"),
    [
        (("a", "b-1.c_D"), ["a", "b-1.c_D"]),
        (("Get Weather/v2",), ["Get_Weather_v2"]),
        (("a b", "a_b", "a/b"), ["a_b_2", "a_b", "a_b_3"]),
        (("天气", "!!"), ["tool", "tool_2"]),
        (("x" * 130,), ["x" * 128]),
        (("x" * 130, "x" * 131), ["x" * 128, "x" * 122 + "_2"]),
    ],
)
def test_renaming_tools_can_be_taken_back(names: tuple[str, ...], new: list[str]) -> None:
    found, own = renamed(*names)
    assert found == new
    assert [(own or {}).get(name, name) for name in found] == list(names)


def test_a_name_that_is_no_text_is_left_for_the_checks() -> None:
    draft = Draft(tools=[{"type": "function", "function": {"name": "a b"}}])
    draft.call(["a b"], {})
    rename_tools(draft)
    assert draft.messages[0]["tool_calls"][0]["function"]["name"] == ["a b"]

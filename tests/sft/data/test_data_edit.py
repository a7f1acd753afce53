from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from curated_rows import asks, conversations, read, result, row, run, says, user, write
from hypothesis import assume, given
from hypothesis import strategies as st

from sft.data.check import problems
from sft.data.edits import drop_turn, merge_turns, replace_text, turn_spans
from sft.data.errors import DataError

TRIP = row(
    "trip",
    user("Weather in Rome and Oslo?"),
    asks("Rome", reasoning_content="Rome first."),
    result("20"),
    asks("Oslo", reasoning_content="Then Oslo."),
    result("3"),
    says("Rome has 20 degrees, Oslo 3."),
)


def test_a_dropped_turn_goes_with_its_results() -> None:
    edited = drop_turn(TRIP, 2)
    assert edited["messages"] == [*TRIP["messages"][:3], TRIP["messages"][5]]
    assert edited["edited"] == [{"drop_turn": 2}]


def test_merged_turns_have_all_calls_then_all_results() -> None:
    edited = merge_turns(TRIP, 1, 2)
    _, turn, first, second, answer = edited["messages"]
    cities = [call["function"]["arguments"]["city"] for call in turn["tool_calls"]]
    assert cities == ["Rome", "Oslo"]
    assert turn["reasoning_content"] == "Rome first.\nThen Oslo."
    assert [first, second, answer] == [result("20"), result("3"), TRIP["messages"][-1]]
    assert problems(edited) == []
    assert edited["edited"] == [{"merge_turns": [1, 2]}]


def test_turns_that_only_speak_become_one_text() -> None:
    twice = row("x", user("Hi"), says("Hello."), says("How are you?"))
    assert merge_turns(twice, 1, 2)["messages"][1:] == [says("Hello.\nHow are you?")]


def test_text_is_replaced_in_what_the_assistant_says_thinks_and_passes_only() -> None:
    edited = replace_text(TRIP, "Oslo", "Bergen")
    assert edited["messages"][0] == TRIP["messages"][0]
    assert edited["messages"][3] == asks("Bergen", reasoning_content="Then Bergen.")
    assert edited["messages"][5] == says("Rome has 20 degrees, Bergen 3.")
    assert edited["edited"] == [{"replace": ["Oslo", "Bergen"], "times": 3}]


def test_arguments_are_replaced_at_any_depth_and_names_of_arguments_are_not() -> None:
    deep = {"city": [{"city": "old", "n": 1}], "old": "very old"}
    call = {"type": "function", "function": {"name": "old", "arguments": deep}}
    edited = replace_text(row("x", user("?"), says("", tool_calls=[call])), "old", "new")
    function = edited["messages"][1]["tool_calls"][0]["function"]
    assert function == {
        "name": "old",
        "arguments": {"city": [{"city": "new", "n": 1}], "old": "very new"},
    }


def test_edits_add_up_in_the_record() -> None:
    edited = replace_text(drop_turn(TRIP, 2), "20", "21")
    assert [next(iter(change)) for change in edited["edited"]] == ["drop_turn", "replace"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: drop_turn(TRIP, 0), "no turn 0: the row has 3 turns"),
        (lambda: drop_turn(TRIP, 4), "no turn 4: the row has 3 turns"),
        (lambda: merge_turns(TRIP, 2, 9), "no turn 9"),
        (lambda: merge_turns(TRIP, 2, 2), "nothing to merge from turn 2 to 2"),
        (lambda: merge_turns(TRIP, 2, 3), "turn 3 calls nothing"),
        (
            lambda: merge_turns(row("x", user("a"), says("b"), user("c"), says("d")), 1, 2),
            "turns 1 and 2 cannot be merged: between them the user speaks",
        ),
        (lambda: replace_text(TRIP, "Paris", "Rome"), 'the assistant nowhere says "Paris"'),
        (lambda: replace_text(TRIP, "Weather", "Wind"), "nowhere says"),
        (lambda: replace_text(TRIP, "", "x"), "the text to replace is empty"),
    ],
)
def test_what_cannot_be_done_is_said(edit: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        edit()


@given(conversations(), st.data())
def test_dropping_takes_exactly_one_turn_and_changes_no_other_message(
    conversation: dict[str, Any], data: st.DataObject
) -> None:
    before = copy.deepcopy(conversation)
    spans = turn_spans(conversation)
    number = data.draw(st.integers(1, len(spans)))
    edited = drop_turn(conversation, number)
    assert conversation == before
    span = spans[number - 1]
    removed = conversation["messages"][span.start : span.end]
    assert [message["role"] for message in removed[1:]] == ["tool"] * (len(removed) - 1)
    kept = edited["messages"]
    assert [*kept[: span.start], *removed, *kept[span.start :]] == conversation["messages"]


@given(conversations(), st.data())
def test_merging_keeps_every_call_result_and_word_in_order(
    conversation: dict[str, Any], data: st.DataObject
) -> None:
    before = copy.deepcopy(conversation)
    count = len(turn_spans(conversation))
    assume(count > 1)
    first = data.draw(st.integers(1, count - 1))
    try:
        edited = merge_turns(conversation, first, first + 1)
    except DataError:
        assume(False)
    assert conversation == before
    assert len(turn_spans(edited)) == count - 1
    for role in ("user", "tool"):
        assert _said(edited, role) == _said(conversation, role)
    assert _called(edited) == _called(conversation)
    assert problems(edited) == []


def _said(conversation: dict[str, Any], role: str) -> list[str]:
    return [m["content"] for m in conversation["messages"] if m["role"] == role]


def _called(conversation: dict[str, Any]) -> list[Any]:
    return [call for m in conversation["messages"] for call in m.get("tool_calls", ())]


@given(conversations(), st.sampled_from("aeiou 0"))
def test_replacing_leaves_nothing_to_replace(conversation: dict[str, Any], old: str) -> None:
    try:
        edited = replace_text(conversation, old, "Ω")
    except DataError:
        return
    with pytest.raises(DataError, match="nowhere says"):
        replace_text(edited, old, "Ω")
    back = replace_text(edited, "Ω", old)
    assert back["messages"] == conversation["messages"]


# --- the command ----------------------------------------------------------------------------------


def odd_file(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A file whose other lines are not written as this project writes them."""
    lines = [
        json.dumps(row("Rome"), indent=None, separators=(",", ":")).encode(),
        json.dumps(TRIP).encode(),
        json.dumps({**row("Zürich"), "x": 1e3}, ensure_ascii=False).encode() + b"  ",
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path, lines


def test_in_place_every_other_line_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, lines = odd_file(tmp_path)
    assert run("edit", path, "trip", "--merge_turns", 1, 2) == 0
    first, second, third = path.read_bytes().splitlines()
    assert (first, third) == (lines[0], lines[2])
    assert json.loads(second) == merge_turns(TRIP, 1, 2)
    assert '{"merge_turns": [1, 2]} in line 2' in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def test_with_another_file_the_first_stays(tmp_path: Path) -> None:
    path, lines = odd_file(tmp_path)
    out = tmp_path / "out.jsonl"
    assert run("edit", path, "trip", "--replace", "Oslo", "Bergen", "--out", out) == 0
    assert path.read_bytes() == b"\n".join(lines) + b"\n"
    assert read(out)[1]["edited"] == [{"replace": ["Oslo", "Bergen"], "times": 3}]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--drop_turn", 7), "in.jsonl:2: no turn 7"),
        (("--replace", "Rome first.", "<think>"), "refused, the row would have a problem: "),
        (("--replace", "degrees", "<|im_end|>"), "control_token"),
    ],
)
def test_an_edit_that_leaves_a_problem_is_refused_and_changes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[object, ...],
    message: str,
) -> None:
    path, lines = odd_file(tmp_path)
    assert run("edit", path, "trip", *flags) == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == b"\n".join(lines) + b"\n"


def test_two_messages_of_the_user_in_a_row_are_no_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [row("x", user("a"), says("b"), user("c"), says("d"))])
    assert run("edit", path, "x", "--drop_turn", 1) == 2
    error = capsys.readouterr().err
    assert f"{path}:1: refused, the row would have a problem: role_order: " in error


def test_an_id_that_is_not_there_is_an_error_with_the_closest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = odd_file(tmp_path)
    assert run("edit", path, "tripp", "--drop_turn", 1) == 2
    error = capsys.readouterr().err
    assert f'{path}: none of the 3 rows has the id "tripp"; did you mean "trip"?' in error


def test_an_id_that_stands_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [TRIP, row("Rome"), TRIP])
    before = path.read_bytes()
    assert run("edit", path, "trip", "--drop_turn", 2) == 2
    assert f'{path}:1: the id "trip" stands on line 3 again' in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_broken_line_behind_the_row_is_not_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [TRIP])
    path.write_text(path.read_text() + "{\n")
    assert run("edit", path, "trip", "--drop_turn", 2) == 2
    assert f"{path}:2: not JSON" in capsys.readouterr().err


def test_a_file_without_lines_is_not_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps([TRIP]))
    assert run("edit", path, "trip", "--drop_turn", 2) == 2
    assert "no .jsonl file" in capsys.readouterr().err


def test_one_change_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = odd_file(tmp_path)
    with pytest.raises(SystemExit):
        run("edit", path, "trip", "--drop_turn", 1, "--merge_turns", 1, 2)
    with pytest.raises(SystemExit):
        run("edit", path, "trip")
    assert "one of the arguments" in capsys.readouterr().err

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from curated_rows import asks, conversations, read, result, row, run, says, user, write
from hypothesis import given

from sft.data.check import problems
from sft.data.unroll import round_ends, unrolled

THREE_ROUNDS = row(
    "c1",
    user("Weather in Rome?"),
    asks("Rome", reasoning_content="first thought"),
    result("20"),
    says("20 degrees.", reasoning_content="second thought"),
    user("Thanks!"),
    says("You are welcome.", reasoning_content="third thought"),
)


def test_n_rounds_become_n_rows_from_the_whole_to_the_first() -> None:
    whole, two, one = unrolled(THREE_ROUNDS)
    assert whole is THREE_ROUNDS
    assert two["messages"] == THREE_ROUNDS["messages"][:4]
    assert one["messages"] == THREE_ROUNDS["messages"][:2]
    assert [two["id"], one["id"]] == ["c1-first-2", "c1-first-1"]
    assert two["truncated"] is one["truncated"] is True
    assert two["unrolled_from"] == one["unrolled_from"] == "c1"


@given(conversations())
def test_every_turns_reasoning_is_that_of_the_last_turn_once(conversation: dict[str, Any]) -> None:
    before = copy.deepcopy(conversation)
    rows = list(unrolled(conversation))
    assert conversation == before
    turns = [m for m in conversation["messages"] if m["role"] == "assistant"]
    assert [one["messages"][-1] for one in rows] == turns[::-1]
    assert len({one["id"] for one in rows}) == len(rows)


@given(conversations())
def test_every_row_is_a_good_row_and_a_beginning_of_the_whole(conversation: dict[str, Any]) -> None:
    for one in unrolled(conversation):
        assert problems(one) == []
        assert one["messages"] == conversation["messages"][: len(one["messages"])]
        assert {**one, **conversation} == {**conversation, **_marks(one)}


def _marks(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("unrolled_from",) if key in one}


def test_assistant_turns_in_a_row_are_one_round() -> None:
    assert round_ends(row("x", user("a"), says("b"), says("c"), user("d"))) == [3]


def test_the_command_writes_all_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert run("unroll", write(tmp_path / "in.jsonl", [THREE_ROUNDS, row("Oslo")]), out) == 0
    names = ["c1", "c1-first-2", "c1-first-1", "Oslo", "Oslo-first-1"]
    assert [one["id"] for one in read(out)] == names
    assert "5 rows from 2 conversations" in capsys.readouterr().out


def test_what_was_unrolled_is_not_unrolled_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", unrolled(THREE_ROUNDS))
    assert run("unroll", path, tmp_path / "out.jsonl") == 2
    assert f"error: {path}:2: was unrolled before, from c1" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_broken_line_ends_it_with_its_number_and_leaves_the_old_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [row("Oslo")])
    path.write_text(path.read_text() + '{"id": "x"\n', encoding="utf-8")
    out = tmp_path / "out.jsonl"
    out.write_text("earlier\n")
    assert run("unroll", path, out) == 2
    assert f"error: {path}:2: not JSON" in capsys.readouterr().err
    assert out.read_text() == "earlier\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]

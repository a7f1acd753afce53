from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.errors import DataFileError
from sft.mixing import DataSet, mixed, read_sets


def row(name: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    return {"id": name, "messages": messages, "tools": [], **more}


def calling(name: str, tool: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": tool, "arguments": {}}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    return {"id": name, "messages": messages, "tools": []}


def write(path: Path, *lines: Any) -> str:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return str(path)


def shown(weight: float, count: int = 10, seed: int = 0) -> Counter[str]:
    rows = [row(str(number)) for number in range(count)]
    return Counter(one["id"] for one in mixed([DataSet("a", rows, weight)], seed))


def test_a_whole_weight_shows_every_row_so_many_times() -> None:
    assert set(shown(1).values()) == {1}
    assert set(shown(3).values()) == {3}


def test_the_fraction_of_a_weight_is_the_share_of_rows_shown_once_more() -> None:
    assert sorted(shown(2.3).values()) == [2] * 7 + [3] * 3
    assert list(shown(0.4).values()) == [1] * 4


@given(st.floats(0.01, 5), st.integers(1, 40), st.integers(0, 9))
def test_rows_are_shown_as_evenly_and_as_often_as_the_weight_says(
    weight: float, count: int, seed: int
) -> None:
    times = shown(weight, count, seed)
    assert abs(times.total() - weight * count) <= 0.5
    every = [times[str(number)] for number in range(count)]
    assert max(every) - min(every) <= 1


def test_the_seed_alone_decides_what_is_drawn() -> None:
    assert shown(0.5, 40, seed=1) == shown(0.5, 40, seed=1)
    assert shown(0.5, 40, seed=1) != shown(0.5, 40, seed=2)


def test_sets_stand_one_after_the_other_in_the_order_of_their_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", row("a1"), row("a2")), write(tmp_path / "b", row("b1"))]
    assert [one["id"] for one in mixed(read_sets(paths, []), 0)] == ["a1", "a2", "b1"]
    weighted = mixed(read_sets(paths, [1, 2]), 0)
    assert [one["id"] for one in weighted] == ["a1", "a2", "b1", "b1"]


def test_rows_that_are_left_out_are_counted() -> None:
    rows = [row(str(number)) for number in range(4)]
    assert (
        DataSet("a", rows, 0.5).report(0) == "a: 4 rows, weight 0.5: 2 shown, 2 rows are left out"
    )
    assert DataSet("a", rows, 1.5).report(0) == "a: 4 rows, weight 1.5: 6 shown"


def test_a_row_is_not_changed_by_being_read(tmp_path: Path) -> None:
    kept = row("a", source="here", outcome="success", licence="mit")
    (one,) = read_sets([write(tmp_path / "a", kept)], [])
    assert one.rows == [kept]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": ', "JSON"),
        ({"id": "x", "tools": []}, '"messages" is missing (missing_field)'),
        (calling("x", "nothing"), 'no tool "nothing" was offered (unknown_tool)'),
    ],
)
def test_a_row_with_a_problem_is_refused_with_file_line_and_reason(
    tmp_path: Path, line: Any, reason: str
) -> None:
    path = write(tmp_path / "a.jsonl", row("good"), line)
    with pytest.raises(DataFileError) as refused:
        read_sets([path], [])
    message = str(refused.value)
    assert message.startswith(f"{path}:2: ")
    assert reason in message
    assert f"python -m sft.data validate {path}" in message


def test_all_refused_rows_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", calling("x", "f"), row("good"), calling("y", "f"))
    with pytest.raises(DataFileError, match="and 1 more of 3 rows"):
        read_sets([path], [])


def test_unchecked_rows_may_have_problems_but_must_be_rows(tmp_path: Path) -> None:
    bad = calling("x", "nothing")
    (one,) = read_sets([write(tmp_path / "a.jsonl", bad)], [], check=False)
    assert one.rows == [bad]
    path = write(tmp_path / "b.jsonl", {"id": "x"})
    with pytest.raises(DataFileError, match=r"b\.jsonl:1: no canonical row"):
        read_sets([path], [], check=False)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(text)
    with pytest.raises(DataFileError, match=r"empty\.jsonl"):
        read_sets([str(path)], [])


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="nowhere"):
        read_sets([str(tmp_path / "nowhere")], [])

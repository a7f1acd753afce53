from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from curated_rows import WEATHER, asks, read, result, row, run, says, user, write

from sft.data.jsonl import Line
from sft.data.measures import TokenCounter
from sft.data.sources import flags
from sft.data.unroll import unrolled
from sft.data.validation import Validation

CITIES = ("Rome", "a village near Bern", "Ulan Bator, where it is cold", "Oslo or Bergen by night")


def figures(tmp_path: Path, rows: list[dict[str, Any]], *flags: object) -> dict[str, Any]:
    out = tmp_path / "report.json"
    path = write(tmp_path / "in.jsonl", rows)
    run("validate", path, "--json", out, "--threshold", 0, *flags)
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return report


def test_good_rows_are_clean_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", map(row, CITIES))
    assert run("validate", path) == 0
    shown = capsys.readouterr().out
    assert "4 rows, 4 clean (100.0 %)" in shown
    assert "trained tokens" in shown
    assert "apache-2.0" in shown
    assert "en" in shown
    assert "problem" not in shown


BAD_ROWS = {
    "bad_arguments": row("a", user("?"), says("", tool_calls=[
        {"type": "function", "function": {"name": "get_weather", "arguments": {"city": 3}}}])),
    "unknown_tool": row("b", user("Now, what?"), says("", tool_calls=[
        {"type": "function", "function": {"name": "get_wether", "arguments": {}}}])),
    "role_order": row("c", user("One."), user("Two."), says("Three.")),
    "unbalanced_tag": row("d", user("Go on."), says("<tool_call> is open")),
    "empty_turn": row("e", user("Say something."), says("")),
    "result_without_call": row("f", user("Hi there."), says("Hello."), result("20")),
    "missing_field": {"id": "g", "messages": [user("Hi")]},
    "nothing_trained": row("h", user("Who are you?"), says("Nobody.", weight=0)),
}  # fmt: skip


@pytest.mark.parametrize("code", BAD_ROWS)
def test_each_problem_is_named_with_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    report = figures(tmp_path, [row("Rome"), BAD_ROWS[code]])
    found = report["problems"][code]
    assert found["rows"] == 1
    assert found["examples"][0].startswith(f"{tmp_path / 'in.jsonl'}:2: ")
    assert (report["rows"], report["clean"]) == (2, 1)
    assert code in capsys.readouterr().out


def test_rows_that_lose_trained_tokens_at_the_sequence_length_are_found(tmp_path: Path) -> None:
    counter = TokenCounter("embedded")
    short, long = row("Rome"), row("Oslo", user("Weather?"), asks("Oslo"), result("x " * 400),
                                   says("Cold."))  # fmt: skip
    tokens = counter.count(long)
    report = figures(tmp_path, [short, long], "--max_length", tokens.total - 2)
    (example,) = report["problems"]["loses_trained_tokens"]["examples"]
    # One of the two is the line break behind the last turn's end.
    lost = TokenCounter("embedded", tokens.total - 2).count(long).lost
    assert f"{lost} of {tokens.trained} trained tokens" in example
    assert 0 < lost <= 2
    for length in (tokens.total, 0):
        assert figures(tmp_path, [short, long], "--max_length", length)["problems"] == {}


def test_reasoning_counts_against_the_length_where_thinking_is_enabled(tmp_path: Path) -> None:
    thought = "First I look at the map, then at the sky."
    long = row("Rome", user("Weather?"), says("Dry.", reasoning_content=thought))
    plain = TokenCounter("embedded").count(long).total
    flags = ("--max_length", plain)
    assert figures(tmp_path, [long], *flags)["problems"] == {}
    report = figures(tmp_path, [long], *flags, "--enable_thinking", "true")
    assert list(report["problems"]) == ["loses_trained_tokens"]


def test_copies_and_repeated_ids_point_to_the_first(tmp_path: Path) -> None:
    rows = [row("Rome"), {**row("Rome"), "id": "copy"}, row("Rome", user("Hey you!"), says("Yes?"))]
    report = figures(tmp_path, rows)
    first = f"{tmp_path / 'in.jsonl'}:1"
    assert report["problems"]["duplicate"]["examples"] == [
        f"{tmp_path / 'in.jsonl'}:2: the messages and tools of {first}"
    ]
    assert f'the id "Rome" stands at {first} already' in str(report["problems"]["repeated_id"])


def test_places_are_those_of_each_of_several_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", map(row, CITIES))
    second = write(tmp_path / "b.jsonl", [row(CITIES[2])])
    out = tmp_path / "report.json"
    assert run("validate", first, second, "--json", out) == 1
    assert f"{second}:1: the messages and tools of {first}:3" in out.read_text(encoding="utf-8")


def test_near_duplicates_count_unless_they_are_cut_from_one_conversation(tmp_path: Path) -> None:
    text = " ".join(f"this is sentence {number} of a long story" for number in range(40))
    one = row("one", user(text), says("A story."), user("And?"), says("No more."))
    other = row("other", user(text + " with an end"), says("A story."))
    report = figures(tmp_path, [*unrolled(one), other])
    found = report["problems"]
    assert found.keys() == {"near_duplicate"}
    assert found["near_duplicate"]["examples"][0].startswith(f"{tmp_path / 'in.jsonl'}:3: ")
    off = figures(tmp_path, [*unrolled(one), other], "--near_duplicates", 0)
    assert off["problems"] == {}


def test_the_exit_code_says_whether_enough_rows_are_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*map(row, CITIES[:3]), BAD_ROWS["empty_turn"]]
    path = write(tmp_path / "in.jsonl", rows)
    assert run("validate", path, "--threshold", 0.75) == 0
    assert run("validate", path, "--threshold", 0.76) == 1
    assert "75.0 % of the rows are clean, 76 % must be" in capsys.readouterr().out


def test_broken_lines_are_counted_and_do_not_end_the_check(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    good = json.dumps(row("Rome")).encode()
    path.write_bytes(b"\n".join([b'{"id":', b"[1]", b'{"id": "\xff"}', b"", good]) + b"\n")
    out = tmp_path / "report.json"
    assert run("validate", path, "--json", out) == 1
    report = json.loads(out.read_text(encoding="utf-8"))
    assert set(report["problems"]) == {"broken_json", "not_an_object", "not_utf8"}
    assert (report["rows"], report["clean"], report["readable"]["rows"]) == (4, 1, 1)


def test_without_a_model_nothing_is_rendered(tmp_path: Path) -> None:
    report = figures(tmp_path, [row("Rome"), BAD_ROWS["nothing_trained"]], "--model", "none")
    assert report["clean"] == 2
    assert report["readable"]["numbers"]["tokens"] == {}


def test_a_row_that_the_template_refuses_is_no_clean_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool is no function schema that the template could print."""
    report = figures(tmp_path, [{**row("Rome"), "tools": [WEATHER, object_that_is_no_tool()]}])
    assert report["clean"] == 0
    assert "bad_tool" in report["problems"]


def object_that_is_no_tool() -> dict[str, Any]:
    return {"type": "function"}


@pytest.mark.parametrize("command", ["validate", "stats", "unroll", "split", "filter"])
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_a_row_is_an_error_and_makes_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    output = () if command in ("validate", "stats") else (tmp_path / "out",)
    assert run(command, path, *output) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}")
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_file_that_is_not_there_or_a_report_without_a_place_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", tmp_path / "none.jsonl") == 2
    assert "none.jsonl" in capsys.readouterr().err
    path = write(tmp_path / "in.jsonl", [row("Rome")])
    assert run("validate", path, "--json", path / "report.json") == 2
    assert "error: cannot write" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [row("Rome")])
    assert run("validate", path, "--model", "./nowhere") == 2
    assert "error: no folder ./nowhere" in capsys.readouterr().err


def test_examples_are_few_however_many_rows_have_the_problem() -> None:
    from_file = Path("x.jsonl")
    validation = Validation(None, 0)
    for number in range(1, 31):
        broken = row(f"row {number}", user(f"{number}?"), says(""))
        validation.add(from_file, Line(number, broken))
    assert validation.findings["empty_turn"].rows == 30
    assert len(validation.findings["empty_turn"].examples) == 5


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"licence": "apache-2.0", "source": "glaive"}, []),
        ({"source": "glaive"}, ["licence unknown"]),
        ({"licence": "cc-by-nc-4.0", "source": "x"}, ["licence forbids commercial use"]),
        ({"licence": "CC BY NC 4.0", "source": "x"}, ["licence forbids commercial use"]),
        ({"licence": "mit", "source": "nvidia/When2Call"}, ["spoils BFCL"]),
        ({"licence": "mit", "source": "Salesforce/APIGen-MT_5k"}, ["spoils tau-bench"]),
        ({"licence": "mit", "source": "mine", "contaminates": ["BFCL"]}, ["spoils BFCL"]),
        ({"licence": "mit", "source": "encyclopedia of fncalls"}, []),
    ],
)
def test_licence_and_benchmarks_are_flagged(fields: dict[str, Any], expected: list[str]) -> None:
    assert flags(fields) == expected


def test_flags_stand_in_the_table_and_make_no_row_unclean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [row("Rome", source="when2call", licence="cc-by-nc-4.0")])
    assert run("validate", path) == 0
    shown = capsys.readouterr().out
    assert "spoils BFCL" in shown
    assert "licence forbids commercial use" in shown
    assert read(path)[0]["source"] == "when2call"

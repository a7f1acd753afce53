from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from curated_rows import row, run, says, user, write
from matplotlib.image import imread

from sft.data.histograms import plot_tally
from sft.data.measures import Numbers, Tally, TokenCounter

GERMAN = row("de", user("Wie ist das Wetter heute in Berlin, und wie wird es morgen?"),
             says("Es regnet heute, und morgen scheint die Sonne."), source="own",
             outcome="success", truncated=True)  # fmt: skip
ROWS = [row("Rome", outcome="success"), row("Oslo", outcome="tool_error"), GERMAN]


def figures(tmp_path: Path, *flags: object) -> dict[str, Any]:
    out = tmp_path / "stats.json"
    assert run("stats", write(tmp_path / "in.jsonl", ROWS), "--json", out, *flags) == 0
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def test_rows_are_counted_by_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures(tmp_path)
    assert found["rows"] == 3
    labels = found["labels"]
    assert labels["source"] == {"glaive": 2, "own": 1}
    assert labels["outcome"] == {"success": 2, "tool_error": 1}
    assert labels["language"] == {"en": 2, "de": 1}
    assert labels["truncated"] == {"no": 2, "yes": 1}
    assert labels["tool"] == {"get_weather": 2}
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["glaive", "2", "66.7"] in shown
    assert ["get_weather", "2", "100.0"] in shown


def test_numbers_are_spread_over_the_rows(tmp_path: Path) -> None:
    numbers = figures(tmp_path)["numbers"]
    assert numbers["turns"] == {"min": 1, "median": 2, "p95": 2, "max": 2, "mean": 1.67, "sum": 5}
    assert numbers["calls"]["sum"] == 2
    counter = TokenCounter("embedded")
    lengths = [counter.count(one) for one in ROWS]
    assert numbers["tokens"]["sum"] == sum(one.total for one in lengths)
    assert numbers["trained tokens"]["max"] == max(one.trained for one in lengths)


def test_reasoning_is_counted_where_thinking_is_enabled(tmp_path: Path) -> None:
    thought = row("Rome", user("Weather?"), says("Dry.", reasoning_content="Rome is dry today."))
    path, out = write(tmp_path / "in.jsonl", [thought]), tmp_path / "stats.json"
    counter = TokenCounter("embedded", thinking=True)
    assert run("stats", path, "--enable_thinking", "true", "--json", out) == 0
    numbers = json.loads(out.read_text(encoding="utf-8"))["numbers"]
    assert numbers["trained tokens"]["sum"] == counter.count(thought).trained
    assert numbers["trained tokens"]["sum"] > TokenCounter("embedded").count(thought).trained + 5


def test_tokens_are_left_out_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures(tmp_path, "--model", "none")["numbers"]["tokens"] == {}
    assert "trained tokens" not in capsys.readouterr().out


def test_rare_values_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    for number in range(20):
        tally.add(row(f"row {number}", source=f"source {number}"))
    lines = [line.split() for line in tally.label_table().splitlines()]
    assert ["8", "others", "8", "40.0"] in lines


def test_percentiles_are_values_that_occur() -> None:
    numbers = Numbers()
    for value in (4, 1, 10, 7):
        numbers.add(value)
    assert numbers.spread() == {
        "min": 1, "median": 4, "p95": 7, "max": 10, "mean": 5.5, "sum": 22
    }  # fmt: skip
    assert numbers.values() == [4, 1, 10, 7]
    assert Numbers().spread() == {}


@pytest.mark.parametrize("model", ["embedded", "none"])
def test_histograms_are_one_picture(tmp_path: Path, model: str) -> None:
    png = tmp_path / "deep" / "stats.png"
    figures(tmp_path, "--png", png, "--model", model)
    picture = imread(png)
    assert picture.shape[:2] == (1000, 1300)
    assert picture[..., :3].std() > 0.05
    assert [file.name for file in png.parent.iterdir()] == ["stats.png"]


def test_names_with_dollars_many_values_and_wide_numbers_can_be_drawn(tmp_path: Path) -> None:
    tally = Tally()
    for number in range(60):
        answer = says("word " * number + "x")
        tally.add(row("r", user("Hi"), answer, source=f"$source^{number}$ " + "y" * 40))
    assert imread(plot_tally(tally, tmp_path / "a.png", "costs $5 or $6")).size


def test_a_picture_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", ROWS)
    assert run("stats", path, "--png", path / "x.png") == 2
    assert f"error: cannot write {path / 'x.png'}" in capsys.readouterr().err

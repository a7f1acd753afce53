from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agents.summary import record_stage
from rewards.episode import Episode, Outcome, Status, Task, ToolCall, ToolResult, Turn
from rewards.goals import FinalAnswer, NoCall
from rl.plots import (
    MetricsError,
    drift,
    lowest_kind,
    plot_curve,
    read_metrics,
    running_mean,
    series,
)
from rl.report import SEED_HEADER, main, read_run, seed_table

CALL = ToolCall("get_customer", {"customer_id": "C104"})
RAN = Turn(raw="", calls=(CALL,), results=(ToolResult("{}"),), outcome=Outcome.TOOL_EXECUTION)
RIGHT = Turn(raw="Rome", text="Rome", outcome=Outcome.SUCCESS, reward=10.0)
WRONG = Turn(raw="Bonn", text="Bonn", outcome=Outcome.STRUCTURAL_FAIL, reward=-1.0)
PARTS = {
    "t": (60, FinalAnswer("Rome"), "customer_field", ""),
    "c": (20, FinalAnswer("7", "exact"), "calculate", ""),
    "n": (20, NoCall(), "no_tool", ""),
    "p": (20, FinalAnswer("Rome"), "customer_field", "phrasing"),
    "o": (20, FinalAnswer("Rome"), "customer_field", "tools"),
    "d": (10, FinalAnswer("Rome"), "deep", "depth"),
}
SOLVED = {
    "base": {"t": 2, "n": 15},
    "sft": {"t": 30, "c": 12, "n": 18, "p": 9, "o": 10},
    "grpo": {"t": 59, "c": 3, "n": 19, "p": 18, "o": 19, "d": 1},
}


def episodes(stage: str) -> list[Episode]:
    return [
        Episode(
            Task(f"{name}{i}", "?", goal, ("get_customer",), "database", kind, "test", heldout),
            (RAN, RIGHT if i < SOLVED[stage].get(name, 0) else WRONG),
            terminated=True,
        )
        for name, (n, goal, kind, heldout) in PARTS.items()
        for i in range(n)
    ]


def line(step: int, success: float, **rest: object) -> str:
    outcomes = {"success": success, "structural_fail": 1 - success}
    entry = {"step": step, "success": success, "outcomes": outcomes, "mean_return": 10 * success}
    return json.dumps({**entry, "kl": 0.01 * step, "kinds": {"a": success, "b": 0.1}, **rest})


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    for stage in SOLVED:
        record_stage(tmp_path, stage, episodes(stage))
    return tmp_path


# --- one run ----------------------------------------------------------------------------------


def test_the_report_writes_summary_and_curve_and_names_them(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run_dir / "grpo" / "metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text("\n".join(line(i, i / 10) for i in range(10)) + "\n", encoding="utf-8")
    assert main(["--run_dir", str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert f"wrote {run_dir}/summary.json" in out
    assert f"wrote {run_dir}/curve-grpo.png" in out
    assert (run_dir / "curve-grpo.png").read_bytes().startswith(b"\x89PNG")
    assert out.splitlines()[-1].startswith("next: python -m agents.evaluate --policies")
    stages = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["stages"]
    assert [stages[name]["success"]["successes"] for name in SOLVED] == [2, 42, 62]
    assert stages["grpo"]["heldout"]["n"] == 50
    assert stages["grpo"]["heldout_by"]["depth"]["successes"] == 1
    assert stages["grpo"]["kinds"]["calculate"] == {"successes": 3, "n": 20, "rate": 0.15}


def test_the_one_table_names_every_figure_of_the_three_stages(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--run_dir", str(run_dir)])
    out = capsys.readouterr().out
    header = out.splitlines()[0]
    assert header.split()[-3:] == ["base", "SFT", "GRPO"]
    for label in (
        "success",
        "exact McNemar p",
        "abstention",
        "held-out",
        "phrasing",
        "depth",
        "invalid_json",
        "calls per episode",
        "success by kind of task",
        "no_tool",
    ):
        assert label in out, label
    assert "lowest kind after GRPO: calculate 15.0 n=20" in out
    assert "worst change of a kind from SFT to GRPO: calculate -45.0 points" in out


def test_the_summary_passes_the_check_of_ci(run_dir: Path) -> None:
    main(["--run_dir", str(run_dir)])
    data = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    for stage in data["stages"].values():
        for name in ("success", "abstention", "heldout"):
            figure = stage[name]
            low, high = figure["interval"]
            assert figure["rate"] == figure["successes"] / figure["n"]
            assert 0 <= low <= figure["rate"] <= high <= 1


def test_a_run_that_stopped_after_sft_is_reported_with_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_stage(tmp_path, "base", episodes("base"))
    record_stage(tmp_path, "sft", episodes("sft"))
    assert main(["--run_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "next: python -m rl.grpo" in out
    assert "curve-grpo.png" not in out


def test_an_empty_run_is_an_error_that_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run_dir", str(tmp_path / "nothing")]) == 2
    assert "python -m sft.train" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_damaged_file_of_episodes_is_an_error_with_its_line(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run_dir / "episodes" / "sft.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"task": ')
    assert main(["--run_dir", str(run_dir)]) == 2
    assert "sft.jsonl:151:" in capsys.readouterr().err


# --- several runs -----------------------------------------------------------------------------


def test_seeds_give_one_markdown_row_each(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seeds", str(run_dir), str(run_dir)]) == 0
    rows = [text for text in capsys.readouterr().out.splitlines() if text.startswith("|")]
    assert len(rows) == 4
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert len(cells) == len(SEED_HEADER)
    row = dict(zip(SEED_HEADER, cells, strict=True))
    assert row["run"] == f"{run_dir.parent.name}/{run_dir.name}"
    assert row["GRPO"].startswith("77.5 [")
    assert row["gain"] == "+25.0"
    assert row["phrasing"] == "90.0 n=20"
    assert row["abstention"] == "95.0 n=20"
    assert row["lowest kind"] == "calculate 15.0 n=20"
    assert row["worst change of a kind"] == "calculate -45.0"
    # 18 of the 160 turns on in-distribution tool tasks are wrong answers.
    assert row["invalid + structural"] == f"{100 * 18 / 160:.1f}"


def test_a_run_without_grpo_has_dashes_there_and_figures_of_its_last_stage(tmp_path: Path) -> None:
    record_stage(tmp_path, "base", episodes("base"))
    record_stage(tmp_path, "sft", episodes("sft"))
    cells = [cell.strip() for cell in seed_table([str(tmp_path)]).splitlines()[2].split("|")[1:-1]]
    row = dict(zip(SEED_HEADER, cells, strict=True))
    assert row["SFT"].startswith("52.5 [")
    assert [row[name] for name in ("GRPO", "gain", "p", "worst change of a kind")] == ["-"] * 4
    assert row["abstention"] == row["abstention SFT"] != "-"


def test_a_run_without_episodes_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no episodes in .*python -m sft\.train"):
        seed_table([str(tmp_path)])


def test_infrastructure_faults_are_shown_and_not_counted(tmp_path: Path) -> None:
    played = episodes("sft")
    lost = Episode(played[0].task, (), truncated=True, status=Status.SERVER_CRASHED)
    record_stage(tmp_path, "base", [lost, *played[1:]])
    figures = read_run(tmp_path)["policies"]["base"]
    assert figures["success"]["n"] == 79
    assert figures["infrastructure_faults"] == {"server_crashed": 1}


# --- the curve --------------------------------------------------------------------------------


def test_a_resumed_run_counts_each_step_once_and_a_cut_last_line_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [line(0, 0.1), line(1, 0.2), line(2, 0.3), line(1, 0.8), '{"step": 3, "succ']
    path.write_text("\n".join(lines), encoding="utf-8")
    steps = read_metrics(path)
    assert [step["step"] for step in steps] == [0, 1, 2]
    assert series(steps, "success") == [0.1, 0.8, 0.3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 0}\nnot json\n{"step": 1}\n', r"metrics\.jsonl:2: not a JSON object"),
        ('{"success": 1}\n{"step": 1}\n', r"metrics\.jsonl:1: not a JSON object"),
        ("", r"holds no step; it is written by: python -m rl\.grpo"),
    ],
)
def test_damaged_metrics_are_an_error_with_the_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MetricsError, match=message):
        read_metrics(path)


def test_missing_metrics_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"cannot read .*metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_running_mean_looks_back_and_skips_gaps() -> None:
    assert running_mean([1.0, 3.0, 5.0, math.nan], width=2) == [1.0, 2.0, 4.0, 5.0]
    assert math.isnan(running_mean([math.nan])[0])


def test_the_lowest_kind_is_drawn_from_the_smoothed_kinds() -> None:
    steps = [
        {"step": 0, "kinds": {"a": 1.0, "b": 0.5}},
        {"step": 1, "kinds": {"a": 0.0, "b": 0.5}},
        {"step": 2},
    ]
    assert lowest_kind(steps) == [0.5, 0.5, 0.5]
    assert all(math.isnan(value) for value in lowest_kind([{"step": 0}, {"step": 1}]))


def test_a_run_without_a_kl_term_shows_its_entropy_instead() -> None:
    values, title = drift([{"step": 0, "entropy": 0.5}, {"step": 1, "entropy": 0.25, "kl": None}])
    assert values == [0.5, 0.25]
    assert title.startswith("entropy")
    values, title = drift([{"step": 0, "entropy": 0.5}, {"step": 1, "kl": 0.125}])
    assert math.isnan(values[0])
    assert values[1] == 0.125
    assert title.startswith("KL")


def test_metrics_with_gaps_are_drawn(tmp_path: Path) -> None:
    path = plot_curve(
        [{"step": 0}, {"step": 1, "success": 0.5, "kl": None}], tmp_path / "a" / "b.png"
    )
    assert path.read_bytes().startswith(b"\x89PNG")

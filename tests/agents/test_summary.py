from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_episodes import batch

from agents.figures import figures
from agents.summary import (
    read_stages,
    record_stage,
    summarise_stages,
    write_stage_summary,
)
from agents.tables import (
    aligned,
    largest_loss,
    lowest_kind,
    stage_table,
)

# --- stages -----------------------------------------------------------------------------------


def test_the_summary_of_a_run_has_the_layout_of_its_readers(tmp_path: Path) -> None:
    for stage, successes in (("base", 0), ("sft", 5), ("grpo", 9)):
        record_stage(tmp_path, stage, batch(successes, 10))
    data = json.loads(write_stage_summary(tmp_path).read_text(encoding="utf-8"))
    assert list(data["stages"]) == ["base", "sft", "grpo"]
    assert data["stages"]["sft"]["success"]["rate"] == 0.5
    assert data["stages"]["grpo"]["kinds"]["customer_field"] == {
        "successes": 9,
        "n": 10,
        "rate": 0.9,
    }
    assert list(data["mcnemar"]) == ["base->sft", "sft->grpo", "base->grpo"]
    assert data["mcnemar"]["base->grpo"]["success"]["only_second"] == 9


def test_recorded_episodes_come_back_equal(tmp_path: Path) -> None:
    episodes = batch(2, 3)
    record_stage(tmp_path, "sft", episodes)
    assert read_stages(tmp_path) == {"sft": episodes}


def test_recording_a_stage_removes_later_ones_which_were_trained_on_the_old(tmp_path: Path) -> None:
    for stage in ("base", "sft", "grpo"):
        record_stage(tmp_path, stage, batch(1, 2))
    record_stage(tmp_path, "sft", batch(2, 2))
    assert list(read_stages(tmp_path)) == ["base", "sft"]


def test_an_unknown_stage_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'no stage "gpro".*did you mean "grpo"'):
        record_stage(tmp_path, "gpro", [])


# --- tables -----------------------------------------------------------------------------------


def test_the_stage_table_shows_what_the_aggregate_hides(tmp_path: Path) -> None:
    sft = [*batch(8, 10), *batch(8, 10, "c", kind="calculate")]
    grpo = [*batch(10, 10), *batch(1, 10, "c", kind="calculate")]
    record_stage(tmp_path, "base", [*batch(0, 10), *batch(0, 10, "c", kind="calculate")])
    record_stage(tmp_path, "sft", sft)
    record_stage(tmp_path, "grpo", grpo)
    table = stage_table(summarise_stages(tmp_path))
    assert "lowest kind after GRPO: calculate 10.0 n=10" in table
    assert "worst change of a kind from SFT to GRPO: calculate -70.0 points" in table
    rows = {line.split("  ")[0].strip(): line for line in table.splitlines() if line}
    assert rows["success"].split()[-4:] == ["55.0", "[34.2,", "74.2]", "n=20"]


def test_lowest_kind_and_largest_loss() -> None:
    before = figures([*batch(4, 4), *batch(1, 4, "b", kind="b")])["kinds"]
    after = figures([*batch(3, 4), *batch(2, 4, "b", kind="b")])["kinds"]
    assert lowest_kind(after) == ("b", {"successes": 2, "n": 4, "rate": 0.5})
    assert largest_loss(before, after) == ("customer_field", -25.0)
    assert largest_loss({}, after) is None


def test_columns_are_aligned() -> None:
    assert aligned([["policy", "n"], ["a", "100"]]) == "policy    n\na       100"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_tasks import sum_task
from trl import GRPOConfig, SFTConfig

from agents.cli import parse_all_flags
from agents.summary import record_stage
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Outcome, Task, Turn
from rl.flags import RolloutArguments
from rl.grpo import GroupArguments
from sft.data.check import problems
from sft.flags import PolicyArguments, TaskArguments
from sft.studies.formats import ARMS, BROKEN_SHARE
from sft.studies.runs import Run, StudyError, finish_all
from sft.study import FormatsFlags, SizesFlags, main, sizes, warm_start
from sft.traces import reference_traces
from sft.train import WarmStartArguments

SFT = (PolicyArguments, TaskArguments, WarmStartArguments, SFTConfig)
GRPO = (PolicyArguments, TaskArguments, RolloutArguments, GroupArguments, GRPOConfig)


@pytest.mark.parametrize(("given", "steps"), [(0, 105), (50, 50)])
def test_every_command_of_sizes_is_read_by_the_program_it_calls(
    tmp_path: Path, given: int, steps: int
) -> None:
    for run in sizes(SizesFlags(seeds=[1], run_dir=str(tmp_path), grpo_steps=given)):
        (_, sft), (_, grpo) = run.commands
        _, play, warm, config = parse_all_flags(SFT, "", "", sft[3:])
        assert (play.run_dir, config.seed) == (str(run.folder), 1)
        assert (sft[2], warm.num_traces) == ("sft.train", int(run.arm))
        assert 2900 < warm.num_traces * warm.views < 3300
        _, _, rollouts, _, config = parse_all_flags(GRPO, "", "", grpo[3:])
        assert (grpo[2], rollouts.adapter) == ("rl.grpo", str(run.folder / "sft"))
        assert config.max_steps == steps


@pytest.mark.parametrize("arm", ARMS)
def test_every_command_of_formats_is_read_by_sft_train(tmp_path: Path, arm: str) -> None:
    command = warm_start(FormatsFlags(), tmp_path, 0, ARMS[arm][1])
    warm = parse_all_flags(SFT, "", "", command[3:])[2]
    assert (warm.loss_on == "conversation") is (arm in ("tags", "conversation"))
    assert warm.check_data is (arm not in ("tags", "malformed"))


def test_the_arms_hold_the_same_traces_in_other_forms() -> None:
    traces = reference_traces([sum_task(number) for number in range(20)], max_turns=3)
    rows = {arm: make(traces, 0) for arm, (make, _) in ARMS.items()}
    assert rows["conversation"] == rows["structured"] == traces
    assert not any("tool_calls" in m for row in rows["tags"] for m in row["messages"])
    broken = [row for row in rows["malformed"] if problems(row)]
    assert len(broken) == round(BROKEN_SHARE * 20)
    assert len({problems(row)[0].code for row in broken}) >= 2
    assert rows["cleaned"] == [row for row in rows["malformed"] if not problems(row)]
    kept = len(rows["cleaned"])
    assert rows["repeated"][:kept] == rows["cleaned"]
    assert len(rows["repeated"]) == len(traces) == len({row["id"] for row in rows["repeated"]})
    said = [row["messages"] for row in rows["cleaned"]]
    assert all(row["messages"] in said for row in rows["repeated"][kept:])


def record(folder: Path, tasks: list[Task], solved: int) -> None:
    outcomes = [Outcome.SUCCESS] * solved + [Outcome.STRUCTURAL_FAIL] * (len(tasks) - solved)
    turns = [Turn(raw="x", text="x", outcome=outcome) for outcome in outcomes]
    episodes = [
        Episode(task, (turn,), terminated=True) for task, turn in zip(tasks, turns, strict=True)
    ]
    record_stage(folder, "sft", episodes)


def test_finished_runs_are_read_and_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        task
        for task in load_tasks("starter", "test")
        if task.kind == "calculate" and not task.heldout
    ][:6]
    flags: dict[str, Any] = {"arms": ["2", "4"], "seeds": [0, 1], "run_dir": str(tmp_path)}
    for run in sizes(SizesFlags(**flags, against="4", grpo=False)):
        record(run.folder, tasks, int(run.arm) + run.seed)
        ((_, command),) = run.commands
        text = " ".join(command[1:]) + "\n"
        (run.folder / "sft.finished").write_text(text, encoding="utf-8")
    words = ["sizes", "--arms", "2", "4", "--seeds", "0", "1", "--run_dir", str(tmp_path)]
    figures = tmp_path / "figures.json"
    words += ["--against", "4", "--grpo", "false", "--json", str(figures)]
    assert main(words) == 0
    assert "| 2 | SFT | all | 41.7" in capsys.readouterr().out
    lines = json.loads(figures.read_text(encoding="utf-8"))["lines"]
    assert [(one["arm"], one["seed"], one["worse"]) for one in lines[:3]] == [
        ("2", "0", 2), ("2", "1", 2), ("2", "all", 3),
    ]  # fmt: skip
    # One task with two seeds, two tasks with one: two of the 8 flips of 1, 2, 1 are as far.
    assert (lines[0]["p"], lines[2]["p"]) == (0.5, 0.25)
    assert lines[2]["ends"] == [2 / 6, 3 / 6]
    assert (tmp_path / "study" / "sizes" / "success.png").read_bytes()[1:4] == b"PNG"
    assert main([*words, "--threads", "1"]) == 2
    assert "another command" in capsys.readouterr().err


def test_a_command_that_fails_is_one_line_that_names_its_log(tmp_path: Path) -> None:
    run = Run("a", 0, tmp_path, (("sft", ("false", "x")),))
    with pytest.raises(StudyError, match=r"a, seed 0: .*sft\.log"):
        finish_all([run], jobs=1, threads=1)
    assert not (tmp_path / "sft.finished").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["formats", "--arms", "tag"], 'no arm "tag"'),
        (["sizes", "--arms", "few"], 'not "few"'),
        (["sizes", "--arms", "3"], "--against 100 is none of the arms: 3"),
        (["sizes", "--grpo_steps", "-1"], "--grpo_steps -1 is no number of steps"),
    ],
)
def test_wrong_arms_and_steps_are_one_clear_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tasks import sum_task
from transformers import TrainerControl, TrainerState

from rewards.episode import Episode, Outcome, Status, Turn
from sft.validation import BEST, LOG, EpisodeValidation, check_processes, read_log

N = 4


def episodes(solved: int) -> list[Episode]:
    outcomes = [Outcome.SUCCESS] * solved + [Outcome.STRUCTURAL_FAIL] * (N - solved)
    return [
        Episode(sum_task(i, "validation"), (Turn(raw="x", text="x", outcome=one),), terminated=True)
        for i, one in enumerate(outcomes)
    ]


class Training:
    """Goes through steps as a trainer does; after step n the weight of the model is n."""

    def __init__(self, folder: Path, solved: dict[int, int | None], every: int = 1, **options: int):
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.solved = solved
        self.state = TrainerState(max_steps=options.pop("max_steps", 8))
        self.control = TrainerControl()
        self.callback = EpisodeValidation(self.play, every, options.pop("patience", 0), folder)

    def play(self, model: Any) -> list[Episode]:
        solved = self.solved[self.state.global_step]
        if solved is None:
            task = sum_task(0, "validation")
            return [Episode(task, (), status=Status.SERVER_CRASHED)]
        return episodes(solved)

    def train(self, until: int = 0, start: int = 0) -> Training:
        self.state.global_step = start
        self.callback.on_train_begin(None, self.state, self.control)
        while self.state.global_step < (until or self.state.max_steps):
            self.state.global_step += 1
            torch.nn.init.constant_(self.model.weight, self.state.global_step)
            self.callback.on_step_end(None, self.state, self.control, model=self.model)
            if self.control.should_training_stop:
                break
        return self

    def restored(self) -> float:
        self.callback.restore_best(self.model)
        return self.model.weight.item()


def test_a_line_is_written_for_every_evaluation_and_the_last_step(tmp_path: Path) -> None:
    Training(tmp_path, {3: 1, 6: 2, 8: 3}, every=3).train()
    assert read_log(tmp_path) == [
        {"step": 3, "success": 0.25, "n": N},
        {"step": 6, "success": 0.5, "n": N},
        {"step": 8, "success": 0.75, "n": N},
    ]


def test_the_weights_of_the_best_evaluation_are_restored(tmp_path: Path) -> None:
    training = Training(tmp_path, {2: 1, 4: 3, 6: 3, 8: 2}, every=2).train()
    assert training.restored() == 4  # the first of equal ones
    assert not (tmp_path / BEST).exists()


def test_training_stops_after_so_many_evaluations_without_a_better_one(tmp_path: Path) -> None:
    solved: dict[int, int | None] = {1: 1, 2: 2, 3: 2, 4: 1, 5: 4}
    training = Training(tmp_path, solved, patience=2).train()
    assert training.state.global_step == 4
    assert training.restored() == 2


def test_a_better_evaluation_begins_the_count_anew(tmp_path: Path) -> None:
    solved: dict[int, int | None] = {1: 1, 2: 0, 3: 2, 4: 0, 5: 3, 6: 0, 7: 0, 8: 4}
    assert Training(tmp_path, solved, patience=2).train().state.global_step == 7


def test_an_outage_of_servers_is_noted_and_judges_nothing(tmp_path: Path) -> None:
    solved: dict[int, int | None] = {1: 2, 2: None, 3: None, 4: 1}
    training = Training(tmp_path, solved, patience=2, max_steps=4).train()
    assert training.state.global_step == 4
    assert read_log(tmp_path)[1] == {"step": 2, "success": None, "n": 0}
    assert training.restored() == 1


def test_without_any_judged_evaluation_the_last_weights_stay(tmp_path: Path) -> None:
    training = Training(tmp_path, {1: None, 2: None}, max_steps=2).train()
    assert training.restored() == 2


def test_a_resumed_run_goes_on_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    solved: dict[int, int | None] = {1: 1, 2: 3, 3: 2, 4: 2, 5: 2, 6: 2}
    Training(tmp_path, solved, patience=3).train(until=4)
    resumed = Training(tmp_path, solved, patience=3).train(start=3)
    assert resumed.state.global_step == 5
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3, 4, 5]
    assert resumed.restored() == 2


def test_the_best_of_after_the_checkpoint_is_found_again(tmp_path: Path) -> None:
    solved: dict[int, int | None] = {1: 1, 2: 2, 3: 3, 4: 1}
    Training(tmp_path, solved).train(until=3)
    assert Training(tmp_path, solved, max_steps=4).train(start=1).restored() == 3


def test_a_new_run_forgets_the_former_one(tmp_path: Path) -> None:
    Training(tmp_path, {1: 4}, max_steps=1).train()
    assert Training(tmp_path, {1: 1, 2: 2}, max_steps=2).train().restored() == 2
    assert [line["success"] for line in read_log(tmp_path)] == [0.25, 0.5]


def test_a_line_that_a_kill_cut_is_left_out(tmp_path: Path) -> None:
    line = json.dumps({"step": 1, "success": 0.5, "n": 2})
    (tmp_path / LOG).write_text(f'{line}\n{{"step": 2, "su')
    assert read_log(tmp_path) == [json.loads(line)]


def test_evaluations_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Training(tmp_path, {1: 3, 2: 1}, patience=1, max_steps=5).train().restored()
    text = capsys.readouterr().out
    assert "step 1: 3 of 4 validation tasks solved" in text
    assert "stopped at step 2: 1 evaluations in a row were not better than that of step 1" in text
    assert "the adapter of step 1 is kept: 75.0 % of the validation tasks solved" in text


def test_several_processes_that_train_together_are_refused() -> None:
    check_processes(1)
    with pytest.raises(SystemExit, match="error: --eval_every plays in one process, and 2 train"):
        check_processes(2)

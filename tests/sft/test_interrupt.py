from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_qwen3, with_adapter
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sft.interrupt import StopOnInterrupt

ROWS = [{"input_ids": [i, i + 1, i + 2], "labels": [i, i + 1, i + 2]} for i in range(8)]


@pytest.fixture(autouse=True)
def handler() -> Iterator[Any]:
    """The handler of the test run, given back whatever happens."""
    before = signal.getsignal(signal.SIGINT)
    yield before
    signal.signal(signal.SIGINT, before)


class PressAt(TrainerCallback):
    """Presses Ctrl-C while a step runs."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def trainer(folder: Path, *callbacks: TrainerCallback) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=2,
        learning_rate=0.01,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=1,
    )
    model = with_adapter(tiny_qwen3())
    return Trainer(model, arguments, train_dataset=ROWS, callbacks=list(callbacks))


def adapter(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in one.model.named_parameters() if p.requires_grad}


def test_ctrl_c_finishes_the_step_saves_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = trainer(tmp_path, StopOnInterrupt(), PressAt(1))
    one.train()
    assert one.state.global_step == 2
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").is_file()
    assert (tmp_path / "checkpoint-2" / "adapter_model.safetensors").is_file()
    text = capsys.readouterr().out
    assert "finishing this step" in text
    assert f"stopped at step 2; checkpoint in {tmp_path}" in text
    assert "--resume_from_checkpoint" in text


def test_a_run_that_was_stopped_and_resumed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path / "cut", StopOnInterrupt(), PressAt(1)).train()
    rest = trainer(tmp_path / "cut")
    rest.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert rest.state.global_step == 4
    for name, parameter in adapter(whole).items():
        assert torch.equal(adapter(rest)[name], parameter), name


def test_a_second_ctrl_c_stops_at_once_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, StopOnInterrupt(), PressAt(1, times=2)).train()
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_ctrl_c_works_as_usual_before_and_after_training(tmp_path: Path, handler: Any) -> None:
    seen: list[Any] = []

    class Look(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append(signal.getsignal(signal.SIGINT))

    trainer(tmp_path, StopOnInterrupt(), Look()).train()
    assert handler not in seen
    assert len(seen) == 4
    assert signal.getsignal(signal.SIGINT) == handler


def test_without_ctrl_c_nothing_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    callback, control = StopOnInterrupt(), TrainerControl()
    state, arguments = TrainerState(), TrainingArguments(use_cpu=True)
    callback.on_train_begin(arguments, state, control)
    callback.on_step_end(arguments, state, control)
    callback.on_train_end(arguments, state, control)
    assert not control.should_save
    assert not control.should_training_stop
    assert capsys.readouterr().out == ""

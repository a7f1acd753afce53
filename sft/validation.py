"""Validation during training by playing episodes, not by loss: early stop, and the best adapter.

Every so many steps, and after the last one, the policy plays tasks of the validation split. A line
of OUTPUT_DIR/validation.jsonl holds

    step       optimizer steps so far
    success    share of the episodes that succeeded; null where servers failed in all of them
    n          episodes that were counted: those that no fault of a server ended

The trained weights of the best evaluation (the first of equal ones) are kept in
OUTPUT_DIR/best.safetensors until training ends, and are what is saved. All this happens in one
process; several that train together are refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rewards.episode import MODEL_STATUSES, Episode

LOG = "validation.jsonl"
BEST = "best.safetensors"


@dataclass(frozen=True)
class Best:
    """The best evaluation so far.

    Attributes:
        step: Its step.
        success: Its success.
    """

    step: int
    success: float


class EpisodeValidation(TrainerCallback):
    """Plays validation tasks while a model is trained, and may stop the training.

    A run that is resumed goes on from what its folder holds; what was evaluated after the
    checkpoint is evaluated again.

    Args:
        play: Plays the validation tasks with a model.
        every: Steps between two evaluations.
        patience: Training stops after so many evaluations in a row that were not better than the
            best; 0 never stops it.
        folder: The output folder.
    """

    def __init__(
        self, play: Callable[[Any], Sequence[Episode]], every: int, patience: int, folder: Path
    ) -> None:
        self._play = play
        self._every = every
        self._patience = patience
        self._folder = folder
        self._best: Best | None = None
        self._waited = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget a former run, or go on from this one's checkpoint."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if state.global_step == 0:
            for name in (LOG, BEST):
                (self._folder / name).unlink(missing_ok=True)
            return
        kept = [line for line in read_log(self._folder) if line["step"] <= state.global_step]
        (self._folder / LOG).write_text("".join(map(_json_line, kept)), encoding="utf-8")
        self._best = _read_best(self._folder / BEST)
        if self._best is not None:
            best = self._best.step
            self._waited = sum(one["step"] > best and one["n"] > 0 for one in kept)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate where it is due."""
        step = state.global_step
        if step % self._every and step < state.max_steps:
            return
        counted = [one for one in self._play(kwargs["model"]) if one.status in MODEL_STATUSES]
        solved, n = sum(episode.success for episode in counted), len(counted)
        success = solved / n if n else None
        line = _json_line({"step": step, "success": success, "n": n})
        with (self._folder / LOG).open("a", encoding="utf-8") as log:
            log.write(line)
        sys.stdout.write(f"step {step}: {solved} of {n} validation tasks solved\n")
        if success is not None:
            self._judge(Best(step, success), kwargs["model"], control)

    def _judge(self, now: Best, model: Any, control: TrainerControl) -> None:
        best = self._best
        if best is None or now.success > best.success or now.step == best.step:
            self._best, self._waited = now, 0
            _save_best(self._folder / BEST, model, now)
            return
        self._waited += 1
        if self._patience and self._waited >= self._patience:
            control.should_training_stop = True
            sys.stdout.write(
                f"stopped at step {now.step}: {self._waited} evaluations in a row were not better "
                f"than that of step {best.step}\n"
            )

    def restore_best(self, model: Any) -> None:
        """Give a model the weights of the best evaluation, and remove their file."""
        path = self._folder / BEST
        if self._best is None:
            return
        with safe_open(path, framework="pt") as tensors, torch.no_grad():
            for name, parameter in _trained(model):
                parameter.copy_(tensors.get_tensor(name))
        path.unlink()
        sys.stdout.write(
            f"the adapter of step {self._best.step} is kept: "
            f"{100 * self._best.success:.1f} % of the validation tasks solved\n"
        )


def check_processes(count: int) -> None:
    """Refuse to validate where several processes train: each would play, and stop by itself.

    Args:
        count: Processes that train together.

    Raises:
        SystemExit: If there is more than one.
    """
    if count > 1:
        raise SystemExit(
            f"error: --eval_every plays in one process, and {count} train together; "
            "leave it out, or train in one process"
        )


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `validation.jsonl`; none where there is no file.

    A last line that was cut by a kill is left out.
    """
    path = folder / LOG
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _json_line(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


def _trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, one) for name, one in model.named_parameters() if one.requires_grad]


def _save_best(path: Path, model: Any, best: Best) -> None:
    """Write the trained weights, whole or not at all."""
    tensors = {name: one.detach().cpu().clone() for name, one in _trained(model)}
    partial = path.with_suffix(".partial")
    facts = {"step": str(best.step), "success": repr(best.success)}
    save_file(tensors, partial, metadata=facts)
    partial.replace(path)


def _read_best(path: Path) -> Best | None:
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as tensors:
        facts = tensors.metadata()
    return Best(int(facts["step"]), float(facts["success"]))

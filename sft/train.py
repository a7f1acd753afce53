"""SFT warm start: `python -m sft.train`.

Reference traces of the training split, executed by the oracle through the real server, or
canonical rows of files (`--data`, mixed by `--data_weights`, see `sft/mixing.py`), or both, are
rendered to token ids with the mask of what the policy says (`agents/template.py`, the same place
that rollouts use) and trained on with TRL's `SFTTrainer` and a LoRA adapter on all linear layers.
The base policy plays the test tasks first, the trained one afterwards; with `--eval_every` it
plays validation tasks in between, and the best adapter is what is saved (`sft/validation.py`).

Writes, under `--run_dir` and `--output_dir`:

    OUTPUT_DIR/                 the adapter
    OUTPUT_DIR/recipe.yaml      the flags, as a config file that trains it again
    OUTPUT_DIR/traces.jsonl     what was trained on as canonical rows: every view of every trace,
                                and every row of the files that is shown, once
    OUTPUT_DIR/validation.jsonl with `--eval_every`: success on validation tasks by step
    RUN_DIR/episodes/base.jsonl, sft.jsonl
    RUN_DIR/summary.json
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from agents.cli import fail, run
from agents.merged import folded_adapter
from agents.models import (
    add_adapter,
    cast_trainable_to_float32,
    load_model,
    load_tokenizer,
    place,
)
from agents.summary import write_stage_summary
from agents.template import ChatTemplate
from envs.tasks.load import load_tasks
from rewards.episode import Episode
from sft.checkpoints import last_checkpoint
from sft.data.errors import DataError
from sft.flags import PolicyArguments, TaskArguments, read_flags
from sft.interrupt import StopOnInterrupt
from sft.mixing import mixed, read_sets
from sft.playing import evaluation_tasks, greedy_player, measure, play_tasks, thinned
from sft.recipe import write_recipe
from sft.rendering import LossOn, check_packing, tokenised
from sft.traces import Row, pick_tasks
from sft.validation import EpisodeValidation, check_processes
from sft.views import Views, demonstrations

DESCRIPTION = (
    "Warm start: measure the base policy, train a LoRA adapter on executed reference traces or "
    "rows of files, measure again. "
    "Without --config: configs/starter-sft.yaml."
)


@dataclass(frozen=True)
class WarmStartArguments:
    """Flags of the warm start itself."""

    num_traces: int = field(
        default=60, metadata={"help": "Reference traces to train on, beside --data; 0 for none."}
    )
    views: int = field(
        default=1,
        metadata={"help": "Show each trace this often in an epoch, tools in another order."},
    )
    mistakes: float = field(
        default=0.0,
        metadata={"help": "Share of the further views with a mistake (untrained) and a recovery."},
    )
    withheld: float = field(
        default=0.0,
        metadata={"help": "Share of the further views with a tool taken away, and a refusal."},
    )
    other_values: float = field(
        default=0.0,
        metadata={"help": "Share of the further views with other names, ids, numbers and texts."},
    )
    data: list[str] = field(
        default_factory=list, metadata={"help": "Files of canonical rows to train on."}
    )
    data_weights: list[float] = field(
        default_factory=list,
        metadata={
            "help": "One for each file of --data: how often an epoch shows each of its rows (0.5: "
            "half of them once); without it each has 1."
        },
    )
    check_data: bool = field(
        default=True,
        metadata={"help": "Refuse files with rows that have problems; false trains on them too."},
    )
    loss_on: LossOn = field(
        default="assistant",
        metadata={"help": "Train on what the policy says, or on every token of a conversation."},
    )
    eval_base: bool = field(
        default=True, metadata={"help": "Let the untrained policy play the test tasks first."}
    )
    eval_every: int = field(
        default=0,
        metadata={
            "help": "Play validation tasks every so many steps and keep the best adapter; 0: never."
        },
    )
    eval_tasks_during: int = field(
        default=0, metadata={"help": "Validation tasks played during training; 0 for all."}
    )
    patience: int = field(
        default=0,
        metadata={
            "help": "Stop after so many evaluations of --eval_every without a better one; 0: never."
        },
    )

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to train on, or contradict each other."""
        if self.num_traces < 1 and not (self.data and self.num_traces == 0):
            raise ValueError(
                f"--num_traces must be at least 1, not {self.num_traces} (or 0, with --data)"
            )
        if self.data_weights and len(self.data_weights) != len(self.data):
            raise ValueError(
                f"--data_weights needs one weight for each file of --data: "
                f"{len(self.data_weights)} for {len(self.data)}"
            )
        for weight in self.data_weights:
            if not 0 < weight < math.inf:
                raise ValueError(f"--data_weights must be numbers above 0, not {weight}")
        for name in ("eval_every", "eval_tasks_during", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative: {getattr(self, name)}")
        if self.patience and not self.eval_every:
            raise ValueError("--patience counts evaluations during training: give --eval_every")
        self.shown()

    def shown(self) -> Views:
        """Return how the traces are shown."""
        return Views(self.views, self.mistakes, self.withheld, self.other_values)


def main(
    policy: PolicyArguments, play: TaskArguments, warm: WarmStartArguments, config: SFTConfig
) -> None:
    """Measure the base, train the adapter, measure again."""
    torch.set_num_threads(policy.threads)
    output = Path(str(config.output_dir))
    checkpoint = last_checkpoint(output, config.resume_from_checkpoint)
    check_packing(config)
    if warm.eval_every:
        check_processes(config.world_size)
    tokenizer = load_tokenizer(policy.model_name_or_path)
    shown = rows_of_an_epoch(play, warm, config.seed)
    template = ChatTemplate(tokenizer, thinking=policy.enable_thinking)
    rows = tokenised(template, shown, config.max_length, warm.loss_on)
    write_recipe(output, "sft.train", (policy, play, warm, config))
    model = load_model(
        policy.model_name_or_path,
        load_in_4bit=policy.load_in_4bit,
        precision=policy.precision,
        use_cpu=config.use_cpu,
    )
    evaluation_tasks(play)  # what cannot be played is said before anything is trained
    side_by_side = config.per_device_eval_batch_size
    if warm.eval_base:
        place(model, use_cpu=config.use_cpu)
        measure("base", model, tokenizer, policy, play, side_by_side)
    model = add_adapter(model, rank=policy.lora_r, alpha=policy.lora_alpha, seed=config.seed)
    stop, validation = StopOnInterrupt(), validated(tokenizer, policy, play, warm, config)
    trainer = WarmStartTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[stop, *validation],
    )
    cast_trainable_to_float32(trainer.model)
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.interrupted:
        return
    for one in validation:
        one.restore_best(trainer.model)
    save_adapter(trainer.model, tokenizer, output)
    save_traces(shown, output)
    measure("sft", trainer.model, tokenizer, policy, play, side_by_side)
    write_stage_summary(Path(play.run_dir))
    alike = " --enable_thinking true" if policy.enable_thinking else ""
    sys.stdout.write(
        f"wrote {config.output_dir} (adapter, traces.jsonl), {play.run_dir}/episodes/, "
        f"{play.run_dir}/summary.json\n"
        f"next: python -m rl.grpo --adapter {config.output_dir}{alike}\n"
    )


class WarmStartTrainer(SFTTrainer):
    """TRL's `SFTTrainer`, with a small model's adapter folded into its weights for each step."""

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss; the gradients are the same to rounding."""
        # What is computed again in the backward pass would not find the adapter folded.
        fold = nullcontext() if self.args.gradient_checkpointing else folded_adapter(model)
        with fold:
            return super().compute_loss(model, *args, **kwargs)


def reference_rows(play: TaskArguments, warm: WarmStartArguments, seed: int) -> list[Row]:
    """Return the reference traces of the training split, in their views."""
    every = load_tasks(play.tasks, "train", mock=not play.servers)
    tasks = pick_tasks(every, warm.num_traces, seed)
    return demonstrations(tasks, play.max_turns, warm.shown(), seed, play.servers or None)


def rows_of_an_epoch(play: TaskArguments, warm: WarmStartArguments, seed: int) -> list[Row]:
    """Return what an epoch shows: reference traces, then the rows of files by their weights."""
    sets = read_sets(warm.data, warm.data_weights, check=warm.check_data)
    for one in sets:
        sys.stdout.write(one.report(seed) + "\n")
    traces = reference_rows(play, warm, seed) if warm.num_traces else []
    return [*traces, *mixed(sets, seed)]


def validated(
    tokenizer: Any,
    policy: PolicyArguments,
    play: TaskArguments,
    warm: WarmStartArguments,
    config: SFTConfig,
) -> list[EpisodeValidation]:
    """Return the callback that plays validation tasks during training, if any are to be played."""
    if not warm.eval_every:
        return []
    every = load_tasks(play.tasks, "validation", mock=not play.servers)
    tasks = thinned(every, warm.eval_tasks_during)

    def played(model: Any) -> list[Episode]:
        player = greedy_player("validation", model, tokenizer, policy)
        side_by_side = config.per_device_eval_batch_size
        return play_tasks(player, tasks, policy, play, side_by_side, progress=False)

    folder = Path(str(config.output_dir))
    return [EpisodeValidation(played, warm.eval_every, warm.patience, folder)]


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the adapter and the untouched tokenizer."""
    # Said outright, or peft asks the hub whether the vocabulary was changed.
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    tokenizer.save_pretrained(folder)


def save_traces(traces: Sequence[Row], folder: Path) -> None:
    """Write the traces as canonical rows, one a line; those that are shown again once."""
    distinct = {id(trace): trace for trace in traces}.values()
    lines = [json.dumps(trace, ensure_ascii=False) for trace in distinct]
    (folder / "traces.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = read_flags(
        (PolicyArguments, TaskArguments, WarmStartArguments, SFTConfig),
        default_config="starter-sft.yaml",
        program="sft.train",
        description=DESCRIPTION,
    )
    try:
        sys.exit(run(main, given))
    except DataError as problem:
        sys.exit(fail(problem))

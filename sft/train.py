"""SFT warm start: `python -m sft.train`.

Reference traces of the training split, executed by the oracle through the real server, are
rendered to token ids with the mask of what the policy says (`agents/template.py`, the same place
that rollouts use) and trained on with TRL's `SFTTrainer` and a LoRA adapter on all linear layers.
The base policy plays the test tasks first, the trained one afterwards.

Writes, under `--run_dir` and `--output_dir`:

    OUTPUT_DIR/                 the adapter
    OUTPUT_DIR/recipe.yaml      the flags, as a config file that trains it again
    OUTPUT_DIR/traces.jsonl     what was trained on as canonical rows: every view of every trace
    RUN_DIR/episodes/base.jsonl, sft.jsonl
    RUN_DIR/summary.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from agents.cli import run
from agents.engine import SamplingConfig
from agents.merged import folded_adapter
from agents.models import add_adapter, cast_trainable_to_float32, load_model, load_tokenizer
from agents.players import LanguagePlayer
from agents.rollout import rollout
from agents.summary import record_stage, write_stage_summary
from agents.template import ChatTemplate
from envs.tasks.load import load_tasks
from rewards.episode import Task
from sft.checkpoints import last_checkpoint
from sft.flags import PolicyArguments, TaskArguments, read_flags
from sft.interrupt import StopOnInterrupt
from sft.recipe import write_recipe
from sft.traces import Row, pick_tasks, token_row
from sft.views import Views, demonstrations

DESCRIPTION = (
    "Warm start: measure the base policy, train a LoRA adapter on executed reference traces, "
    "measure again. "
    "Without --config: configs/starter-sft.yaml."
)


@dataclass(frozen=True)
class WarmStartArguments:
    """Flags of the warm start itself."""

    num_traces: int = field(default=60, metadata={"help": "Reference traces to train on."})
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
    eval_base: bool = field(
        default=True, metadata={"help": "Let the untrained policy play the test tasks first."}
    )

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to train on."""
        if self.num_traces < 1:
            raise ValueError(f"--num_traces must be at least 1, not {self.num_traces}")
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
    tokenizer = load_tokenizer(policy.model_name_or_path)
    every = load_tasks(play.tasks, "train", mock=not play.servers)
    tasks = pick_tasks(every, warm.num_traces, config.seed)
    shown = demonstrations(tasks, play.max_turns, warm.shown(), config.seed, play.servers or None)
    rows = tokenised(ChatTemplate(tokenizer), shown, config.max_length)
    write_recipe(output, "sft.train", (policy, play, warm, config))
    model = load_model(
        policy.model_name_or_path, load_in_4bit=policy.load_in_4bit, precision=policy.precision
    )
    test = evaluation_tasks(play)
    if warm.eval_base:
        evaluate_stage("base", model, tokenizer, test, policy, play)
    model = add_adapter(model, rank=policy.lora_r, alpha=policy.lora_alpha, seed=config.seed)
    stop = StopOnInterrupt()
    trainer = WarmStartTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[stop],
    )
    cast_trainable_to_float32(trainer.model)
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.interrupted:
        return
    save_adapter(trainer.model, tokenizer, output)
    save_traces(shown, output)
    evaluate_stage("sft", trainer.model, tokenizer, test, policy, play)
    write_stage_summary(Path(play.run_dir))
    sys.stdout.write(
        f"wrote {config.output_dir} (adapter, traces.jsonl), {play.run_dir}/episodes/, "
        f"{play.run_dir}/summary.json\n"
        f"next: python -m rl.grpo --adapter {config.output_dir}\n"
    )


class WarmStartTrainer(SFTTrainer):
    """TRL's `SFTTrainer`, with a small model's adapter folded into its weights for each step."""

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss; the gradients are the same to rounding."""
        # What is computed again in the backward pass would not find the adapter folded.
        fold = nullcontext() if self.args.gradient_checkpointing else folded_adapter(model)
        with fold:
            return super().compute_loss(model, *args, **kwargs)


def tokenised(
    template: ChatTemplate, traces: Sequence[Row], max_length: int | None
) -> list[dict[str, list[int]]]:
    """Return token rows; count and report those that the length limit would rob of tokens."""
    rows = [token_row(template, trace) for trace in traces]
    if not rows:
        raise SystemExit("no task of the training split has a reference solution to train on")
    cut = [row for row in rows if max_length and 1 in row["assistant_masks"][max_length:]]
    longest = max(len(row["input_ids"]) for row in rows)
    trained = sum(sum(row["assistant_masks"]) for row in rows)
    sys.stdout.write(
        f"{len(rows)} rows, {trained} trained tokens, longest row {longest} tokens, "
        f"{len(cut)} rows lose trained tokens at max_length {max_length}\n"
    )
    return rows


def evaluation_tasks(play: TaskArguments) -> list[Task]:
    """Return the tasks that stages are compared on, evenly thinned if a limit is set."""
    tasks = load_tasks(play.tasks, play.eval_split, mock=not play.servers)
    if play.eval_limit and len(tasks) > play.eval_limit:
        step = len(tasks) / play.eval_limit
        tasks = [tasks[int(i * step)] for i in range(play.eval_limit)]
    return tasks


def evaluate_stage(
    stage: str,
    model: Any,
    tokenizer: Any,
    tasks: Sequence[Task],
    policy: PolicyArguments,
    play: TaskArguments,
) -> None:
    """Let a stage's policy play the test tasks greedily and record the episodes."""
    sampling = SamplingConfig(
        temperature=0.0,
        max_turn_tokens=policy.max_turn_tokens,
        max_episode_tokens=policy.max_episode_tokens,
        max_length=policy.max_length_tokens,
    )
    player = LanguagePlayer(model, tokenizer, sampling, name=stage)
    on_cpu = next(model.parameters()).device.type == "cpu"
    played = rollout(
        player,
        tasks,
        max_turns=play.max_turns,
        workers=policy.threads if on_cpu else 1,
        servers=play.servers or None,
        progress=True,
    )
    episodes = [trajectory.episode for trajectory in played]
    solved = sum(episode.success for episode in episodes)
    sys.stdout.write(f"{stage}: {solved} of {len(episodes)} test tasks solved\n")
    record_stage(Path(play.run_dir), stage, episodes)


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the adapter and the untouched tokenizer."""
    # Said outright, or peft asks the hub whether the vocabulary was changed.
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    tokenizer.save_pretrained(folder)


def save_traces(traces: Sequence[Row], folder: Path) -> None:
    """Write the traces as canonical rows, one a line."""
    lines = [json.dumps(trace, ensure_ascii=False) for trace in traces]
    (folder / "traces.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = read_flags(
        (PolicyArguments, TaskArguments, WarmStartArguments, SFTConfig),
        default_config="starter-sft.yaml",
        program="sft.train",
        description=DESCRIPTION,
    )
    sys.exit(run(main, given))
